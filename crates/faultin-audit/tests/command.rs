//! `faultin-audit` from the command line.

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

fn audit(arguments: &[&str]) -> Output {
    let mut command = common::faultin_audit();
    command.args(arguments).env_remove("COLUMNS");
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
    assert!(text(&output).lines().all(|line| line.chars().count() <= 200), "{}", text(&output));
    // The legend comes before the signs; the conclusion comes last.
    let place = |words: &str| text(&output).find(words).unwrap_or_else(|| panic!("{words} in\n{}", text(&output)));
    assert!(place("a state repeated with nothing happening between") < place("kvm_use_magic_page"));
    assert!(place("executed cells as expected") < place("If you write such a loop"));
    for word in ["restore_fpregs_from_user", "∞", "loops for ever", "--scenario second-page-bad --trace"] {
        assert!(text(&output).contains(word), "{word} in\n{}", text(&output));
    }
}

#[test]
fn json_is_all_there_is_and_parses() {
    let output = audit(&["--json", "restore_fpregs_from_user", "--scenario", "second-page-bad"]);
    assert_eq!(output.status.code(), Some(0));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = json["rows"].as_array().unwrap();
    let cells: Vec<_> = rows.iter().map(|row| (row["variant"].as_str(), row["memory"].as_str())).collect();
    let [found, fixed] = [Some("as-found"), Some("fixed")];
    assert_eq!(cells, [(found, Some("host")), (found, Some("sim")), (fixed, Some("host")), (fixed, Some("sim"))]);
    assert_eq!((&rows[1]["actual"], &rows[1]["ok"]), (&"∞".into(), &true.into()));
}

#[test]
fn numbers_names_and_variants_select() {
    let part = ["--scenario", "cold", "--variant", "fixed", "--memory", "sim"];
    let output = audit(&[&["--json", "14", "kvm_use_magic_page", "1"][..], &part].concat());
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

#[test]
fn the_deadlock_is_shown_on_demand_with_who_waits_for_which_lock() {
    for (scenario, waits) in [("same-pages", 1), ("two-files", 2)] {
        let output = audit(&["17", "--scenario", scenario, "--variant", "as-found", "--memory", "host", "--trace"]);
        assert_eq!(output.status.code(), Some(0));
        let steps = text(&output);
        assert_eq!(steps.matches("waits for the inode lock of file").count(), waits, "{steps}");
        assert!(steps.contains("page fault of the copy, served with the lock held: deadlock fault"), "{steps}");
        assert!(steps.contains("(livelocks: 0, deadlocks: 1)"), "{steps}");
    }
}

const ONE: [&str; 5] = ["6", "--scenario", "second-page-bad", "--memory", "sim"];

#[test]
fn the_page_is_a_file_written_at_once_that_keeps_its_mode_or_standard_output() {
    let directory = tempfile::tempdir().unwrap();
    let (page, link) = (directory.path().join("page.html"), directory.path().join("link.html"));
    fs::write(&page, "before").unwrap();
    fs::set_permissions(&page, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&page, &link).unwrap();
    let mut kept = fs::File::open(&page).unwrap();

    let output = audit(&[&ONE[..], &["--html", link.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output).contains("2 of 2 executed cells as expected"), "{}", text(&output));
    let written = fs::read_to_string(&page).unwrap();
    assert!(written.starts_with("<!DOCTYPE html>") && written.ends_with("</html>"), "{written}");
    assert_eq!(fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let mut before = String::new();
    kept.read_to_string(&mut before).unwrap();
    assert_eq!(before, "before", "whoever reads the old one reads it to the end");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left behind");

    let output = audit(&[&ONE[..], &["--html", "-"]].concat());
    assert!(text(&output).ends_with("</html>") && !output.stderr.is_empty());
    // A pipe is written to, not replaced.
    let output = audit(&[&ONE[..], &["--html", "/dev/stdout"]].concat());
    assert!(text(&output).contains("</html>"), "{}", text(&output));
}

#[test]
fn a_file_that_cannot_be_written_or_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().to_str().unwrap();
    let none = format!("{directory}/none/page.html");
    for arguments in [
        [&ONE[..], &["--html", directory]].concat(),
        [&ONE[..], &["--html", &none]].concat(),
        vec!["--check", "--markdown", &none],
    ] {
        let file = arguments[arguments.len() - 1];
        let output = audit(&arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(file), "{arguments:?}: {error}");
    }
}

#[test]
fn documents_are_of_everything_and_a_check_needs_one() {
    for arguments in [
        &["--markdown", "x", "5"][..],
        &["--markdown", "x", "--scenario", "cold"],
        &["--markdown", "x", "--variant", "fixed"],
        &["--markdown", "x", "--memory", "sim"],
        &["--markdown", "x", "--json"],
        &["--html", "x", "--trace"],
        &["--check"],
        &["--check", "--markdown", "-"],
        &["--html", "-", "--markdown", "-"],
    ] {
        let output = audit(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_check_finds_what_changed_and_says_how_to_write_it() {
    let directory = tempfile::tempdir().unwrap();
    let document = directory.path().join("audit.md");
    let files = ["--markdown", document.to_str().unwrap()];
    let check = [&["--check"][..], &files].concat();
    // If the audit finds something, so does its caller.
    let audited = audit(&files).status.code();
    assert!(matches!(audited, Some(0 | 1)), "{audited:?}");
    let output = audit(&check);
    assert_eq!(output.status.code(), audited, "{}", text(&output));
    assert!(!text(&output).contains("is not what a run gives now"), "{}", text(&output));

    let written = fs::read_to_string(&document).unwrap();
    // In the results, and in the summary.
    for (was, is) in [("**∞** |", "SIGSEGV |"), ("| ALL |", "| ANY |")] {
        assert!(written.contains(was), "{written}");
        fs::write(&document, written.replacen(was, is, 1)).unwrap();
        let output = audit(&check);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        for words in [files[1], was, "\n-", "\n+", "cargo run --release -p faultin-audit -- --markdown"] {
            assert!(text(&output).contains(words), "{words} in\n{}", text(&output));
        }
        assert!(fs::read_to_string(&document).unwrap().contains(is), "only compared");
    }
}
