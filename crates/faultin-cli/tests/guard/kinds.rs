//! What a guard says of an instruction, beside what the CPU says: the error code of x86-64, or the syndrome of aarch64, which the kernel
//! puts into the signal's frame.

use super::stage::{Stage, report};

/// The trap of x86-64, or the class of exceptions of aarch64.
const FAULT_OF_DATA: &str = if cfg!(target_arch = "x86_64") { "14" } else { "36" };
/// The bit of the error code, or of the syndrome, that a store has.
const STORE: u32 = if cfg!(target_arch = "x86_64") { 1 << 1 } else { 1 << 6 };

#[test]
fn each_kind_of_instruction_is_what_the_cpu_says() {
    let Some(stage) = Stage::new() else { return };
    let file = tempfile::NamedTempFile::new().expect("a file");
    let done = stage.run(&format!("exec $G --report {} -- $P/kinds $M/f", file.path().display()));
    done.ends(0);
    let faults: Vec<_> = report(file.path()).into_iter().filter(|event| event["event"] == "fault").collect();
    let kinds: Vec<&str> = done.stdout.lines().collect();
    assert!(kinds.len() >= 60, "{done:#?}");
    assert_eq!(kinds.len(), faults.len(), "one fault each: {done:#?}");
    let mut wrong = Vec::new();
    for (line, fault) in kinds.iter().zip(&faults) {
        let words: Vec<&str> = line.split(' ').collect();
        let (name, error, trap) = (words[0], words[1].parse::<u32>().expect("a number"), words[2]);
        assert_eq!((trap, fault["cause"].as_str()), (FAULT_OF_DATA, Some("past-end")), "{line}: {fault}");
        assert_eq!(fault["address"], words[3], "{name}");
        let is_store = error & STORE != 0;
        let is_right = match fault["access"].as_str() {
            Some("load") => !is_store,
            Some("store") => is_store,
            // aarch64 reports a load if a load would have failed as well.
            Some("load and store") if name.starts_with("both_") => is_store || cfg!(target_arch = "aarch64"),
            // With the intention to store: XSAVE, which reads its header.
            Some("load and store") => is_store && name == "store_xsave",
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{line}: {}", fault["access"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
