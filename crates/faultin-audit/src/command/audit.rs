//! `faultin-audit`: runs the kernel's callers on memory that really faults and prints the results.

use std::fs;
use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use faultin_audit::render::text::{self, Style};
use faultin_audit::render::{html, json, markdown};
use faultin_audit::{Memory, Model, Scenario, Selection, run};
use similar::TextDiff;

use super::file;
use super::rows::{self, Callers, Which};

/// Runs the callers of the kernel's fault-in helpers, as found and fixed, on memory that really faults
///
/// Every cell of the table is executed and compared with a hand-written expectation. Exits with 0 only if every cell that
/// ran is as expected, and every skip names a feature that may be missing in this environment; with 1 if not, or if
/// --check finds a difference; with 2 if a requested item does not exist, or if a file cannot be read or written.
///
/// In the JSON, "ok" is true or false for a cell that ran; false for a skip that is not allowed here; null for a cell that
/// did not run and need not ("not yet", "skipped: …", "–"). A livelock is ∞. With a remapping thread "moved" is the sum
/// over all runs, and "rounds" the maximum of one run.
#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// Callers, by the kernel's name or by number [default: all]
    #[arg(value_name = "CALLER", value_parser = rows::parse)]
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

    /// Write a self-contained page: a heat map, and the steps of each cell [-: standard output]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "json", "trace"])]
    html: Option<PathBuf>,

    /// Write a document of everything that is the same on every machine, as docs/audit.md is [-: standard output]
    #[arg(long, value_name = "FILE", conflicts_with_all = PARTS)]
    markdown: Option<PathBuf>,

    /// Write nothing: exit with 1 if --markdown would change its file, and print what would change
    #[arg(long, requires = "markdown", conflicts_with = "html")]
    check: bool,
}

/// Options that exclude a document of everything.
const PARTS: [&str; 7] = ["callers", "scenarios", "variant", "memory", "list", "json", "trace"];

#[derive(Clone, Copy, ValueEnum)]
enum On {
    Host,
    Sim,
    Both,
}

fn scenario(name: &str) -> Result<Scenario, String> {
    Scenario::named(name)
        .ok_or_else(|| format!("no such scenario; there are\n  {}", Scenario::ALL.map(Scenario::slug).join("\n  ")))
}

impl Args {
    fn selection(&self) -> Selection {
        let mut selection = Selection::everything();
        if !self.callers.is_empty() {
            selection.callers = Callers::chosen(&self.callers);
        }
        if !self.scenarios.is_empty() {
            selection.scenarios.retain(|scenario| self.scenarios.contains(scenario));
        }
        selection.variants.retain(|variant| self.variant.has(*variant));
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
        super::print(&text::list(&selection.callers));
        return ExitCode::SUCCESS;
    }
    let outputs = [&args.html, &args.markdown].into_iter().flatten();
    let to_stdout = outputs.clone().filter(|path| file::is_stdout(path)).count();
    if to_stdout > 1 || (args.check && to_stdout > 0) {
        eprintln!("faultin-audit: --html and --markdown cannot both be standard output, and --check needs a file");
        return ExitCode::from(2);
    }
    let model = Model::of(&run::report(&selection));
    let mut ok = model.summary.ok;
    if args.json {
        super::print(&(json::text(&model) + "\n"));
    } else if args.trace {
        super::print(&text::traces(&model));
    } else if args.html.is_none() && args.markdown.is_none() {
        super::print(&text::table(&model, style()));
    } else {
        match args.write(&model) {
            Ok(unchanged) => ok &= unchanged,
            Err(error) => {
                eprintln!("faultin-audit: {error}");
                return ExitCode::from(2);
            }
        }
        let verdict = text::verdict(&model);
        if to_stdout > 0 { eprint!("{verdict}") } else { super::print(&verdict) }
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Args {
    /// Writes the requested files, or only compares. Returns `false` if a file that is only compared would change.
    fn write(&self, model: &Model) -> Result<bool, String> {
        if let Some(path) = &self.html {
            file::write(path, &html::page(model))?;
        }
        let Some(path) = &self.markdown else { return Ok(true) };
        let text = markdown::document(model, REGENERATE);
        if !self.check {
            file::write(path, &text)?;
            return Ok(true);
        }
        let unchanged = is_unchanged(path, &text)?;
        if !unchanged {
            super::print(&format!("To write what a run gives now: {REGENERATE}\n\n"));
        }
        Ok(unchanged)
    }
}

/// The command that writes this project's own document.
const REGENERATE: &str = "cargo run --release -p faultin-audit -- --markdown docs/audit.md";

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Compares, and prints the differences.
fn is_unchanged(path: &Path, now: &str) -> Result<bool, String> {
    let before = read(path)?;
    if before == now {
        return Ok(true);
    }
    let name = path.display();
    let diff = TextDiff::from_lines(before.as_str(), now);
    let diff = diff.unified_diff().context_radius(1).header(&format!("{name}"), "a run now").to_string();
    super::print(&format!("{name} is not what a run gives now:\n\n{diff}\n"));
    Ok(false)
}

/// Returns colours on a terminal, unless disabled as in <https://no-color.org>; and its width.
fn style() -> Style {
    const PIPED: u16 = 200;
    let terminal = stdout().is_terminal();
    let asked_for_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    Style { colour: terminal && !asked_for_none, width: width.or_else(text::terminal_width).unwrap_or(PIPED) }
}
