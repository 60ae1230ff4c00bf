//! `faultin sum` as users run it: b3sum's output, and files that change.

mod common;

use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

fn sum(directory: &TempDir, args: &[&str]) -> Output {
    common::faultin().arg("sum").args(args).current_dir(directory.path()).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn said(output: &Output) -> (Option<i32>, &str, &str) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn every_size_has_the_checksum_that_blake3_says() {
    let directory = TempDir::new().unwrap();
    const PIECE: usize = 256 << 10;
    let sizes =
        [0, 1, 1023, 1024, 1025, 4096, 65_537, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 7, 20 * PIECE - 1];
    let names: Vec<String> = sizes.iter().map(|size| format!("f{size}")).collect();
    let mut expected = String::new();
    for (size, name) in sizes.into_iter().zip(&names) {
        fs::write(directory.path().join(name), bytes(size)).unwrap();
        expected += &format!("{}  {name}\n", blake3::hash(&bytes(size)));
    }
    for threads in ["1", "2", "7"] {
        let mut args = vec!["--num-threads", threads];
        args.extend(names.iter().map(String::as_str));
        assert_eq!(said(&sum(&directory, &args)), (Some(0), expected.as_str(), ""));
    }
}

#[test]
fn files_whose_size_says_nothing_are_read_as_streams() {
    let directory = TempDir::new().unwrap();
    // The first reports a size of one page, the others of zero.
    for path in ["/sys/devices/system/cpu/online", "/proc/version", "/proc/sys/kernel/ostype"] {
        let line = format!("{}  {path}\n", blake3::hash(&fs::read(path).unwrap()));
        assert_eq!(said(&sum(&directory, &[path])), (Some(0), &*line, ""));
    }
}

#[test]
fn lists_are_written_and_checked_in_every_style() {
    let directory = TempDir::new().unwrap();
    for name in ["plain", "with space", "back\\slash", "two\nlines"] {
        fs::write(directory.path().join(name), name).unwrap();
    }
    for style in [&[][..], &["--tag"]] {
        let names = ["plain", "with space", "back\\slash", "two\nlines"];
        let list = sum(&directory, &[style, &names[..]].concat());
        assert_eq!(list.status.code(), Some(0));
        fs::write(directory.path().join("list"), &list.stdout).unwrap();
        let checked = sum(&directory, &["--check", "list"]);
        assert_eq!(
            said(&checked),
            (Some(0), "plain: OK\nwith space: OK\n\\back\\\\slash: OK\n\\two\\nlines: OK\n", "")
        );
        assert_eq!(said(&sum(&directory, &["--check", "--quiet", "list"])), (Some(0), "", ""));
    }
    fs::write(directory.path().join("plain"), "other").unwrap();
    fs::remove_file(directory.path().join("with space")).unwrap();
    let checked = sum(&directory, &["--check", "--quiet", "list"]);
    let (code, out, err) = said(&checked);
    assert_eq!(code, Some(1));
    assert!(out.starts_with("plain: FAILED\nwith space: FAILED (No such file or directory"), "{out}");
    assert!(err.contains("2 of the files"), "{err}");
}

#[test]
fn a_list_that_cannot_be_read_is_an_error_for_its_line_and_the_others_go_on() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("a"), "").unwrap();
    let good = format!("{}  a\n", blake3::hash(b""));
    fs::write(directory.path().join("list"), format!("nonsense\n{good}\n{good}")).unwrap();
    let checked = sum(&directory, &["-c", "list", "missing"]);
    let (code, out, err) = said(&checked);
    assert_eq!((code, out), (Some(1), "a: OK\na: OK\n"));
    for words in ["list: line 1 is no checksum", "list: line 3 is no checksum", "missing: No such file"] {
        assert!(err.contains(words), "{words} in\n{err}");
    }
}

