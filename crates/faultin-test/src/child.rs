//! Children of tests: the same binary again, with the name of one test.

use std::process::ExitStatus;

/// Asserts that a child has run its test: a name that matches no test selects none, and the child succeeds. `stdout` is the
/// child's output: a child that succeeds reports one passed test, and one that dies has reported its start.
///
/// # Panics
/// If it has run none, or several.
#[track_caller]
pub fn assert_ran(status: ExitStatus, stdout: &str) {
    let says = if status.success() { "test result: ok. 1 passed;" } else { "running 1 test\n" };
    assert!(stdout.contains(says), "the child has not run the test of this name: {status}\n{stdout}");
}

#[cfg(test)]
mod tests {
    use std::process::Output;

    use super::*;

    fn child(test: &str) -> Output {
        let exe = std::env::current_exe().expect("a path");
        let child = crate::processes::run(exe).args(["--exact", test]).env("FAULTIN_TEST_CHILD", "1").output();
        child.expect("this binary runs again")
    }

    fn check(test: &str) {
        let output = child(test);
        assert_ran(output.status, &String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    fn fails_in_a_child() {
        assert!(std::env::var_os("FAULTIN_TEST_CHILD").is_none(), "as it is to");
    }

    #[test]
    fn passes() {}

    #[test]
    fn a_test_that_ran_is_known() {
        check("child::tests::passes");
        assert!(!child("child::tests::fails_in_a_child").status.success());
        check("child::tests::fails_in_a_child");
    }

    #[test]
    #[should_panic(expected = "the child has not run the test")]
    fn a_name_that_no_test_has_is_an_error() {
        assert!(child("child::tests::passes_not").status.success());
        check("child::tests::passes_not");
    }
}
