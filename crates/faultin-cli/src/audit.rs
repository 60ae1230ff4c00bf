//! `faultin audit`: runs the kernel's callers on memory that really faults and prints what came of it.

use std::io::{IsTerminal, stdout};
use std::process::ExitCode;

use clap::ValueEnum;
use faultin_audit::table::{self, Style};
use faultin_audit::{Caller, Memory, Scenario, Selection, Variant, callers, json, run};

/// Runs the callers of the kernel's fault-in helpers, as found and fixed, on memory that really faults
///
/// Every cell of the table is executed and compared with an expectation written by hand. Exits with 0 only if every cell
/// that ran is as expected, and every skip names a feature that may be missing in this environment; with 1 if not; with 2
/// if asked for what there is not.
///
/// In the JSON, "ok" is true or false where the cell ran; false, too, for a skip that is not allowed here; null where it
/// did not run and need not have ("not yet", "skipped: …"). A livelock is ∞. Beside a remapping thread "moved" is the sum
/// over all runs, and "rounds" the most of one.
#[derive(clap::Args)]
pub struct Args {
    /// Callers, by the kernel's name or by number [default: all]
    #[arg(value_name = "CALLER", value_parser = caller)]
    callers: Vec<Callers>,

    /// Only this scenario (may be repeated)
    #[arg(long = "scenario", value_name = "SCENARIO", value_parser = scenario)]
    scenarios: Vec<Scenario>,

    /// Which code of the callers
    #[arg(long, value_enum, default_value_t = Which::Both)]
    variant: Which,

    /// Which memory to run on: this process', or simulated
    #[arg(long, value_enum, default_value_t = On::Both)]
    memory: On,

    /// Print the steps of each cell
    #[arg(long, conflicts_with_all = ["list", "json"])]
    trace: bool,

    /// List the callers and the scenarios, and run nothing
    #[arg(long, conflicts_with = "json")]
    list: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The rows one name stands for.
type Callers = Names<Caller>;

/// What clap takes for one value though it is several.
#[derive(Clone)]
struct Names<T>(Vec<T>);

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    AsFound,
    Fixed,
    Both,
}

#[derive(Clone, Copy, ValueEnum)]
enum On {
    Host,
    Sim,
    Both,
}

fn caller(name: &str) -> Result<Callers, String> {
    match callers::named(name) {
        rows if rows.is_empty() => {
            Err(format!("no such caller; there are 1 to 20, or\n  {}", table::names().0.join("\n  ")))
        }
        rows => Ok(Names(rows)),
    }
}

fn scenario(name: &str) -> Result<Scenario, String> {
    Scenario::named(name).ok_or_else(|| format!("no such scenario; there are\n  {}", table::names().1.join("\n  ")))
}

impl Args {
    fn selection(&self) -> Selection {
        let mut selection = Selection::everything();
        if !self.callers.is_empty() {
            selection.callers = self.callers.iter().flat_map(|names| names.0.clone()).collect();
            selection.callers.sort_by_key(|caller| caller.row);
            selection.callers.dedup_by_key(|caller| caller.row);
        }
        if !self.scenarios.is_empty() {
            selection.scenarios.retain(|scenario| self.scenarios.contains(scenario));
        }
        selection.variants.retain(|variant| match self.variant {
            Which::AsFound => *variant == Variant::AsFound,
            Which::Fixed => *variant == Variant::Fixed,
            Which::Both => true,
        });
        selection.memories.retain(|memory| match self.memory {
            On::Host => *memory == Memory::Host,
            On::Sim => *memory == Memory::Sim,
            On::Both => true,
        });
        selection
    }
}

/// Runs the subcommand.
pub fn run(args: &Args) -> ExitCode {
    let selection = args.selection();
    if args.list {
        crate::print(&table::list(&selection.callers));
        return ExitCode::SUCCESS;
    }
    let report = run::report(&selection);
    if args.json {
        crate::print(&(json::text(&report) + "\n"));
    } else if args.trace {
        crate::print(&table::traces(&report));
    } else {
        crate::print(&table::table(&report, style()));
    }
    if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Colours on a terminal, unless <https://no-color.org> asks for none; as wide as that is.
fn style() -> Style {
    const PIPED: u16 = 200;
    let terminal = stdout().is_terminal();
    let asked_for_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    Style { colour: terminal && !asked_for_none, width: width.or_else(table::terminal_width).unwrap_or(PIPED) }
}
