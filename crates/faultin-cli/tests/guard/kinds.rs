//! What a guard says of an instruction, beside what the CPU says: the bits of the error code that the kernel puts into the
//! signal's frame.
#![cfg(target_arch = "x86_64")]

use super::stage::{Stage, report};

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
        assert_eq!((trap, fault["cause"].as_str()), ("14", Some("past-end")), "{line}: {fault}");
        assert_eq!(fault["address"], words[3], "{name}");
        // Bit 1 of a page fault's error code: a store.
        let is_right = match fault["access"].as_str() {
            Some("load") => error & 2 == 0,
            Some("store") => error & 2 != 0,
            // With the intention to store: of XSAVE as well, which reads its header.
            Some("load and store") => error & 2 != 0 && (name.starts_with("both_") || name == "store_xsave"),
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{line}: {}", fault["access"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
