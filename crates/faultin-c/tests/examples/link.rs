//! `link.c`: a full disk is a message, and no half of a file.

use std::process::Output;

use faultin_test::skipped;

use crate::kit::{Kit, kit, text};

/// Writes a file on a tmpfs, then a longer one, for which the tmpfs is too small; lists what is there afterwards.
const SCRIPT: &str = r#"
mount -t tmpfs -o size=256k none "$2" || exit 77
head -c 100000 /dev/urandom > "$3" || exit 1
"$1" "$2/out" "$3" || exit 1
before=$(cksum < "$2/out")
"$1" "$2/out" "$3" "$3" "$3"
echo "status $?"
[ "$before" = "$(cksum < "$2/out")" ] && echo "the old file is whole"
ls -A "$2"
"#;

/// Runs the script; `None` after a skip.
fn on_a_full_disk(kit: &Kit, program: &std::path::Path) -> Option<Output> {
    let disk = kit.path("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let mut script = kit.command("unshare");
    script.args(["-Urm", "sh", "-c", SCRIPT, "sh"]).arg(program).arg(disk).arg(kit.path("input"));
    let output = script.output().ok().filter(|output| text(&output.stdout).contains("status "));
    if output.is_none() {
        skipped("mount", "unshare -Urm, and a tmpfs in it");
    }
    output
}

#[test]
fn a_full_disk_is_a_message_and_no_half_of_a_file() {
    let Some(kit) = kit() else { return };
    let [ours, naive] = kit.twins("link");
    let Some(output) = on_a_full_disk(&kit, &ours) else { return };
    assert_eq!(text(&output.stdout), "status 1\nthe old file is whole\nout\n", "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("link: store failed after ") && said.contains(": no space left"), "{said}");
    assert!(said.ends_with("/disk/out: No space left on device; nothing was written\n"), "{said}");

    let Some(output) = on_a_full_disk(&kit, &naive) else { return };
    let died = format!("status {}\nthe old file is whole\nout\nout.", 128 + libc::SIGBUS);
    assert!(text(&output.stdout).starts_with(&died), "{}{}", text(&output.stdout), text(&output.stderr));
}
