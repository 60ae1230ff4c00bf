//! `faultin-bench`: this crate compared with common alternatives, in one run.
//!
//! | module | purpose |
//! |---|---|
//! | `measure` | the method: rounds and ratios of a `case`, from each `sample`, with the arithmetic of `stats` |
//! | `memory` | the memory that the cases run on |
//! | `c` | the C library |
//! | `copy`, `load`, `fault`, `fault_in`, `probe`, `map`, `cache`, `threads`, `pager` | the comparisons and the goals |
//! | `scale` | operations whose cost may grow with the number of mappings, maps or files; misses of the cache |
//! | `ranges` | many ranges of a file that is larger than the cache |
//! | `peers` | the alternatives |
//! | `report`, `render` | the results as tables and JSON; as plots and a page |
//! | `environment` | where and when they were measured |

mod c;
mod cache;
mod case;
mod copy;
mod environment;
mod fault;
mod fault_in;
mod load;
mod map;
mod measure;
mod memory;
mod pager;
mod peers;
mod probe;
mod ranges;
mod render;
mod report;
mod sample;
mod scale;
mod stats;
mod threads;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use environment::Environment;
use measure::Bench;
use ranges::Ranges;
use report::Report;
use scale::{Effort, Scale};

/// Compares faultin with its peers, side by side: ratio = our time / the peer's.
///
/// Each operation and its peers run in one process on the same memory, in rounds, in random order; the ratio is the
/// median of the rounds' paired ratios, and the interval beside it contains that median with 95 % confidence. Results
/// are verified. A peer that did not run fails the table (exit status 1). A goal that was missed does not: times are
/// information, and depend on the machine. `scale` fails if a curve grows that should be flat, or a ratio that does not
/// depend on the machine misses its bound.
#[derive(Parser)]
#[command(name = "faultin-bench", version)]
struct Args {
    /// What to compare; everything if absent
    #[arg(value_enum)]
    which: Vec<Which>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Also write one page, with plots and all tables, that needs no other file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Also write each plot of `scale` as an SVG file
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Maximum number of rounds per case (default 21; slow cases run 11). `scale` has its own
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// `scale` with fewer numbers and rounds: about half a minute
    #[arg(long)]
    short: bool,
    /// A smoke test: everything runs once or thrice, at small sizes; the times mean nothing
    #[arg(long)]
    quick: bool,
    /// Only cases whose name (`copy copy_in`) contains this, and parts of `scale`
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
    /// Several threads beside one
    Threads,
    /// Faults resolved by this process
    Pager,
    /// The C library, which is built for this. Not a part of everything
    C,
    /// Growth: operations beside more and more mappings, maps and files, as curves; misses of the cache beside other
    /// policies; and `threads`. Fails if a curve grows that should be flat. Not a part of everything
    Scale,
    /// 20,000 ranges of a file of 4 GiB in the temporary directory, beside a raw mapping, preads and io_uring. Fails if a
    /// bound is missed. Not a part of everything
    Ranges,
}

type Run = fn(&mut Bench) -> Result<(), String>;

const BENCHES: [(Which, &str, Run); 10] = [
    (Which::Copy, "copy", copy::run),
    (Which::Load, "load", load::run),
    (Which::Fault, "fault", fault::run),
    (Which::FaultIn, "fault-in", fault_in::run),
    (Which::Probe, "probe", probe::run),
    (Which::Map, "map", map::run),
    (Which::Cache, "cache", cache::run),
    (Which::Threads, "threads", threads::run),
    (Which::Pager, "pager", pager::run),
    (Which::C, "c", c::run),
];

