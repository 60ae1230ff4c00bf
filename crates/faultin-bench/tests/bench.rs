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
    for bench in ["copy", "load", "fault", "fault-in", "probe", "map", "cache"] {
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

#[test]
fn growth_is_measured_in_every_part_and_shown_on_a_page_and_in_plots() {
    let folder = tempfile::tempdir().expect("a folder");
    let (page, plots) = (folder.path().join("page.html"), folder.path().join("plots"));
    let output = common::faultin_bench()
        .args(["scale", "load", "--quick", "--json", "--html"])
        .arg(&page)
        .arg("--plots")
        .arg(&plots)
        .output()
        .expect("the command starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    if !faultin_test::is_emulated() {
        // The times of a smoke test decide nothing.
        assert!(output.status.success(), "{}\n{errors}", output.status);
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let scale = &report["scale"];
    let curves = scale["curves"].as_array().expect("curves");
    for name in [
        "beside mapped",
        "beside registered",
        "registering",
        "dropping",
        "FileMap::open",
        "memmap2",
        "opening a",
        "closing a",
        "random read",
    ] {
        let found = curves.iter().find(|curve| curve["name"].as_str().is_some_and(|text| text.contains(name)));
        let curve = found.unwrap_or_else(|| panic!("no curve of {name}"));
        let points = curve["points"].as_array().expect("points");
        assert!(points.len() >= 2, "{curve}");
        assert!(points.iter().all(|point| point["ns"]["median"].as_f64().is_some_and(|ns| ns > 0.0)), "{curve}");
        assert!(curve["exponent"]["median"].is_number(), "{curve}");
    }
    assert!(scale["misses"].as_array().is_some_and(|rows| rows.len() >= 5), "{}", scale["misses"]);
    let figures = scale["figures"].as_array().expect("figures");
    let has_threads = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
    let threads: &[&str] = if has_threads { &["two threads", "two readers", "two writers"] } else { &[] };
    for name in ["fault_in", "closing each", "random read", "misses"].iter().chain(threads) {
        let found = figures.iter().any(|figure| figure["name"].as_str().is_some_and(|text| text.starts_with(name)));
        assert!(found, "no figure of {name}");
    }

    let html = std::fs::read_to_string(&page).expect("a page");
    for part in ["default-src 'none'", "fault_in, resident", "read_volatile", "<h2>load</h2>", "misses, Zipf"] {
        assert!(html.contains(part), "{part}");
    }
    let names: Vec<_> =
        std::fs::read_dir(&plots).expect("a folder").map(|entry| entry.expect("a file").path()).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    let files: Vec<String> = names.iter().map(|name| std::fs::read_to_string(name).expect("a plot")).collect();
    assert!(files.iter().all(|svg| svg.starts_with("<svg") && svg.ends_with("</svg>\n")), "{names:?}");
    // No address except the name of the format.
    for text in files.iter().chain([&html]) {
        let rest = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!rest.contains("://") && !rest.contains("<script") && !rest.contains("url("));
    }
}

#[test]
fn plots_need_what_they_show() {
    let output = faultin(&["load", "--quick", "--plots", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--plots needs"));
}
