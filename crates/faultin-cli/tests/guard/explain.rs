//! The default: the program dies as it would, and a line says why.

use faultin_test::skipped;

use super::stage::{Done, Stage, report};

#[test]
fn a_full_device_is_named() {
    let Some(stage) = Stage::new() else { return };
    let (plain, guarded) = stage.both("exec GUARD $P/writer $M/f 4000000 1", "");
    plain.ends(135);
    let at = format!("byte 1048576 of {}/f", stage.folder().display());
    let place = format!("no space left on {} (tmpfs of 1 MiB, 0 bytes free)", stage.folder().display());
    guarded.ends(135).says(&["writer[", "]: store at", &at, &place]).says(&["hint: ", "--wait-space"]).prints("");
    assert!(!guarded.stderr.contains('\x1b'), "colours in a pipe: {guarded:#?}");
}

#[test]
fn threads_that_die_of_the_same_are_one_line_and_a_count() {
    let Some(stage) = Stage::new() else { return };
    let (plain, guarded) = stage.both("exec GUARD $P/writer $M/f 4000000 16", "");
    plain.ends(135);
    guarded.ends(135).says(&["no space left"]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    stage.run(&format!("exec $G --report {} -- $P/writer $M/f 4000000 16", file.path().display())).ends(135);
    let events = report(file.path());
    assert!(events.iter().filter(|event| event["cause"] == "no-space").count() >= 1, "{events:#?}");
}

#[test]
fn a_truncated_file_says_what_it_was() {
    let Some(stage) = Stage::new() else { return };
    let script = "head -c 300000 /dev/zero >$M/g; exec GUARD $P/reader $M/g 5";
    let (plain, guarded) = stage.both(script, "");
    plain.ends(135);
    guarded.ends(135).says(&[
        "reader[",
        "load at byte 4096 of",
        "/g: ",
        "past the end of the file: it has 5 bytes (mapped up to byte 303104, changed ",
    ]);
    guarded.says(&["hint: ", "rename", "--zero"]);
}

#[test]
fn a_file_that_was_never_longer_is_not_called_truncated() {
    let Some(stage) = Stage::new() else { return };
    let (plain, guarded) = stage.both("exec GUARD $P/hostile short $M/f", "");
    plain.ends(135);
    guarded
        .ends(135)
        .says(&["store at byte 0 of", "/f: past the end of the file: it has 0 bytes (mapped up to byte 32768"]);
    assert!(guarded.lines("which was truncated").is_empty(), "{guarded:#?}");
    guarded.says(&["hint: ", "`ftruncate`"]);
    assert!(guarded.lines("--zero").is_empty(), "a store is never zeros: {guarded:#?}");
}

#[test]
fn a_name_may_end_as_a_removed_one() {
    let Some(stage) = Stage::new() else { return };
    let file = tempfile::NamedTempFile::new().expect("a file");
    let script = format!(
        "head -c 300000 /dev/zero >\"$M/g (deleted)\"; exec $G --report {} -- $P/reader \"$M/g (deleted)\" 5",
        file.path().display()
    );
    stage.run(&script).ends(135);
    let faults = report(file.path());
    assert_eq!(faults[0]["file"]["deleted"], false, "{faults:#?}");
    assert!(faults[0]["file"]["path"].as_str().is_some_and(|path| path.ends_with("/g (deleted)")), "{faults:#?}");
}

#[test]
fn who_has_a_truncated_file_open_is_named() {
    let Some(stage) = Stage::new() else { return };
    // The search ends soon after the last program does. A slow machine gets time for it.
    let script = "head -c 300000 /dev/zero >$M/g; exec 3>>$M/g; \
        GUARD sh -c '$P/reader $M/g 5 3>&-; code=$?; sleep ${FAULTIN_PATIENCE:-0}; exit $code'";
    let (plain, guarded) = stage.both(script, "");
    plain.ends(135);
    guarded.ends(135).says(&["is open for writing in sh["]);
}

#[test]
fn a_program_that_recovers_is_not_talked_about() {
    let Some(stage) = Stage::new() else { return };
    let script = "head -c 300000 /dev/zero >$M/g; exec GUARD $P/reader $M/g 5 handler";
    let (plain, guarded) = stage.both(script, "");
    plain.ends(0).prints("caught");
    guarded.ends(0).prints("caught").is_silent();
}

#[test]
fn a_handler_that_does_not_help_does_not_hide_the_cause() {
    let Some(stage) = Stage::new() else { return };
    let (plain, guarded) = stage.both("exec GUARD $P/writer $M/f 4000000 1 handler", "");
    plain.ends(135);
    guarded.ends(135).says(&["store at byte 1048576", "no space left"]);
    assert!(guarded.stderr.starts_with("handler\n"), "it runs: {guarded:#?}");
}

#[test]
fn files_without_a_name_are_found() {
    let Some(stage) = Stage::new() else { return };
    let (plain, guarded) = stage.both("exec GUARD $P/writer $M/f 4000000 1 unlink", "");
    plain.ends(135);
    guarded.ends(135).says(&["/f (deleted): no space left"]);
}

#[test]
fn statuses_are_the_programs_own() {
    let Some(stage) = Stage::new() else { return };
    for (command, code) in [
        ("true", 0),
        ("false", 1),
        ("sh -c 'exit 77'", 77),
        ("sh -c 'kill -TERM $$'", 143),
        ("sh -c 'kill -KILL $$'", 137),
    ] {
        let (plain, guarded) = stage.both(&format!("exec GUARD {command}"), "");
        plain.ends(code);
        guarded.ends(code).is_silent();
    }
    stage.run("exec $G -- /no/such/program").ends(127).says(&["/no/such/program", "No such file"]);
    stage.run("touch $M/x; exec $G -- $M/x").ends(126).says(&["Permission denied"]);
    stage.run("exec $G").ends(2);
    stage.run("FAULTIN_GUARD=wait exec $G -- true").ends(2).says(&["FAULTIN_GUARD", "\"wait\" is not a policy"]);
    stage.run("exec $G --explain --zero -- true").ends(2);
    stage.run("exec $G --wait-space 5s -- true").ends(127).says(&["\"5s\"", "`--wait-space=5s`"]);
    stage.run("exec $G --retry 7 true").ends(127).says(&["\"7\"", "`--retry=7`"]);
    assert!(stage.run("exec $G --retry 5s").ends(127).lines("`=`").is_empty(), "5s is no number");
    assert!(stage.run("exec $G 5s").ends(127).lines("`=`").is_empty(), "there is no option");
}

#[test]
fn a_core_file_is_the_programs_own() {
    let Some(stage) = Stage::new() else { return };
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.trim() != "core"
        || std::fs::read_to_string("/proc/sys/kernel/core_uses_pid").is_ok_and(|uses| uses.trim() != "0")
    {
        return skipped("core-files", format!("core_pattern is {}", pattern.trim()));
    }
    let script = "mkdir $M/a; mount -t tmpfs -o size=64m t $M/a; cd $M/a; ulimit -c unlimited; GUARD $P/writer $M/f 4000000 1; \
        echo $? $(head -c 4 core | tail -c 3) $(grep -c '[w]riter' core)";
    let (plain, guarded) = stage.both(script, "");
    plain.prints(guarded.stdout.trim_end());
    assert!(guarded.stdout.starts_with("135 ELF"), "{guarded:#?}");
}

#[test]
fn children_are_guarded_and_survivors_are_let_go() {
    let Some(stage) = Stage::new() else { return };
    let (plain, guarded) = stage.both("GUARD sh -c '$P/writer $M/f 4000000 1; echo $?; exit 3'", "");
    plain.ends(3).prints("135");
    guarded.ends(3).prints("135").says(&["writer[", "no space left"]);
    // A program that outlives the command is not waited for, and lives on.
    let script = "GUARD sh -c '(until test -e $M/go; do sleep 0.05; done; echo later >$M/late) & exit 3'; echo $?; \
        test ! -e $M/late && echo early; echo go >$M/go; until test -s $M/late; do sleep 0.05; done; cat $M/late";
    let (plain, guarded) = stage.both(script, "");
    plain.prints("3\nearly\nlater");
    guarded.prints("3\nearly\nlater").is_silent();
}

#[test]
fn programs_may_be_excepted() {
    let Some(stage) = Stage::new() else { return };
    let script = "head -c 300000 /dev/zero >$M/g; $G --except reader --report $M/r -- sh -c '$P/reader $M/g 5; echo $?'; cat $M/r";
    let done = stage.run(script);
    done.ends(0).is_silent();
    assert!(done.stdout.starts_with("135\n") && done.stdout.contains("\"event\":\"excepted\""), "{done:#?}");
}

#[test]
fn a_guard_in_a_guard_says_that_it_is_none() {
    let Some(stage) = Stage::new() else { return };
    let done = stage.run("exec $G -- $G -- $P/writer $M/f 4000000 1");
    done.ends(135).says(&["without a guard", "Operation not permitted"]).says(&["writer[", "no space left"]);
}

#[test]
fn what_is_inherited_is_as_without_a_guard() {
    let Some(stage) = Stage::new() else { return };
    // The C library keeps two signals for itself, 32 and 33.
    let signals = |done: &Done| -> Vec<u64> {
        let words = done.stdout.lines().filter_map(|line| line.split_once(":\t"));
        words.map(|(_, set)| u64::from_str_radix(set, 16).expect("a set") & !(3 << 31)).collect()
    };
    let script = "trap '' USR2 CHLD; exec GUARD grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status";
    let (plain, guarded) = stage.both(script, "");
    assert_eq!(signals(plain.ends(0)).len(), 3, "{plain:#?}");
    assert_eq!(signals(&guarded), signals(&plain));
    let (plain, guarded) = stage.both("exec GUARD ls /proc/self/fd", "");
    guarded.prints(plain.stdout.trim_end());
}

#[test]
fn a_report_has_every_event() {
    let Some(stage) = Stage::new() else { return };
    // The folder of the report is outside of the tmpfs, which is full.
    let file = tempfile::NamedTempFile::new().expect("a file");
    let script = format!("exec $G --wait-space=300ms --report {} -- $P/writer $M/f 4000000 1", file.path().display());
    stage.run(&script).ends(135);
    let events = report(file.path());
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(kinds, ["fault", "released", "ended"], "{events:#?}");
    let fault = &events[0];
    assert_eq!(fault["v"], 1);
    assert_eq!(fault["access"], "store");
    assert_eq!(fault["cause"], "no-space");
    assert_eq!(fault["outcome"], "waits");
    assert_eq!(fault["limit_seconds"], 0.3);
    assert_eq!(fault["file"]["offset"], 1_048_576);
    assert_eq!(fault["file"]["mount"]["type"], "tmpfs");
    assert_eq!(fault["free"], 0);
    assert_eq!(events[1]["why"], "limit");
    assert_eq!(events[2]["signal"], 7);
}

#[test]
fn a_wrong_variable_is_an_error_that_names_the_word() {
    let Some(stage) = Stage::new() else { return };
    for (list, said) in [("retry,wait-spaces", "wait-spaces"), ("retry=many", "retry=many"), ("zero\\377", "\\xFF")] {
        let done = stage.run(&format!("FAULTIN_GUARD=$(printf '{list}') exec $G -- echo it runs"));
        done.ends(2).prints("").says(&["FAULTIN_GUARD", said]);
    }
}

#[test]
fn a_report_is_not_written_through_a_link() {
    let Some(stage) = Stage::new() else { return };
    let script =
        "echo precious >$M/file; ln -s $M/file $M/report; $G --report $M/report -- echo it runs; echo $?; cat $M/file";
    stage.run(script).ends(0).prints("125\nprecious").says(&["/report", "symbolic link"]);
    // The system's own are: this one leads to a pipe.
    let done = stage.run("exec $G --report /dev/stdout -- sh -c 'exit 3'");
    done.ends(3);
    assert!(done.stdout.starts_with("{\"event\":") || done.stdout.contains("\"ended\""), "{done:#?}");
}
