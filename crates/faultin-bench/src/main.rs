//! `faultin-bench`: this crate compared with common alternatives, in one run.
//!
//! | module | purpose |
//! |---|---|
//! | `measure` | the method: rounds and ratios of a `case`, from each `sample`, with the arithmetic of `stats` |
//! | `report` | the table and the JSON |
//! | `memory` | the memory that the cases run on |
//! | `c` | the C library |
//! | `copy`, `load`, `fault`, `fault_in`, `probe`, `map`, `cache`, `pager` | the comparisons and the goals |
//! | `scale` | operations whose cost may grow with the number of mappings |
//! | `eviction` | miss ratios of the cache, and operations whose cost may grow with the number of files |
//! | `peers` | the alternatives |

mod c;
mod cache;
mod case;
mod copy;
mod eviction;
mod fault;
mod fault_in;
mod load;
mod map;
mod measure;
mod memory;
mod pager;
mod peers;
mod probe;
mod report;
mod sample;
mod scale;
mod stats;

use std::process::ExitCode;

use clap::Parser;
use eviction::Eviction;
use measure::Bench;
use report::Report;
use scale::Scale;

/// Compares faultin with its peers, side by side: ratio = our time / the peer's.
///
/// Each operation and its peers run in one process on the same memory, in rounds, in random order; the ratio is the
/// median of the rounds' paired ratios, and the interval beside it contains that median with 95 % confidence. Results
/// are verified. A peer that did not run fails the table (exit status 1). A goal that was missed does not: times are
/// information, and depend on the machine.
#[derive(Parser)]
#[command(name = "faultin-bench", version)]
struct Args {
    /// What to compare; everything if absent
    #[arg(value_enum)]
    which: Option<Which>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Maximum number of rounds per case (default 21; slow cases run 11)
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// A smoke test: everything runs once or thrice, at small sizes; the times mean nothing
    #[arg(long)]
    quick: bool,
    /// Only cases whose name (`copy copy_in`) contains this
    #[arg(long, value_name = "STR")]
    filter: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// Copies of 1 byte to 256 MiB
    Copy,
    /// Loads, stores and atomic operations
    Load,
    /// The cost of a recovered fault
    Fault,
    /// Making memory accessible
    FaultIn,
    /// Proving that memory is accessible
    Probe,
    /// Mapped files
    Map,
    /// The page cache
    Cache,
    /// Faults resolved by this process
    Pager,
    /// The C library, which is built for this. Not a part of everything
    C,
    /// Growth: operations beside more and more mappings, as curves. Fails if one that should be flat is not. Not a part
    /// of everything
    Scale,
    /// Miss ratios of the cache beside other policies, and times by the number of files. Fails if a bound is missed. Not a
    /// part of everything
    Eviction,
}

type Run = fn(&mut Bench) -> Result<(), String>;

const BENCHES: [(Which, &str, Run); 9] = [
    (Which::Copy, "copy", copy::run),
    (Which::Load, "load", load::run),
    (Which::Fault, "fault", fault::run),
    (Which::FaultIn, "fault-in", fault_in::run),
    (Which::Probe, "probe", probe::run),
    (Which::Map, "map", map::run),
    (Which::Cache, "cache", cache::run),
    (Which::Pager, "pager", pager::run),
    (Which::C, "c", c::run),
];

/// Exits with 1 if a peer did not run.
fn main() -> ExitCode {
    // `faultin-bench sum FILE` is `faultin sum FILE`: `map` measures the command that was built with it.
    if std::env::args_os().nth(1).is_some_and(|first| first == "sum") {
        return faultin_cli::main();
    }
    let args = Args::parse();
    let growth = match args.which {
        Some(Which::Scale) => {
            Some(Scale::measure(args.quick).and_then(|scale| bounded(&args, &scale, scale.text(), scale.failures())))
        }
        Some(Which::Eviction) => Some(
            Eviction::measure(args.quick)
                .and_then(|eviction| bounded(&args, &eviction, eviction.text(), eviction.failures())),
        ),
        _ => None,
    };
    if let Some(ended) = growth {
        return ended.unwrap_or_else(|why| {
            eprintln!("faultin-bench: {why}");
            ExitCode::FAILURE
        });
    }
    match measure_all(&args) {
        Ok(report) if report.missing.is_empty() => ExitCode::SUCCESS,
        Ok(report) => {
            eprintln!("faultin-bench: {} did not run as they should:", report.missing.len());
            for what in &report.missing {
                eprintln!("  {what}");
            }
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("faultin-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what was measured. Exits with 1 if a bound is missed.
fn bounded(
    args: &Args,
    measured: &impl serde::Serialize,
    text: String,
    missed: Vec<String>,
) -> Result<ExitCode, String> {
    let json = || serde_json::to_string_pretty(measured).map(|text| text + "\n").map_err(|error| error.to_string());
    faultin_cli::print(&if args.json { json()? } else { text });
    // The figures of a smoke test mean nothing.
    if missed.is_empty() || args.quick {
        return Ok(ExitCode::SUCCESS);
    }
    missed.iter().for_each(|missed| eprintln!("faultin-bench: {missed}"));
    Ok(ExitCode::FAILURE)
}

fn measure_all(args: &Args) -> Result<Report, String> {
    faultin::install().map_err(|error| error.to_string())?;
    if cfg!(debug_assertions) && !args.quick {
        eprintln!("faultin-bench: a debug build: the times mean nothing");
    }
    let mut report = Report::default();
    for (which, title, run) in BENCHES {
        if args.which.map_or(which == Which::C, |wanted| wanted != which) {
            continue;
        }
        let mut bench = Bench::new(title, args.rounds, args.quick, args.filter.clone());
        let outcome = run(&mut bench);
        bench.finish();
        outcome.map_err(|why| format!("{title}: {why}"))?;
        if !args.json {
            faultin_cli::print(&text(&bench));
        }
        report.results.append(&mut bench.rows);
        report.goals.append(&mut bench.goals);
        report.missing.append(&mut bench.missing);
        report.skipped.append(&mut bench.skipped);
    }
    if report.results.is_empty() && report.missing.is_empty() && report.goals.is_empty() {
        return Err("nothing to measure: no case of that name".to_owned());
    }
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        faultin_cli::print(&(text + "\n"));
    }
    Ok(report)
}

/// Returns the report of one bench as text.
fn text(bench: &Bench) -> String {
    let mut text = String::new();
    if !bench.rows.is_empty() {
        text += &format!("{}\n\n", report::table(&bench.rows));
    }
    if !bench.goals.is_empty() {
        text += &format!("{}\n\n", report::goals(&bench.goals));
    }
    for what in &bench.skipped {
        text += &format!("skipped: {what}\n");
    }
    text
}