/// Exits with 1 if a peer did not run, or growth has failed.
fn main() -> ExitCode {
    // `faultin-bench sum FILE` is `faultin sum FILE`: `map` measures the command that was built with it.
    if std::env::args_os().nth(1).is_some_and(|first| first == "sum") {
        return faultin_cli::main();
    }
    let args = Args::parse();
    let failures = measure_all(&args).and_then(|report| {
        written(&args, &report)?;
        Ok(failures(&args, &report))
    });
    match failures {
        Ok(failures) if failures.is_empty() => ExitCode::SUCCESS,
        Ok(failures) => {
            failures.iter().for_each(|what| eprintln!("faultin-bench: {what}"));
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("faultin-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Returns what makes the run a failure, in words.
fn failures(args: &Args, report: &Report) -> Vec<String> {
    let missing = report.missing.iter().map(|what| format!("did not run as it should: {what}"));
    // The figures of a smoke test mean nothing.
    let scale = report.scale.as_ref().filter(|_| !args.quick).map(Scale::failures).unwrap_or_default();
    let ranges = report.ranges.as_ref().filter(|_| !args.quick).map(Ranges::failures).unwrap_or_default();
    missing.chain(scale).chain(ranges).collect()
}

/// Writes the files that were requested.
fn written(args: &Args, report: &Report) -> Result<(), String> {
    let write =
        |path: &Path, text: &str| std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()));
    if let Some(path) = &args.html {
        write(path, &render::page(report))?;
    }
    if let (Some(folder), Some(scale)) = (&args.plots, &report.scale) {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for (name, svg) in render::files(scale, &report.environment) {
            write(&folder.join(name), &svg)?;
        }
    }
    Ok(())
}

fn measure_all(args: &Args) -> Result<Report, String> {
    faultin::install().map_err(|error| error.to_string())?;
    if cfg!(debug_assertions) && !args.quick {
        eprintln!("faultin-bench: a debug build: the times mean nothing");
    }
    let with_scale = args.which.contains(&Which::Scale);
    if args.plots.is_some() && !with_scale {
        return Err("--plots needs `scale`".to_owned());
    }
    let mut report = Report { environment: Environment::at_start(), ..Report::default() };
    for (which, title, run) in BENCHES {
        let is_wanted = if args.which.is_empty() { which != Which::C } else { args.which.contains(&which) };
        if !is_wanted {
            continue;
        }
        let mut bench = Bench::new(title, args.rounds, args.quick, args.filter.clone());
        let outcome = run(&mut bench);
        bench.finish();
        outcome.map_err(|why| format!("{title}: {why}"))?;
        if !args.json {
            print(&text(&bench))?;
        }
        bench.goals.iter_mut().for_each(|goal| goal.bench = title);
        report.results.append(&mut bench.rows);
        report.goals.append(&mut bench.goals);
        report.missing.append(&mut bench.missing);
        report.skipped.append(&mut bench.skipped);
    }
    if with_scale {
        let effort = match (args.quick, args.short) {
            (true, _) => Effort::Quick,
            (false, true) => Effort::Short,
            (false, false) => Effort::Long,
        };
        let mut scale = Scale::measure(effort, args.filter.as_deref())?;
        if !args.json {
            print(&scale.text())?;
        }
        report.skipped.append(&mut scale.skipped);
        report.missing.append(&mut scale.missing);
        report.scale = Some(scale);
    }
    if args.which.contains(&Which::Ranges) {
        let ranges = Ranges::measure(args.quick, args.rounds, args.filter.as_deref())?;
        if !args.json {
            print(&ranges.text())?;
        }
        report.ranges = Some(ranges);
    }
    report.environment.at_end();
    let has_rows = !report.results.is_empty() || !report.missing.is_empty() || !report.goals.is_empty();
    if !has_rows && report.scale.is_none() && report.ranges.is_none() {
        return Err("nothing to measure: no case of that name".to_owned());
    }
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        print(&(text + "\n"))?;
    }
    Ok(report)
}

/// Prints a result.
fn print(text: &str) -> Result<(), String> {
    if faultin_cli::printed(text) { Ok(()) } else { Err("a result could not be printed".to_owned()) }
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
