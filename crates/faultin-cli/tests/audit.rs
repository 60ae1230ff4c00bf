//! `faultin audit`, as people run it.

mod common;

use std::process::Output;

fn audit(arguments: &[&str]) -> Output {
    let mut command = common::faultin();
    command.arg("audit").args(arguments).env_remove("COLUMNS");
    command.output().unwrap()
}

fn text(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn the_whole_table_succeeds_and_is_plain_when_piped() {
    let output = audit(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(!text(&output).contains('\x1b'));
    for word in ["restore_fpregs_from_user", "∞", "loops for ever", "not yet", "16 of 20 callers not yet"] {
        assert!(text(&output).contains(word), "{word} in\n{}", text(&output));
    }
}

#[test]
fn json_is_all_there_is_and_parses() {
    let output = audit(&["--json", "restore_fpregs_from_user", "--scenario", "second-page-bad"]);
    assert_eq!(output.status.code(), Some(0));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 2);
    if json["rows"][0]["ok"] == true {
        assert_eq!(json["rows"][0]["actual"], "∞");
    }
}

#[test]
fn numbers_names_and_variants_select() {
    let output = audit(&["--json", "14", "kvm_use_magic_page", "1", "--scenario", "cold", "--variant", "fixed"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows: Vec<_> = json["rows"].as_array().unwrap().iter().map(|row| (&row["row"], &row["variant"])).collect();
    assert_eq!(format!("{rows:?}"), r#"[(Number(1), String("fixed")), (Number(14), String("fixed"))]"#);
}

#[test]
fn what_there_is_not_is_an_error_that_names_what_there_is() {
    for (arguments, there_is) in [
        (&["no_such_caller"][..], "copy_fpstate_to_sigframe"),
        (&["21"], "search_ioctl"),
        (&["--scenario", "warm"], "second-page-bad"),
        (&["--variant", "broken"], "as-found"),
    ] {
        let output = audit(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(error.contains(there_is) && output.stdout.is_empty(), "{arguments:?}: {error}");
    }
}

#[test]
fn list_names_every_caller_and_every_scenario() {
    let output = audit(&["--list"]);
    assert_eq!(output.status.code(), Some(0));
    for word in ["kvm_use_magic_page", "gfs2 direct write", "caller from 5.14", "remapping-thread", "UFFDIO_POISON"] {
        assert!(text(&output).contains(word), "{word}");
    }
}

#[test]
fn trace_prints_the_steps() {
    let output = audit(&["6", "--scenario", "second", "--variant", "fixed", "--trace"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).contains("100 bytes, then protection fault at +100"), "{}", text(&output));
}
