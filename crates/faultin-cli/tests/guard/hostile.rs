//! Programs that make life hard for a guard.

use super::stage::Stage;

#[test]
fn a_signal_that_was_sent_is_passed_on() {
    let Some(stage) = Stage::new() else { return };
    for way in ["kill", "tgkill", "queue", "abort", "forged"] {
        for handler in ["", "handler"] {
            let script = format!("setarch -R true 2>/dev/null; exec GUARD $P/hostile sends {way} {handler}");
            let (plain, guarded) = stage.both(&script, "--wait-space --retry --zero");
            assert_eq!(plain.code(), if handler.is_empty() { 135 } else { 0 }, "{way}: {plain:#?}");
            guarded.ends(plain.code());
            let code = |text: &str| text.split(" address").next().map(str::to_owned);
            assert_eq!(code(&guarded.stdout), code(&plain.stdout), "{way}: {guarded:#?}");
            if way != "forged" {
                guarded.is_silent();
            }
        }
    }
}

#[test]
fn names_never_reach_a_terminal_raw() {
    let Some(stage) = Stage::new() else { return };
    let name = "a\\nfaultin guard: fake\\033[31m\\a\\302\\233x";
    let script = format!(
        "name=$(printf '{name}'); head -c 300000 /dev/zero >\"$M/$name\"; cp $P/reader \"$M/$name.exe\"; \
         GUARD \"$M/$name.exe\" \"$M/$name\" 5"
    );
    let (plain, guarded) = stage.both(&script, "");
    plain.ends(135);
    guarded.ends(135);
    let said: Vec<&str> = guarded.stderr.lines().filter(|line| line.contains("fake")).collect();
    assert!(said.iter().all(|line| line.starts_with("faultin guard: a\\n")), "{guarded:#?}");
    let ours: Vec<&str> = guarded.stderr.lines().filter(|line| line.starts_with("faultin guard")).collect();
    assert!(ours.iter().any(|line| line.contains("\\u{1b}[31m\\u{7}\\u{9b}x")), "{guarded:#?}");
    assert!(!ours.concat().chars().any(char::is_control), "{guarded:#?}");
}

#[test]
fn a_thread_may_exec_while_another_is_held() {
    let Some(stage) = Stage::new() else { return };
    let (plain, guarded) = stage.both("exec GUARD $P/hostile execs $M/f", "--wait-space=20s");
    plain.ends(135);
    guarded.ends(0).prints("the other program").says(&["waits"]);
}

#[test]
fn a_program_that_traces_itself_is_told_that_it_cannot() {
    let Some(stage) = Stage::new() else { return };
    let done = stage.run("exec $G -- $P/hostile traces $M/f");
    done.ends(135).prints("traceme: Operation not permitted").says(&["no space left"]);
}

#[test]
fn many_processes_die_and_each_is_named() {
    let Some(stage) = Stage::new() else { return };
    let (plain, guarded) = stage.both("exec GUARD $P/hostile forks $M/f 100", "");
    plain.ends(0).prints("100 died");
    guarded.ends(0).prints("100 died");
    assert_eq!(guarded.lines("no space left").len(), 100, "{guarded:#?}");
    assert_eq!(guarded.lines("hint:").len(), 1);
}

#[test]
fn a_program_may_close_all_descriptors() {
    let Some(stage) = Stage::new() else { return };
    let (plain, guarded) = stage.both("exec GUARD $P/hostile closes $M/f", "");
    plain.ends(135);
    guarded.ends(135).says(&["hostile[", "no space left"]);
}

#[test]
fn a_process_that_hides_is_not_guessed_about() {
    let Some(stage) = Stage::new() else { return };
    // Without capabilities in the namespace.
    let script = "exec setpriv --inh-caps=-all --bounding-set=-all GUARD $P/hostile hides $M/f";
    let (plain, guarded) = stage.both(script, "--wait-space=20s");
    plain.ends(135);
    guarded.ends(135);
    let lines = guarded.lines("hostile[");
    assert_eq!(lines.len(), 1, "{guarded:#?}");
    assert!(lines[0].contains("cannot be inspected"), "{lines:?}");
}

#[test]
fn a_guard_needs_no_capabilities() {
    let Some(stage) = Stage::new() else { return };
    let script = "(sleep 0.4; mount -o remount,size=16m $M) & \
        exec setpriv --inh-caps=-all --bounding-set=-all $G --wait-space -- $P/writer $M/f 4000000 4 unlink";
    stage.run(script).ends(0).prints("bad=0").says(&["no space left", "waits"]);
}
