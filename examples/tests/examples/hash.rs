//! The README's first example is the program of that name, and does what the README says.

use faultin_test::processes;

use crate::example;

const README: &str = include_str!("../../../README.md");
const HASH: &str = include_str!("../../hash.rs");

#[test]
fn readme_shows_the_hash_tool_as_it_is() {
    let start = HASH.find("use faultin").expect("the example begins with what it uses");
    let end = HASH.find("\nfn main").expect("its main function follows");
    let ours = HASH[start..end].trim();
    assert!(README.contains(ours), "the README does not have this:\n{ours}");
}

fn hash_tool() -> std::process::Command {
    processes::run(example::built("hash"))
}

#[test]
fn hash_tool_reads_a_file_of_the_kernels_as_a_stream() {
    for path in ["/proc/version", "/sys/devices/system/cpu/online"] {
        let contents = std::fs::read(path).expect("it can be read");
        let output = hash_tool().arg(path).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!((output.status.code(), &*said), (Some(0), &*format!("{}  {path}\n", blake3::hash(&contents))));
    }
}

#[test]
fn hash_tool_survives_a_file_that_is_cut() {
    let output = hash_tool().output().expect("it runs");
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        // All of the file was hashed before the truncation or after it.
        let is_of = |len| said.starts_with(&format!("{}  ", blake3::hash(&vec![7; len]))) && said.ends_with("data\n");
        assert!(is_of(256 << 20) || is_of(5000), "{said}");
    } else {
        assert_eq!((output.status.code(), &*said), (Some(1), ""), "{:?}: {complaint}", output.status);
        assert!(complaint.contains("the file was truncated from 268435456 to 5000 bytes"), "{complaint}");
    }
}
