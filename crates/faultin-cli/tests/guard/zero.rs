//! `--zero`: reads of what is lost see zeros, and the exit status says so.

use super::stage::Stage;

#[test]
fn what_is_lost_reads_as_zeros() {
    let Some(stage) = Stage::new() else { return };
    let script = "head -c 300000 /dev/zero | tr '\\0' a >$M/g; exec GUARD $P/reader $M/g 5000";
    let (plain, guarded) = stage.both(script, "--zero");
    plain.ends(135);
    // 5000 times `a`, and nothing.
    guarded.ends(74).prints("sum=485000").says(&["the program sees zeros"]);
    guarded.says(&["zeros in place of 294912 bytes of", "/g: 8192..303104", "not to be trusted"]);
}

#[test]
fn zeros_are_the_same_under_threads_and_timers() {
    let Some(stage) = Stage::new() else { return };
    let mut served = 0;
    for time in (0..20).map(|turn| turn * 300) {
        let done =
            stage.run(&format!("mount -o remount,size=16m $M; exec $G --zero -- $P/hostile truncates $M/f {time}"));
        assert!([0, 74].contains(&done.code()), "{done:#?}");
        done.prints("wrong=0");
        served += u32::from(done.code() == 74);
    }
    assert!(served > 0, "no run was truncated in time");
}

/// The guard asks threads to stop that have stopped already, for zeros of their own.
#[test]
fn threads_that_fault_at_once_all_see_zeros() {
    let Some(stage) = Stage::new() else { return };
    let done = stage.run("exec $G --zero -- $P/hostile crowd $M/f");
    done.ends(74).prints("sum=0");
    assert_eq!(done.lines("no zeros"), [""; 0], "{done:#?}");
}

#[test]
fn a_store_never_hits_zeros() {
    let Some(stage) = Stage::new() else { return };
    let done = stage.run("exec $G --zero -- $P/hostile zeros $M/f");
    done.ends(74).prints("sum=0").says(&["SIGSEGV by a store", "--zero"]);
    let done = stage.run("exec $G --zero -- $P/writer $M/f 4000000 1");
    done.ends(135).says(&["no space left"]);
}

#[test]
fn code_never_is_zeros() {
    let Some(stage) = Stage::new() else { return };
    let (plain, guarded) = stage.both("exec GUARD $P/hostile code $M/f", "--zero");
    plain.ends(135);
    guarded.ends(135).says(&["fetch of an instruction at byte 4096", "past the end", "code never is zeros"]);
}

#[test]
fn a_filter_of_system_calls_is_never_met() {
    let Some(stage) = Stage::new() else { return };
    for what in ["kill", "errno", "trap"] {
        let (plain, guarded) = stage.both(&format!("exec GUARD $P/hostile filters $M/f {what}"), "--zero");
        plain.ends(135);
        // In its own namespace a guard may not suspend filters.
        guarded.ends(135).says(&["past the end", "no zeros: a filter of system calls"]);
    }
}

#[test]
fn memory_that_takes_the_place_of_a_file_keeps_its_bytes() {
    let Some(stage) = Stage::new() else { return };
    let done = stage.run("exec $G --zero -- $P/hostile remaps $M/f 1000");
    done.prints("lost=0").ends(74);
}

#[test]
fn a_handler_of_traps_is_the_programs_own_afterwards() {
    let Some(stage) = Stage::new() else { return };
    let (plain, guarded) = stage.both("exec GUARD $P/hostile traps $M/f handle", "--zero");
    plain.ends(135);
    guarded.ends(74).prints("sum=0 trapped=1").says(&["the program sees zeros"]);
    // The kernel would make the program die of the next trap.
    stage
        .run("exec $G --zero -- $P/hostile traps $M/f ignore")
        .ends(135)
        .says(&["no zeros: the program ignores SIGTRAP"]);
}

/// A segment for such code is a part of each x86-64 kernel.
#[cfg(target_arch = "x86_64")]
#[test]
fn code_of_32_bits_is_understood_and_left_alone() {
    let Some(stage) = Stage::new() else { return };
    for access in ["load", "store"] {
        let (plain, guarded) = stage.both(&format!("exec GUARD $P/hostile narrow $M/f {access}"), "--zero");
        plain.ends(135);
        guarded.ends(135).says(&[&format!("{access} at byte 8192 of"), "past the end of the file"]);
    }
    let done = stage.run("exec $G --zero -- $P/hostile narrow $M/f load");
    done.says(&["no zeros: 32-bit programs are not supported"]);
}

/// Pointers with a tag, code that checks the targets of its branches, and registers that a system call does not keep.
#[cfg(target_arch = "aarch64")]
#[test]
fn what_aarch64_has_besides_is_as_it_was() {
    let Some(stage) = Stage::new() else { return };
    let (plain, guarded) = stage.both("exec GUARD $P/hostile tagged $M/f load", "--zero");
    plain.ends(135);
    guarded.ends(74).prints("sum=0").says(&["load at byte 0 of", "the program sees zeros"]);
    let (plain, guarded) = stage.both("exec GUARD $P/hostile branches $M/f", "--zero");
    plain.ends(135);
    guarded.ends(74).prints("byte=0");
    for mode in ["usual", "streaming"] {
        let (plain, guarded) = stage.both(&format!("exec GUARD $P/hostile vectors $M/f {mode}"), "--zero");
        if plain.code() == 0 {
            faultin_test::skipped("sve", format!("registers of the {mode} mode"));
            continue;
        }
        plain.ends(135);
        guarded.ends(74).prints("wrong bytes=0, bits=0");
    }
}
