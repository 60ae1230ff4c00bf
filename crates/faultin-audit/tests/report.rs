//! The printed reports.

use faultin_audit::environment::Feature;
use faultin_audit::render::text::{self, Style};
use faultin_audit::render::{html, json, markdown};
use faultin_audit::run::Outcome;
use faultin_audit::{Caller, Cell, Memory, Model, Report, Scenario, Selection, Variant, callers, run};
use serde_json::Value;

fn small() -> Report {
    let not_yet = Caller { job: None, ..callers::named("search_ioctl")[0] };
    run::report(&Selection {
        callers: [callers::named("armada_gem_pwrite_ioctl"), vec![not_yet]].concat(),
        scenarios: vec![Scenario::AllResident, Scenario::SecondPageBad],
        variants: Variant::ALL.into(),
        memories: vec![Memory::Host],
    })
}

#[test]
fn json_has_the_shape_it_says() {
    let json: Value = serde_json::from_str(&json::text(&Model::of(&small()))).unwrap();
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 8);
    for row in rows {
        for text in ["caller", "need", "variant", "memory", "scenario", "actual"] {
            assert!(row[text].is_string(), "{text} in {row}");
        }
        for number in ["moved", "rounds"] {
            assert!(row[number].is_u64(), "{number} in {row}");
        }
        let ran = row["caller"] == "armada_gem_pwrite_ioctl";
        assert_eq!(row["expected"].is_string(), ran, "{row}");
        assert_eq!(row["ok"], if ran { Value::Bool(true) } else { Value::Null }, "{row}");
        assert_eq!(row["actual"] == "not yet", !ran, "{row}");
    }
    let cell = &rows[3];
    assert_eq!((&cell["variant"], &cell["scenario"]), (&"fixed".into(), &"second page bad".into()));
    assert_eq!(
        (&cell["expected"], &cell["actual"], &cell["moved"]),
        (&"EFAULT, 100".into(), &"EFAULT, 100".into(), &100.into())
    );
    let summary = &json["summary"];
    for (name, value) in [("callers", 2), ("callers_not_yet", 1), ("cells", 8), ("executed", 4), ("not_yet", 4)] {
        assert_eq!(summary[name], value, "{name}");
    }
    assert_eq!(summary["ok"], true);
}

#[test]
fn a_skip_that_is_not_allowed_fails_and_one_that_is_does_not() {
    let mut report = small();
    for (allowed, ok) in [(true, None), (false, Some(false))] {
        report.cells[0].outcome = Outcome::Skipped { feature: Feature::Poison, allowed };
        assert_eq!(report.cells[0].ok(), ok);
        assert_eq!(report.is_ok(), allowed);
        assert_eq!(report.cells[0].actual(), "skipped: userfaultfd with UFFDIO_POISON");
        let summary = Model::of(&report).summary;
        assert_eq!((summary.skipped, summary.skips_not_allowed), (1, usize::from(!allowed)));
        let printed = text::table(&Model::of(&report), Style { colour: false, width: 200 });
        assert_eq!(printed.contains("may not be missing in this environment"), !allowed, "{printed}");
    }
}

#[test]
fn the_table_has_colours_only_if_asked_and_everything_at_every_width() {
    let report = small();
    for width in [40, 80, 120, 200] {
        let plain = text::table(&Model::of(&report), Style { colour: false, width });
        assert!(!plain.contains('\x1b'), "{plain}");
        for text in ["armada_gem_pwrite_ioctl", "EFAULT, 100", "search_ioctl", "not yet", "4 of 4 executed cells"] {
            assert!(plain.contains(text), "{text} at {width}:\n{plain}");
        }
        assert!(text::table(&Model::of(&report), Style { colour: true, width }).contains('\x1b'));
    }
}

#[test]
fn steps_are_printed_with_their_origin_and_expectation() {
    let steps = text::traces(&Model::of(&small()));
    for text in
        ["helper from 5.14 (fault_in_pages_readable)", "copy to the object: 100 bytes, then protection fault at +100"]
    {
        assert!(steps.contains(text), "{text} in\n{steps}");
    }
}

/// Makes a small report on both memories, of a caller that runs.
fn both(scenarios: &[Scenario]) -> Report {
    run::report(&Selection {
        callers: callers::named("armada_gem_pwrite_ioctl"),
        scenarios: scenarios.into(),
        variants: Variant::ALL.into(),
        memories: Memory::ALL.into(),
    })
}

