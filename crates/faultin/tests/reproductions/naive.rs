//! The original programs: over a plain mapping.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use crate::file::{Place, text};
use faultin_test::processes;

/// The file to read, in the process that dies.
const FILE: &str = "FAULTIN_TEST_NAIVE_FILE";

/// Runs `naive` on a plain mapping in another process, and checks that it dies of `SIGBUS`. `test` is the name of the test
/// that calls this first: the other process runs it as well, up to this call.
pub fn dies(test: &str, naive: fn(&[u8], &Path)) {
    if let Some(path) = std::env::var_os(FILE).map(PathBuf::from) {
        no_core_dump();
        naive(plain_mapping(&path), &path);
        println!("{test}: it is alive");
        std::process::exit(0);
    }
    let place = Place::new();
    let exe = std::env::current_exe().expect("the path of this test");
    let mut victim = processes::run(exe);
    let output = victim.args(["--exact", test, "--nocapture"]).env(FILE, place.file(&text())).output();
    let output = output.expect("run this test again");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{test}: {:?}\n{said}", output.status);
    assert!(said.contains("running 1 test") && !said.contains("alive"), "{test} is not its name\n{said}");
}

/// The file's bytes, as other mapping crates provide them. Stays mapped.
fn plain_mapping(path: &Path) -> &'static [u8] {
    let file = File::open(path).expect("open");
    let len = file.metadata().expect("metadata").len() as usize;
    // SAFETY: a new mapping.
    let base =
        unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    assert_ne!(base, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    // SAFETY: mapped, and never unmapped. That its bytes may change is the bug to be shown; the process dies of it.
    unsafe { std::slice::from_raw_parts(base.cast(), len) }
}

fn no_core_dump() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: sets a limit of this process, which is about to die.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
}