#[test]
fn standard_input_pipes_and_files_that_claim_to_be_empty_are_read_as_they_come() {
    let directory = TempDir::new().unwrap();
    let mut child = common::faultin()
        .args(["sum", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .current_dir(directory.path())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes(3_000_000)).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(said(&output), (Some(0), format!("{}  -\n", blake3::hash(&bytes(3_000_000))).as_str(), ""));
    let version = fs::read("/proc/version").unwrap();
    let output = sum(&directory, &["--no-names", "/proc/version"]);
    assert_eq!(said(&output), (Some(0), format!("{}\n", blake3::hash(&version)).as_str(), ""));
}

/// A file behind standard input is watched if each change has to be an error, and is read from where it stands.
#[test]
fn standard_input_that_is_a_file_is_hashed_from_its_position() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("f");
    fs::write(&path, bytes(700_000)).unwrap();
    for args in [&["sum", "-"][..], &["sum", "--strict", "-"]] {
        let mut file = File::open(&path).unwrap();
        file.seek(SeekFrom::Start(5_001)).unwrap();
        let output = common::faultin().args(args).stdin(file).output().unwrap();
        assert_eq!(said(&output), (Some(0), format!("{}  -\n", blake3::hash(&bytes(700_000)[5_001..])).as_str(), ""));
    }
}

#[test]
fn what_cannot_be_read_is_an_error_for_it_alone() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("a"), "a").unwrap();
    fs::create_dir(directory.path().join("folder")).unwrap();
    let output = sum(&directory, &["missing", "folder", "a"]);
    let (code, out, err) = said(&output);
    assert_eq!((code, out), (Some(1), format!("{}  a\n", blake3::hash(b"a")).as_str()));
    assert!(err.contains("missing: No such file") && err.contains("folder: Is a directory"), "{err}");
}

#[test]
fn lengths_and_raw_bytes() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("a"), bytes(700_000)).unwrap();
    let mut long = [0; 100];
    blake3::Hasher::new().update(&bytes(700_000)).finalize_xof().fill(&mut long);
    assert_eq!(sum(&directory, &["--raw", "-l", "100", "a"]).stdout, long);
    let hex: String = long[..5].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(said(&sum(&directory, &["-l", "5", "a"])), (Some(0), format!("{hex}  a\n").as_str(), ""));
    for (args, words) in [
        (&["--raw", "a", "a"][..], "--raw prints the checksum of one file, and 2 were given"),
        (&["--length", "0", "a"], "0 is not in 1.."),
        (&["--quiet", "a"], "--check"),
    ] {
        let output = sum(&directory, args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
    }
}

/// Changes a file repeatedly while `faultin sum` hashes it. The change's argument is a counter.
fn meanwhile(directory: &TempDir, args: &[&str], mut deed: impl FnMut(usize)) -> Output {
    let mut child = common::faultin()
        .arg("sum")
        .args(args)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut count = 0;
    while child.try_wait().unwrap().is_none() {
        deed(count);
        count += 1;
    }
    assert!(count > 1, "it ended before anything was done to its file");
    child.wait_with_output().unwrap()
}

#[test]
fn attributes_and_links_that_change_while_a_file_is_hashed_are_errors_only_if_it_is_strict() {
    let directory = TempDir::new().unwrap();
    let (path, contents) = (directory.path().join("f"), bytes(24 << 20));
    fs::write(&path, &contents).unwrap();
    let whole = format!("{}  f\n", blake3::hash(&contents));
    let chmod = |count: usize| {
        fs::set_permissions(&path, Permissions::from_mode(if count.is_multiple_of(2) { 0o640 } else { 0o600 }))
            .unwrap();
    };
    let link = |_: usize| {
        let link = directory.path().join("link");
        fs::hard_link(&path, &link).unwrap();
        fs::remove_file(link).unwrap();
    };
    for _ in 0..5 {
        assert_eq!(said(&meanwhile(&directory, &["f"], chmod)), (Some(0), &*whole, ""));
        assert_eq!(said(&meanwhile(&directory, &["f"], link)), (Some(0), &*whole, ""));
    }
    let strict = meanwhile(&directory, &["--strict", "f"], chmod);
    let (code, out, err) = said(&strict);
    assert_eq!((code, out), (Some(1), ""));
    assert!(err.contains("the file's attributes or data were changed"), "{err}");
    assert_eq!(said(&sum(&directory, &["--strict", "f"])), (Some(0), &*whole, ""));
    // `--check` gives the same result.
    fs::write(directory.path().join("list"), &whole).unwrap();
    assert_eq!(said(&meanwhile(&directory, &["--check", "list"], link)), (Some(0), "f: OK\n", ""));
    assert_eq!(meanwhile(&directory, &["--check", "--strict", "list"], link).status.code(), Some(1));
}