/// Returns its cell on this memory.
fn cell(report: &mut Report, variant: Variant, memory: Memory) -> &mut Cell {
    report.cells.iter_mut().find(|cell| (cell.variant, cell.memory) == (variant, memory)).unwrap()
}

fn plain(report: &Report) -> String {
    text::table(&Model::of(report), Style { colour: false, width: 200 })
}

/// Makes it end in another way, like a caller that was changed.
fn change(cell: &mut Cell, actual: &str) {
    let Outcome::Ran(ran) = &mut cell.outcome else { panic!("{} ran", cell.memory.name()) };
    ran.actual = actual.into();
    ran.verdict = Err(format!("{actual} is wrong"));
}

fn skip(cell: &mut Cell) {
    cell.outcome = Outcome::Skipped { feature: Feature::Paging, allowed: true };
}

#[test]
fn memories_that_agree_say_it_once_and_others_each() {
    let mut report = both(&[Scenario::SecondPageBad]);
    assert_eq!(plain(&report).matches("EFAULT, 100").count(), 1, "{}", plain(&report));

    change(cell(&mut report, Variant::Fixed, Memory::Host), "ok");
    let printed = plain(&report);
    assert!(printed.contains("host ✗ ok") && printed.contains("sim EFAULT, 100"), "{printed}");
    assert!(printed.contains("ok is wrong"), "{printed}");
    let coloured = text::table(&Model::of(&report), Style { colour: true, width: 200 });
    assert!(coloured.contains("\x1b[38;5;9m"), "red, whichever memory it is: {coloured:?}");
}

#[test]
fn a_skip_leaves_the_others_result_and_a_mark_that_the_legend_names() {
    let mut report = both(&[Scenario::SecondPageBad]);
    assert!(!plain(&report).contains('†'));
    skip(cell(&mut report, Variant::Fixed, Memory::Host));
    let printed = plain(&report);
    assert!(printed.contains("EFAULT, 100 †"), "{printed}");
    assert!(
        printed.contains("†         skipped on the host: userfaultfd with SIGBUS and minor faults (1 cell)"),
        "{printed}"
    );

    skip(cell(&mut report, Variant::Fixed, Memory::Sim));
    assert!(plain(&report).contains("skipped †"), "{}", plain(&report));
}

#[test]
fn the_whole_table_fits_two_hundred_columns_and_falls_apart_below() {
    let report = both(&Scenario::ALL);
    let widest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
    let whole = plain(&report);
    assert!(widest(&whole) <= 200, "{whole}");
    let head = |line: &&str| line.starts_with('│') && line.contains("restart");
    assert_eq!(whole.lines().filter(head).count(), 1, "one table: {whole}");
    let narrow = text::table(&Model::of(&report), Style { colour: false, width: 70 });
    let tables: Vec<&str> = narrow.lines().filter(|line| line.contains(['│', '┌', '└'])).collect();
    assert!(tables.len() > Scenario::OF_BUFFERS.len() && widest(&tables.join("\n")) <= 70, "{narrow}");
}

#[test]
fn documents_change_with_a_result_and_not_with_a_skip() {
    let report = both(&Scenario::ALL);
    let written = |report: &Report| {
        let document = markdown::document(&Model::of(report), "again");
        let (summary, results) = document.split_once("\n## Results\n").expect("results follow the summary");
        (summary.to_owned(), results.to_owned())
    };
    let (summary, results) = written(&report);
    assert!(summary.contains("EFAULT → EFAULT, 100") && results.contains("EFAULT, 100"), "{summary}{results}");
    assert_eq!(written(&both(&Scenario::ALL)), (summary.clone(), results.clone()));

    for allowed in [true, false] {
        let mut skipped = report.clone();
        let could =
            |cell: &&mut Cell| cell.memory == Memory::Host && !matches!(cell.outcome, Outcome::NotApplicable(_));
        for cell in skipped.cells.iter_mut().filter(could) {
            cell.outcome = Outcome::Skipped { feature: Feature::Paging, allowed };
        }
        assert_eq!(written(&skipped), (summary.clone(), results.clone()));
    }

    for (memory, what) in [(Memory::Host, "host ✗ changed"), (Memory::Sim, "✗ changed")] {
        for variant in Variant::ALL {
            let mut changed = report.clone();
            change(cell(&mut changed, variant, memory), "changed");
            let written = written(&changed);
            assert!(written.0.contains(what) && written.1.contains(what), "{written:?}");
        }
    }
}

