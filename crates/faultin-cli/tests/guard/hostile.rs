//! Programs that make life hard for a guard.

use std::process::Command;

use faultin_test::skipped;

use super::stage::{Run, Stage, patience, process};

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
fn a_debugger_is_told_that_it_cannot_trace() {
    let Some(stage) = Stage::new() else { return };
    let (plain, guarded) = stage.both("cp $P/hostile $M/gdb && exec GUARD $M/gdb debugs x", "");
    plain.ends(0).prints("traceme: ok");
    guarded.ends(1).prints("traceme: Operation not permitted");
    guarded.says(&["hint: gdb[", "cannot trace programs in a guard", "--except gdb"]);
    let done = stage.run("cp $P/hostile $M/gdb && exec $G --except gdb -- $M/gdb debugs x");
    done.ends(0).prints("traceme: ok").is_silent();
    // A program of another name makes processes as it likes.
    stage.run("exec $G -- $P/hostile debugs x").ends(1).is_silent();
}

#[test]
fn a_program_with_leak_sanitizer_is_told_that_it_cannot_trace() {
    let Some(stage) = Stage::new() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (source, leaky) = (folder.path().join("leaky.c"), folder.path().join("leaky"));
    std::fs::write(&source, "int main(int count, char **words) { return words[count] != 0; }\n").expect("write");
    for kind in ["leak", "address"] {
        let cc = Command::new("cc").arg(format!("-fsanitize={kind}")).arg("-o").arg(&leaky).arg(&source).output();
        if !cc.is_ok_and(|cc| cc.status.success()) {
            skipped("toolchain", format!("cc -fsanitize={kind}"));
            continue;
        }
        let (plain, guarded) = stage.both(&format!("exec GUARD {}", leaky.display()), "");
        plain.ends(0);
        assert_ne!(guarded.code(), 0, "{guarded:#?}");
        guarded.says(&["hint: leaky[", "LeakSanitizer", "--except leaky", "detect_leaks=0"]);
        stage.run(&format!("exec $G --except leaky -- {}", leaky.display())).ends(0).is_silent();
        let variables = "ASAN_OPTIONS=detect_leaks=0 LSAN_OPTIONS=detect_leaks=0";
        stage.run(&format!("{variables} exec $G -- {}", leaky.display())).ends(0).is_silent();
    }
}

#[test]
fn a_program_may_change_its_user_while_it_is_held() {
    let Some(stage) = Stage::new() else { return };
    // There is one user in this namespace. All threads have to take part in the change all the same, the held one among them.
    stage.run("exec $P/hostile changes $M/f 0").ends(135);
    let script = "(until test -e $M/more; do sleep 0.05; done; mount -o remount,size=16m $M) & \
        exec $G --wait-space=50s -- $P/hostile changes $M/f 0";
    let run = Run::start(&mut stage.shell(script));
    let id = process(&run.until("waits for up to"), "hostile");
    run.until("setuid: ok");
    std::fs::write(format!("/proc/{id}/root{}/more", stage.folder().display()), "").expect("write");
    run.wait().ends(0).prints("filled");
}

#[test]
fn many_processes_die_and_each_is_named() {
    let Some(stage) = Stage::new() else { return };
    let count = if patience() == 1 { 100 } else { 20 };
    let (plain, guarded) = stage.both(&format!("exec GUARD $P/hostile forks $M/f {count}"), "");
    plain.ends(0).prints(&format!("{count} died"));
    guarded.ends(0).prints(&format!("{count} died"));
    let lines = |part| guarded.lines(part).len();
    // On a slow machine a look may take longer than its deadline: the line says so, and has no name.
    assert_eq!(lines("no space left") + lines("the look at it took longer"), count, "{guarded:#?}");
    assert!(patience() > 1 || lines("no space left") == count && lines("hint:") == 1, "{guarded:#?}");
    assert!(lines("no space left") > 0, "{guarded:#?}");
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
    let script = "later mount -o remount,size=16m $M & \
        exec setpriv --inh-caps=-all --bounding-set=-all $G --wait-space --report $R -- $P/writer $M/f 4000000 4 unlink";
    stage.run(script).ends(0).prints("bad=0").says(&["no space left", "waits"]);
}
