//! `faultin-bench` runs, with every peer, and reports that in JSON.

mod common;

/// What user-mode emulators do not have, or accept without doing it.
const NOT_EMULATED: [&str; 3] = ["process_vm_readv", "MADV_POPULATE_", "signal_free"];

fn faultin(arguments: &[&str]) -> std::process::Output {
    common::faultin_bench().args(arguments).output().expect("the command starts")
}

#[test]
fn every_peer_runs_and_every_row_is_complete() {
    let output = faultin(&["--quick", "--json"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let missing = report["missing"].as_array().expect("missing");
    if faultin_test::is_emulated() {
        assert_eq!(output.status.code(), Some(1), "a peer that did not run fails the table");
        let known = |what: &str| NOT_EMULATED.iter().any(|part| what.contains(part));
        assert!(missing.iter().all(|what| what.as_str().is_some_and(known)), "{errors}");
    } else {
        assert!(output.status.success() && missing.is_empty(), "{}\n{errors}", output.status);
    }
    let rows = report["results"].as_array().expect("results");
    for row in rows {
        for field in ["ours_ns", "peer_ns", "ratio"] {
            assert!(row[field].as_f64().is_some_and(|v| v > 0.0), "{field} of {row}");
        }
        let interval: Vec<f64> =
            row["interval"].as_array().expect("interval").iter().flat_map(|v| v.as_f64()).collect();
        let ratio = row["ratio"].as_f64().unwrap_or_default();
        assert!(matches!(interval[..], [low, high] if low <= ratio && ratio <= high), "interval of {row}");
        assert!(row["rounds"].as_u64() > Some(0) && row["size"].as_u64() > Some(0), "{row}");
    }
    let mut wanted = vec![
        "memcpy",
        "ptr::copy_nonoverlapping",
        "VolatileSlice",
        "read_obj",
        "read_volatile",
        "process_vm_readv",
        "pread",
        "sigsetjmp(0) + memcpy",
        "sigsetjmp(1) + memcpy",
        "sigsetjmp(1), siglongjmp",
        "touch loop",
        "MADV_POPULATE_READ",
        "MADV_POPULATE_WRITE",
        "core::sync::atomic",
    ];
    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        wanted.push("bare handler");
    }
    if cfg!(target_arch = "x86_64") {
        wanted.push("non-temporal");
    }
    if faultin_test::is_emulated() {
        wanted.retain(|peer| !NOT_EMULATED.iter().any(|part| peer.contains(part)));
    }
    for peer in wanted {
        assert!(rows.iter().any(|row| row["peer"] == peer), "no row against {peer}");
    }
    for bench in ["copy", "load", "fault", "fault-in", "probe"] {
        assert!(rows.iter().any(|row| row["name"].as_str().is_some_and(|n| n.starts_with(&format!("{bench} ")))));
    }
}

#[test]
fn the_table_is_plain_when_piped_and_shows_the_goals() {
    let output = faultin(&["load", "--quick"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains('\x1b'), "colours in a pipe");
    assert!(text.contains("read_volatile") && text.contains("≤ 1.300"), "{text}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_filter_that_matches_nothing_is_an_error() {
    let output = faultin(&["--quick", "--filter", "no such case"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no case"));
}
