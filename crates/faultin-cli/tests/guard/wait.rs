//! `--wait-space`: the program does not know.

use std::time::{Duration, Instant};

use faultin_test::skipped;

use super::stage::{Stage, has_program};

#[test]
fn programs_finish_when_there_is_space() {
    let Some(stage) = Stage::new() else { return };
    for words in ["1", "2", "16", "4 unlink", "4 handler", "1 block", "4 block", "1 ignore", "4 ignore"] {
        let program = format!("$P/writer $M/f 4000000 {words}");
        stage.run(&format!("exec {program}")).ends(135);
        let script = format!("later mount -o remount,size=16m $M & exec $G --wait-space --report $R -- {program}");
        let done = stage.run(&script);
        done.ends(0).prints("bad=0").says(&["no space left", "waits for up to 10 min"]).says(&["goes on after"]);
        assert!(!done.stderr.contains("handler\n"), "the handler did not run: {done:#?}");
    }
}

#[test]
fn static_programs_finish_as_well() {
    let Some(stage) = Stage::new() else { return };
    if !has_program(&stage, "writer-static") {
        return skipped("toolchain", "a static C library");
    }
    stage.run("exec $P/writer-static $M/f 4000000 16").ends(135);
    let done = stage.run(
        "later mount -o remount,size=16m $M & exec $G --wait-space --report $R -- $P/writer-static $M/f 4000000 16",
    );
    done.ends(0).prints("bad=0").says(&["waits"]);
}

#[test]
fn space_may_come_page_by_page() {
    let Some(stage) = Stage::new() else { return };
    let script = "grow() { for size in 1030 1040 1060 1100 1200 2000 16000; do mount -o remount,size=${size}k $M; sleep 0.2; done; }
        later grow & exec $G --wait-space --report $R -- $P/writer $M/f 4000000 4";
    let done = stage.run(script);
    done.ends(0).prints("bad=0").says(&["waits"]);
}

#[test]
fn a_wait_has_a_limit() {
    let Some(stage) = Stage::new() else { return };
    let begun = Instant::now();
    let done = stage.run("exec $G --wait-space=700ms -- $P/writer $M/f 4000000 1");
    done.ends(135).says(&["waits for up to 0.7 s"]).says(&["has waited for", "its limit is reached"]);
    assert!(begun.elapsed() >= Duration::from_millis(700));
    let done = stage.run("FAULTIN_GUARD=wait-space=500ms exec $G -- $P/writer $M/f 4000000 1");
    done.ends(135).says(&["waits for up to 0.5 s"]);
    // An option on the command line is all there is.
    let done = stage.run("FAULTIN_GUARD=wait-space=500ms exec $G --explain -- $P/writer $M/f 4000000 1");
    done.ends(135);
    assert!(done.lines("waits").is_empty(), "{done:#?}");
}

#[test]
fn other_threads_go_on_meanwhile() {
    let Some(stage) = Stage::new() else { return };
    // A shell's background job runs on while its other one is held.
    let script = "exec $G --wait-space=20s -- sh -c '$P/writer $M/f 4000000 1 & sleep 0.5; echo runs; mount -o remount,size=16m $M; wait'";
    stage.run(script).ends(0).prints("runs\nbad=0");
}

#[test]
fn a_truncated_file_is_not_waited_for() {
    let Some(stage) = Stage::new() else { return };
    let done = stage.run("head -c 300000 /dev/zero >$M/g; exec $G --wait-space --retry -- $P/reader $M/g 5");
    done.ends(135).says(&["past the end of the file"]);
    assert!(done.lines("waits").is_empty(), "{done:#?}");
}

#[test]
fn a_held_program_without_a_parent_gets_its_signal_when_the_guard_ends() {
    let Some(stage) = Stage::new() else { return };
    let done = stage.run(
        "$G --wait-space=20s -- $P/hostile daemon $M/f; echo $?; sleep 1; ps -e 2>/dev/null | grep -c '[h]ostile'",
    );
    done.says(&["gets its signal: the command has ended"]);
    assert!(done.stdout.starts_with("3\n") && !done.stdout.contains("never"), "{done:#?}");
}

#[cfg(target_arch = "aarch64")]
#[test]
fn a_pointer_may_have_a_tag() {
    let Some(stage) = Stage::new() else { return };
    let program = "$P/hostile tagged $M/f store";
    stage.run(&format!("exec {program}")).ends(135);
    let done =
        stage.run(&format!("later mount -o remount,size=16m $M & exec $G --wait-space --report $R -- {program}"));
    done.ends(0)
        .prints("sum=1024")
        .says(&["store at byte 1048576 of", "no space left", "waits"])
        .says(&["goes on after"]);
}
