//! Files are concatenated while they are truncated.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use faultin_test::processes;

use crate::example;

fn gather(out: &Path, files: &[&Path]) -> std::process::Output {
    processes::run(example::built("gather")).arg(out).args(files).output().expect("it runs")
}

#[test]
fn gather_puts_files_together() {
    let folder = tempfile::tempdir().unwrap();
    let [out, one, two, none] = ["out", "one", "two", "none"].map(|name| folder.path().join(name));
    let made_up = Path::new("/proc/version");
    let page = faultin::page_size();
    let contents: Vec<u8> = (0..3 * page + 17).map(|at| (at % 251) as u8).collect();
    fs::write(&one, &contents).unwrap();
    fs::write(&two, b"and this").unwrap();
    let output = gather(&out, &[&one, &two]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        fs::read(&out).unwrap(),
        [&contents[..], b"and this"].concat(),
        "to the byte, and not to the end of a page"
    );
    // A missing file is reported, and the rest is done.
    let output = gather(&out, &[&none, &two]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("none: No such file"), "{said}");
    assert_eq!(fs::read(&out).unwrap(), [&contents[..], b"and this", b"and this"].concat());
    // A source without a size is read as a stream.
    let before = fs::read(&out).unwrap();
    assert!(gather(&out, &[made_up]).status.success());
    assert_eq!(fs::read(&out).unwrap(), [before, fs::read(made_up).unwrap()].concat());
}

struct StopWhenDropped<'a>(&'a AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn gather_survives_a_file_that_is_cut_and_counts_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let page = faultin::page_size();
    let contents: Vec<u8> = (0..2048 * page).map(|at| (at / 3 % 251) as u8 + 1).collect();
    // Before the other thread keeps a processor busy.
    example::built("gather");
    let stop = AtomicBool::new(false);
    let mut cut = 0;
    std::thread::scope(|scope| {
        fs::write(&source, &contents).unwrap();
        scope.spawn(|| {
            let file = fs::OpenOptions::new().write(true).open(&source).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.set_len(page as u64).unwrap();
                std::thread::yield_now();
                std::os::unix::fs::FileExt::write_all_at(&file, &contents, 0).unwrap();
            }
        });
        // Also if an assertion below fails.
        let _stop = StopWhenDropped(&stop);
        // Ten rounds, and more on a busy machine, until one is cut.
        for round in 0..500 {
            if round >= 10 && cut > 0 {
                break;
            }
            let out = folder.path().join(format!("out{round}"));
            let output = gather(&out, &[&source]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.signal(), None, "{said}");
            let gathered = fs::read(&out).unwrap();
            // The file has no zeros, and never had any.
            assert!(contents.starts_with(&gathered), "{} bytes", gathered.len());
            if output.status.success() {
                assert_eq!(said, "", "success, and a complaint");
            } else {
                assert!(said.contains(&format!("{} bytes, then: ", gathered.len())), "{said}");
                cut += 1;
            }
            fs::remove_file(&out).unwrap();
        }
    });
    assert!(cut > 0, "never cut while it was read");
}
