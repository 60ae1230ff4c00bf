//! What is printed.

use faultin_audit::environment::Feature;
use faultin_audit::run::Outcome;
use faultin_audit::table::{self, Style};
use faultin_audit::{Memory, Report, Scenario, Selection, Variant, callers, json, run};
use serde_json::Value;

fn small() -> Report {
    run::report(&Selection {
        callers: [callers::named("armada_gem_pwrite_ioctl"), callers::named("iomap_write_actor")].concat(),
        scenarios: vec![Scenario::AllResident, Scenario::SecondPageBad],
        variants: Variant::ALL.into(),
        memories: vec![Memory::Host],
    })
}

#[test]
fn json_has_the_shape_it_says() {
    let json: Value = serde_json::from_str(&json::text(&small())).unwrap();
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
        let summary = json::Summary::of(&report);
        assert_eq!((summary.skipped, summary.skips_not_allowed), (1, usize::from(!allowed)));
        let printed = table::table(&report, Style { colour: false, width: 200 });
        assert_eq!(printed.contains("may not be missing in this environment"), !allowed, "{printed}");
    }
}

#[test]
fn the_table_has_colours_only_if_asked_and_everything_at_every_width() {
    let report = small();
    for width in [40, 80, 120, 200] {
        let plain = table::table(&report, Style { colour: false, width });
        assert!(!plain.contains('\x1b'), "{plain}");
        for text in ["armada_gem_pwrite_ioctl", "EFAULT, 100", "iomap_write_actor", "not yet", "4 of 4 executed cells"] {
            assert!(plain.contains(text), "{text} at {width}:\n{plain}");
        }
        assert!(table::table(&report, Style { colour: true, width }).contains('\x1b'));
    }
}

#[test]
fn steps_are_printed_with_their_origin_and_expectation() {
    let steps = table::traces(&small());
    for text in
        ["helper from 5.14 (fault_in_pages_readable)", "copy to the object: 100 bytes, then protection fault at +100"]
    {
        assert!(steps.contains(text), "{text} in\n{steps}");
    }
}
