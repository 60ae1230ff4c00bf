//! `faultin-audit explore` from the command line.

mod common;

fn explore(args: &[&str]) -> (Option<i32>, String, String) {
    let output = common::faultin_audit().arg("explore").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_fixed_variant_violates_nothing_and_the_other_shows_its_loop() {
    let (code, out, err) = explore(&["restore_fpregs_from_user", "--actions", "1"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let (found, fixed) = out.split_once(", fixed: ").unwrap();
    for text in ["5 restore_fpregs_from_user (x86), as-found: ", "∞: a state was repeated", "from the beginning: "] {
        assert!(found.contains(text), "{text} in\n{out}");
    }
    assert!(!fixed.contains("∞") && fixed.contains("\nall: "), "{out}");
}

#[test]
fn a_search_that_is_given_up_says_so_and_fails() {
    let (code, out, _) = explore(&["6", "--variant", "fixed", "--states", "10"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("GIVEN UP, more states would be needed"), "{out}");
}

#[test]
fn what_there_is_not_is_refused() {
    for (args, words) in [
        (&["21"][..], "no such caller; there are 1 to 20"),
        (&["--faults", "9"], "9 is not in 0..=4"),
        (&["--states", "0"], "0 is not in 1..="),
    ] {
        let (code, _, err) = explore(args);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(words), "{words} in\n{err}");
    }
}