#[test]
fn a_file_that_is_appended_to_is_hashed_to_where_it_ended_unless_it_is_strict() {
    let directory = TempDir::new().unwrap();
    let (path, contents) = (directory.path().join("f"), bytes(24 << 20));
    for round in 0..6 {
        fs::write(&path, &contents).unwrap();
        let mut log = File::options().append(true).open(&path).unwrap();
        let mut appended = 0;
        let output = meanwhile(&directory, if round == 5 { &["--strict", "f"] } else { &["f"] }, |_| {
            log.write_all(b"a line\n").unwrap();
            appended += 1;
        });
        let (code, out, err) = said(&output);
        if round == 5 {
            assert_eq!((code, out), (Some(1), ""));
            // An append's change time is visible before its size.
            let change =
                ["the file grew from", "rewritten", "attributes or data"].iter().any(|words| err.contains(words));
            assert!(change, "{err}");
            continue;
        }
        assert_eq!((code, err), (Some(0), ""));
        // The file's end at some moment: after a line, or at the end of a page, because the kernel writes, and sets the
        // size, page by page.
        let appended = b"a line\n".repeat(appended);
        let is_end = |at: usize| at.is_multiple_of(7) || (contents.len() + at).is_multiple_of(faultin::page_size());
        let mut prefix = blake3::Hasher::new();
        prefix.update(&contents);
        let found = (0..=appended.len()).any(|at| {
            let is_it = is_end(at) && out == format!("{}  f\n", prefix.finalize());
            prefix.update(&appended[at..(at + 1).min(appended.len())]);
            is_it
        });
        assert!(found, "round {round}: {out}");
    }
}

/// A change of the file by another process during the hash.
type Deed = fn(&Path);

#[test]
fn a_hundred_files_that_change_while_they_are_hashed_are_errors_or_whole_and_no_process_dies() {
    let directory = TempDir::new().unwrap();
    let contents = bytes(24 << 20);
    let whole = format!("{}  f\n", blake3::hash(&contents));
    let path = directory.path().join("f");
    let deeds: [(Deed, &str); 4] = [
        (
            |path| File::options().write(true).open(path).unwrap().set_len(0).unwrap(),
            "truncated from 25165824 to 0 bytes",
        ),
        (|path| File::options().write(true).open(path).unwrap().set_len(5_000_001).unwrap(), "to 5000001 bytes"),
        // After the file was opened, these changes are not errors.
        (|path| fs::remove_file(path).unwrap(), "No such file"),
        (|path| File::options().append(true).open(path).unwrap().write_all(b"more").unwrap(), "no error at all"),
    ];
    fs::write(&path, &contents).unwrap();
    let start = Instant::now();
    assert_eq!(said(&sum(&directory, &["f"])), (Some(0), whole.as_str(), ""));
    let takes = start.elapsed();
    // The file's contents if the change came before it was opened or after it was read.
    let parts = [&[][..], &contents[..5_000_001], &contents, &[&contents[..], b"more"].concat()];
    let after = parts.map(|bytes| format!("{}  f\n", blake3::hash(bytes)));
    let mut met = 0;
    for round in 0..100_u32 {
        let (deed, words) = deeds[round as usize % deeds.len()];
        let _ = fs::remove_file(&path);
        fs::write(&path, &contents).unwrap();
        let child = common::faultin()
            .args(["sum", "f"])
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // At successive moments of the command's run.
        std::thread::sleep(takes.min(Duration::from_millis(400)) * round / 100);
        deed(&path);
        let output = child.wait_with_output().unwrap();
        let (code, out, err) = said(&output);
        match code {
            Some(0) => {
                let right = out == whole || out == after[round as usize % deeds.len()];
                assert!(right && err.is_empty(), "round {round}: {out}{err}");
            }
            Some(1) => {
                met += 1;
                assert_eq!(out, "");
                assert!(err.starts_with("faultin sum: f: "), "{err}");
                // During a truncation, its change time is visible before its size.
                let cut = round as usize % deeds.len() < 2 && (err.contains("rewritten") || err.contains("attributes"));
                assert!(err.contains(words) || cut, "round {round}: {err}");
            }
            _ => panic!("round {round}: {:?} {err}", output.status),
        }
    }
    assert!(met > 0, "nothing ever changed while it was read");
}
