//! `faultin demo` as users run it: each scene kills a plain mapping and not this library's.

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::FromRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

/// A scene's output.
struct Scene {
    title: String,
    /// Bytes after which the plain mapping died of SIGBUS.
    plain: u64,
    /// Bytes after which this library's map returned an error.
    ours: u64,
    error: String,
}

/// The scene of a number, or the reason why it was skipped.
fn scene(out: &str, number: u32) -> Result<Scene, String> {
    let mut blocks = out.split("\n\n");
    let start = |block: &&str| block.starts_with(&format!("{number}. "));
    if let Some(skipped) = out.split("\n\n").find_map(|block| block.strip_prefix(&format!("Scene {number}\n"))) {
        let why = skipped.split_whitespace().collect::<Vec<_>>().join(" ");
        return Err(why.strip_prefix("skipped: ").unwrap_or_else(|| panic!("no reason in\n{out}")).to_owned());
    }
    let title = blocks.find(start).unwrap_or_else(|| panic!("no scene {number} in\n{out}")).lines().next().unwrap();
    let lines: Vec<&str> = blocks.next().unwrap_or_default().lines().map(str::trim).collect();
    let after = |line: usize, start: &str| -> &str {
        let text = lines.get(line).unwrap_or_else(|| panic!("too few lines in\n{out}"));
        text.strip_prefix(start).unwrap_or_else(|| panic!("{start:?} in\n{out}"))
    };
    let number = |text: &str| text.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{text} in\n{out}"));
    let plain = number(after(0, "plain mapping   killed by signal 7 (SIGBUS, \"Bus error\") after "));
    let ours = lines.iter().position(|line| line.starts_with("faultin ")).unwrap_or_else(|| panic!("{out}"));
    let count = after(ours, "faultin         ");
    assert!(count.ends_with(" bytes, then an error, and the process goes on:"), "{out}");
    Ok(Scene { title: title.to_owned(), plain, ours: number(count), error: lines[ours + 1].to_owned() })
}

fn succeeded(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{out}");
    out
}

#[test]
fn what_cannot_be_printed_is_a_failure() {
    if faultin_test::is_emulated() {
        return faultin_test::skipped("native", "the demonstration runs itself again, and dies of SIGBUS");
    }
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = common::faultin().arg("demo").stdout(full).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("No space left on device"), "{error}");
}

#[test]
fn each_scene_kills_the_plain_mapping_and_ours_counts_exactly() {
    if faultin_test::is_emulated() {
        return faultin_test::skipped("native", "the demonstration runs itself again, and dies of SIGBUS");
    }
    let folder = tempfile::tempdir().unwrap();
    let out = succeeded(&common::faultin().arg("demo").env("TMPDIR", folder.path()).output().unwrap());
    assert!(!out.contains('\x1b') && !out.contains('✗'), "{out}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    let page = faultin::page_size() as u64;

    let truncated = scene(&out, 1).unwrap();
    assert!(truncated.title.contains("truncated"), "{out}");
    assert_eq!(truncated.ours, 1_500_000);
    assert!(truncated.error.contains("4194304") && truncated.error.contains("1500000"), "{}", truncated.error);
    // A multiple of a page or a folio: bytes past the end of the file, up to there, are read without a fault.
    assert!(truncated.plain > 1_500_000 && truncated.plain.is_multiple_of(page), "{}", truncated.plain);

    match scene(&out, 2) {
        Err(why) => faultin_test::skipped("mount", why),
        Ok(full) if full.title.contains("Huge pages") => {
            faultin_test::skipped("mount", "the demo took huge pages instead");
            assert_eq!((full.plain, full.ours), (0, 0), "{out}");
        }
        Ok(full) => {
            assert_eq!((full.plain, full.ours), (1 << 20, 1 << 20), "{out}");
            assert!(full.error.contains("no space left"), "{}", full.error);
        }
    }

    let shrinks = scene(&out, 3).unwrap();
    assert!(shrinks.title.contains("shrinks"), "{out}");
    assert_eq!(shrinks.ours, 300_000);
    assert!(shrinks.error.contains("1048576") && shrinks.error.contains("300000"), "{}", shrinks.error);
    assert!(shrinks.plain > 300_000 && shrinks.plain.is_multiple_of(page), "{}", shrinks.plain);
    let next = out.split("Next:").nth(1).unwrap_or_default();
    let (sum, guard) = (next.find("sum FILE"), next.find("guard -- CMD"));
    assert!(sum.is_some() && sum < guard, "the commands to try next: {out}");
}

#[test]
fn huge_pages_that_are_not_there_are_the_device_where_nothing_can_be_mounted() {
    if faultin_test::is_emulated() {
        return faultin_test::skipped("native", "the demonstration runs itself again, and dies of SIGBUS");
    }
    let out = succeeded(&common::faultin().args(["demo", "--device", "huge-pages"]).output().unwrap());
    match scene(&out, 2) {
        Err(why) => faultin_test::skipped("no-huge-pages", why),
        Ok(none) => {
            assert_eq!((none.plain, none.ours), (0, 0), "{out}");
            assert!(none.title.contains("Huge pages") && none.error.contains("backing"), "{out}");
        }
    }
}

/// A system call filter as in containers: neither namespaces nor mounts.
#[test]
fn a_scene_without_means_says_what_is_missing() {
    let mut command = common::faultin();
    command.args(["demo", "--device", "tmpfs"]);
    // SAFETY: calls only async-signal-safe functions between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let refused = [libc::SYS_unshare, libc::SYS_mount];
            match deny(refused) {
                true => Ok(()),
                false => Err(std::io::Error::last_os_error()),
            }
        })
    };
    let output = match command.output() {
        Ok(output) => output,
        Err(why) => return faultin_test::skipped("seccomp", why),
    };
    let out = succeeded(&output);
    match scene(&out, 2) {
        Err(why) => assert!(why.contains("tmpfs in a user namespace") && why.contains("not permitted"), "{why}"),
        // User-mode emulators accept filters and ignore them.
        Ok(_) => faultin_test::skipped("native", "a filter of system calls is not obeyed"),
    }
    assert!(scene(&out, 1).is_ok() && scene(&out, 3).is_ok() && out.contains("2 of 3 scenes"), "{out}");
}

