//! The examples, as programs: each has something happen to its memory, and goes on.

#[allow(dead_code)]
mod processes;

use std::path::Path;

/// What an example prints. Cargo builds them beside the tests' folder.
fn said(example: &str) -> String {
    let test = std::env::current_exe().expect("a path");
    let target = test.parent().and_then(Path::parent).expect("target/debug");
    let output = processes::run(target.join("examples").join(example))
        .output()
        .expect("it is there after cargo build --examples");
    assert!(output.status.success(), "{example}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn grep_finds_a_line_and_is_told_that_the_log_was_rotated() {
    let said = said("grep");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "12: an error");
    assert!(lines[1].ends_with("the file was cut from 210000 to 8 bytes") && lines.len() == 2, "{said}");
}

#[test]
fn a_truncated_mapping_is_short() {
    assert!(said("truncated").contains("bytes: load failed: backing"));
}

#[test]
fn the_server_outlives_its_clients() {
    // Its clients are processes it starts itself.
    if cfg!(not(target_arch = "x86_64")) || cfg!(faultin_syscall) {
        return processes::skipped("starting processes of this target");
    }
    let said = said("shared_server");
    assert_eq!(said.matches("honest: 8388608").count(), 2, "{said}");
    assert!(said.contains("liar: no sum: mapped file: at byte 0: beyond the end: the map has 8388608 bytes"), "{said}");
    assert!(said.contains("gone: no sum: No such file or directory"), "{said}");
    // Cut before it was mapped or while it was read; or served before it got round to it.
    let shrinking = said.lines().find(|line| line.starts_with("shrinking: ")).expect("it was served");
    let known = ["load failed: backing", "the map has 5000 bytes", "shrinking: 8388608"];
    assert!(known.iter().any(|known| shrinking.contains(known)), "{said}");
    assert!(said.ends_with("still here\n"), "{said}");
}
