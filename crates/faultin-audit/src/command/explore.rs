//! `faultin-audit explore`: the callers with every event that can happen to them, up to a bound.

use std::process::ExitCode;
use std::time::Duration;

use clap::builder::TypedValueParser;
use faultin_audit::explore::{Bound, Exploration, Figures, explore};
use faultin_audit::{Scenario, Variant, callers};
use indicatif::{ProgressBar, ProgressStyle};

use super::rows::{self, Callers, Which};

/// Explores the callers on small simulated memory: everything that can be the matter, everything an adversary can do
///
/// A caller is run with every fault at every place from the beginning, and with every action of an adversary between any
/// two of its accesses, up to the bound. It has to end, with a right product and count, in a way that the table knows, with
/// no lock held, no wait under a lock and no attempt too many. A violation is printed with the shortest script that shows
/// it. Rows 17 to 20 are explored with a buffer of plain memory, and with buffers that behave like mappings of the file.
/// Known for the callers as found: rows 5, 14 and 15 do not terminate; rows 17 to 20 wait for a page, and for themselves,
/// under the lock.
///
/// Exits with 0 if the fixed variants violate nothing and everything within the bound was tried, with 1 if not.
#[derive(clap::Args)]
pub struct Args {
    /// Callers, by the kernel's name or by number [default: all]
    #[arg(value_name = "CALLER", value_parser = rows::parse)]
    callers: Vec<Callers>,

    /// Which code of the callers
    #[arg(long, value_enum, default_value_t = Which::Both)]
    variant: Which,

    /// Maximum number of faults from the beginning
    #[arg(long, value_name = "N", default_value_t = Bound::TESTS.faults, value_parser = clap::value_parser!(u8).range(0..=4).map(usize::from))]
    faults: usize,

    /// Maximum number of actions of the adversary in a run
    #[arg(long, value_name = "N", default_value_t = Bound::TESTS.actions, value_parser = clap::value_parser!(u8).range(0..=8).map(usize::from))]
    actions: usize,

    /// Number of states of one caller and variant after which its search is given up; 100 to 200 bytes of memory each
    #[arg(long, value_name = "N", default_value_t = 20_000_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000_000).map(|n| n as usize))]
    states: usize,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> ExitCode {
    let chosen = match args.callers.is_empty() {
        true => callers::all(),
        false => Callers::chosen(&args.callers),
    };
    let bound = Bound { faults: args.faults, actions: args.actions, states: args.states };
    let (mut sum, mut sound) = (Figures::default(), true);
    for caller in &chosen {
        let name = format!("{} {} ({})", caller.row, caller.name, caller.place);
        let Some(job) = caller.job else {
            super::print(&format!("{name}: not yet\n"));
            continue;
        };
        let mut buffers = vec![(job, String::new())];
        if let Some(mapped) = caller.mapped {
            let served =
                |pages: Scenario| (mapped.simulated(pages), format!(" with a mapping of the {}", pages.name()));
            buffers.extend([Scenario::SamePages, Scenario::OtherPages].map(served));
        }
        let variants = || Variant::ALL.into_iter().filter(|variant| args.variant.has(*variant));
        for ((job, buffer), variant) in
            buffers.iter().flat_map(|buffer| variants().map(move |variant| (buffer, variant)))
        {
            let name = format!("{name}{buffer}, {}", variant.name());
            let bar = progress(&name);
            let found = explore(caller, *job, variant, bound, None, |figures| {
                bar.set_message(format!("{} states, {} accesses", figures.states, figures.steps));
            });
            bar.finish_and_clear();
            super::print(&told(&name, &found));
            sound &= found.exhausted && (variant == Variant::AsFound || found.findings.is_empty());
            sum.layouts += found.figures.layouts;
            sum.states += found.figures.states;
            sum.scripts += found.figures.scripts;
            sum.steps += found.figures.steps;
            sum.longest = sum.longest.max(found.figures.longest);
        }
    }
    super::print(&format!("all: {}\n", in_words(&sum)));
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Shown on a terminal only, on standard error.
fn progress(name: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_prefix(name.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {msg} [{elapsed}]") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn told(name: &str, found: &Exploration) -> String {
    let complete = if found.exhausted { "" } else { "; GIVEN UP, more states would be needed" };
    let mut text = format!("{name}: {}{complete}\n", in_words(&found.figures));
    for finding in &found.findings {
        for line in finding.to_string().lines() {
            text += &format!("    {line}\n");
        }
    }
    text
}

fn in_words(figures: &Figures) -> String {
    let Figures { layouts, states, scripts, steps, longest } = figures;
    format!("{layouts} beginnings, {scripts} scripts, {states} states, {steps} accesses, {longest} in the longest run")
}
