//! The examples that survive something do survive it, and print what they should.

use faultin_test::processes;

use crate::example;

/// Returns the output of an example that succeeds.
fn printed(name: &str) -> String {
    let output = processes::run(example::built(name)).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{name}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn the_shared_server_survives_its_clients() {
    let text = printed("shared_server");
    let mut lines = text.lines();
    for (client, outcomes) in [
        ("honest", &["drew 4096000 bytes; 0 requests failed"][..]),
        ("sealed", &["drew 4096000 bytes; 0 requests failed"]),
        ("shrinks", &["sent away: mapped file: the file was truncated from 1048576 to 0 bytes"]),
        ("short", &["sent away: mapped file: at byte 2097152: beyond the end: the map has 1048576 bytes"]),
        (
            "lies",
            &["a request failed: it asks for 4294967295 bytes at once", "drew 2048000 bytes; 500 requests failed"],
        ),
        ("tail", &["sent away: the peer's tail 5000 is 4991 entries ahead of head 9, in a ring of 64"]),
        (
            "flickers",
            &[
                "a request failed: mapped file: the file was truncated from 1048576 to 4096 bytes",
                // Every third of 1000, except for two in the first page, which stays.
                "drew 2740224 bytes; 331 requests failed",
            ],
        ),
        ("dies", &["drew 2048000 bytes; 0 requests failed"]),
    ] {
        assert_eq!(lines.next(), Some(&*format!("client {client:?}")), "{text}");
        for outcome in outcomes {
            assert_eq!(lines.next().map(str::trim), Some(*outcome), "{text}");
        }
    }
    let last = lines.next().expect("a last line");
    assert!(last.starts_with("served 8 clients, still alive; "), "{text}");
    assert_eq!(lines.next(), None, "{text}");
}

#[test]
fn a_truncated_file_is_two_short_reads() {
    let text = printed("truncated");
    let page = faultin::page_size();
    assert!(text.starts_with(&format!("{page} of {} bytes: ", 3 * page)), "{text}");
    assert!(text.contains("PastEnd") && text.contains("one word: Err(Backing)"), "{text}");
}

#[test]
fn grep_finds_a_line_and_is_told_that_the_log_was_rotated() {
    let text = printed("grep");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "12: an error");
    assert!(lines[1].ends_with("the file was truncated from 210000 to 8 bytes") && lines.len() == 2, "{text}");
}

#[test]
fn grep_reads_a_file_of_the_kernels_as_a_stream() {
    let output =
        processes::run(example::built("grep")).args(["Linux", "/proc/sys/kernel/ostype"]).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!((output.status.code(), &*text), (Some(0), "0: Linux\n"));
}