/// Makes these system calls fail with `EPERM` in this process and its children.
fn deny<const N: usize>(calls: [libc::c_long; N]) -> bool {
    let step = |code: u32, k: u32, jump: u8| libc::sock_filter { code: code as u16, jt: 0, jf: jump, k };
    let mut filter = [step(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0); 16];
    // The number of the call is the first field of `struct seccomp_data`.
    filter[0] = step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0);
    for (pair, call) in filter[1..].chunks_exact_mut(2).zip(calls) {
        pair[0] = step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, 1);
        pair[1] = step(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0);
    }
    let program = libc::sock_fprog { len: (2 + 2 * N) as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the filter is valid until the kernel has copied it.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}

#[test]
fn it_needs_no_privileges() {
    if faultin_test::is_emulated() {
        return faultin_test::skipped("native", "the demonstration runs itself again, and dies of SIGBUS");
    }
    // SAFETY: has no conditions.
    if unsafe { libc::geteuid() } != 0 {
        return faultin_test::skipped("root", "all tests run without it here");
    }
    const NOBODY: u32 = 65534;
    // A folder in which any user may run it.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let copy = folder.path().join("faultin");
    fs::copy(env!("CARGO_BIN_EXE_faultin"), &copy).unwrap();
    let mut command = faultin_test::processes::run(&copy);
    command.arg("demo").env("TMPDIR", folder.path()).current_dir("/").uid(NOBODY).gid(NOBODY);
    let out = succeeded(&command.output().unwrap());
    assert!(scene(&out, 1).is_ok() && scene(&out, 3).is_ok(), "{out}");
    if let Err(why) = scene(&out, 2) {
        faultin_test::skipped("mount", format_args!("without root: {why}"));
    }
}

/// The output of a command on a terminal.
fn on_a_terminal(command: &mut Command) -> String {
    let mut name = [0; 128];
    // SAFETY: a new descriptor, and a name with room for it.
    let mut terminal = unsafe {
        let fd = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert!(fd >= 0 && libc::grantpt(fd) == 0 && libc::unlockpt(fd) == 0, "{}", std::io::Error::last_os_error());
        assert_eq!(libc::ptsname_r(fd, name.as_mut_ptr(), name.len()), 0);
        File::from_raw_fd(fd)
    };
    // SAFETY: `ptsname_r` has written a string.
    let name = unsafe { std::ffi::CStr::from_ptr(name.as_ptr()) };
    let end = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut child = command.stdout(end).spawn().unwrap();
    // Only the child has the other end: the terminal hangs up when the child ends.
    command.stdout(std::process::Stdio::null());
    let mut text = Vec::new();
    let _ = terminal.read_to_end(&mut text);
    assert!(child.wait().unwrap().success());
    String::from_utf8(text).unwrap()
}

#[test]
fn it_has_colours_on_a_terminal_unless_asked_for_none() {
    let demo = || {
        let mut command = common::faultin();
        command.arg("demo").env_remove("NO_COLOR");
        command
    };
    let coloured = on_a_terminal(&mut demo());
    assert!(
        coloured.contains("\x1b[31mkilled by signal 7") && coloured.contains("\x1b[32m1500000 bytes"),
        "{coloured}"
    );
    let plain = on_a_terminal(demo().env("NO_COLOR", "1"));
    assert!(plain.contains("killed by signal 7") && !plain.contains('\x1b'), "{plain}");
}