/// Rows 17 and 19, on both memories.
fn mapped() -> &'static Report {
    static REPORT: std::sync::OnceLock<Report> = std::sync::OnceLock::new();
    REPORT.get_or_init(|| {
        run::report(&Selection {
            callers: [callers::named("5"), callers::named("17"), callers::named("19")].concat(),
            scenarios: vec![Scenario::Cold, Scenario::SamePages, Scenario::OtherPages, Scenario::TwoFiles],
            variants: Variant::ALL.into(),
            memories: Memory::ALL.into(),
        })
    })
}

#[test]
fn mappings_are_a_table_of_their_own_with_the_rows_that_have_them() {
    let printed = plain(mapped());
    let [first, second] = printed.split(text::MAPPINGS).collect::<Vec<_>>()[..] else { panic!("two: {printed}") };
    assert!(first.contains("restore_fpregs_from_user") && !first.contains("same"), "{first}");
    let second = second.split("gfs2 and ours").next().unwrap();
    assert!(!second.contains("restore_fpregs_from_user") && second.contains("gfs2 direct read"), "{second}");
    assert_eq!(second.matches("deadlock").count(), 2 * 3, "{second}");
    assert!(printed.lines().all(|line| line.chars().count() <= 200), "{printed}");

    let document = markdown::document(&Model::of(mapped()), "again");
    let mappings = document.split("## A buffer whose").nth(1).unwrap();
    assert!(
        mappings
            .contains("| 17 | `gfs2 buffered write` (gfs2) | as-found | **deadlock** | **deadlock** | **deadlock** |")
    );
    assert!(mappings.contains("|  |  | fixed | ok | ok | ok |"), "{mappings}");
    assert!(html::page(&Model::of(mapped())).contains("A buffer whose faults we serve ourselves"));
}

#[test]
fn the_kernel_and_ours_stand_in_one_table() {
    let lines = Model::of(mapped()).comparison;
    let line =
        |operation: &str, pages: &str| lines.iter().find(|line| line[0] == operation && line[1] == pages).unwrap();
    assert_eq!(lines.len(), 4, "what was asked for: {lines:?}");
    assert_eq!(line("direct read", "the same pages")[3..], ["∞ (a fatal signal ends it)", "deadlock", "ok"]);
    assert_eq!(line("buffered write", "other pages")[2..], ["not observed", "completes", "deadlock", "ok"]);
    let document = markdown::document(&Model::of(mapped()), "again");
    assert!(document.contains(
        "| direct read | the same pages | not observed | **∞ (a fatal signal ends it)** | **deadlock** | ok |"
    ));
    assert!(
        plain(mapped()).contains("gfs2 6.1 to 7.2") && html::page(&Model::of(mapped())).contains("gfs2 6.1 to 7.2")
    );
    assert!(!Model::of(&both(&[Scenario::Cold])).compares() && !plain(&both(&Scenario::ALL)).contains("gfs2 and ours"));
}

#[test]
fn what_does_not_apply_says_why() {
    let json: Value = serde_json::from_str(&json::text(&Model::of(mapped()))).unwrap();
    let rows = json["rows"].as_array().unwrap();
    let why = |row: u8, memory: &str, scenario: &str| {
        let cell = rows.iter().find(|r| r["row"] == row && r["memory"] == memory && r["scenario"] == scenario);
        cell.unwrap()["not_applicable"].as_str()
    };
    assert_eq!(why(17, "sim", "two files"), Some("simulated memory belongs to one thread"));
    assert_eq!((why(17, "host", "two files"), why(5, "sim", "cold")), (None, None));
    assert!(why(5, "host", "same pages").unwrap().contains("rows 17 to 20"));
    let steps = text::traces(&Model::of(mapped()));
    assert!(steps.contains("does not apply: simulated memory belongs to one thread"), "{steps}");
    assert!(steps.contains(" waits for the inode lock of file "), "{steps}");
}
