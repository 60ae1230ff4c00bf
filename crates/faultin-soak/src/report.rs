//! Progress and result.

use std::io::IsTerminal;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use super::tally::Kind;
use super::world::World;

/// How often a line is written where there is no terminal.
const LINES: Duration = Duration::from_secs(10);

/// Counters on standard error, while it runs.
pub struct Live {
    bar: Option<ProgressBar>,
    line: Mutex<Instant>,
}

impl Live {
    pub fn new(time: Duration) -> Live {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed} of {prefix}] {msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(format!("{}s", time.as_secs()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Live { bar, line: Mutex::new(Instant::now()) }
    }

    pub fn show(&self, world: &World) {
        if let Some(bar) = &self.bar {
            bar.set_message(now(world));
            return;
        }
        let mut line = self.line.lock();
        if line.elapsed() >= LINES {
            *line = Instant::now();
            eprintln!("{}", now(world));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Returns the counters in one line.
fn now(world: &World) -> String {
    let tally = &world.tally;
    let of = |kinds: &[Kind]| -> u64 { kinds.iter().map(|kind| tally.of(*kind)).sum() };
    let faults = faults(world);
    format!(
        "{} operations: {} reads, {} writes, {} loads and stores, {} cuts and holes, {} evictions; \
         faults {} in the signal, {} by the thread, {} by calls; {} store errors; {} differences",
        tally.operations(),
        of(&[Kind::Read, Kind::ReadDirect, Kind::ReadBad, Kind::Wander]),
        of(&[Kind::Write, Kind::WriteDirect, Kind::WriteBad, Kind::Append, Kind::AppendBad, Kind::Grow]),
        of(&[Kind::Load, Kind::Store, Kind::ViewRead, Kind::ViewWrite, Kind::Syscall]),
        of(&[Kind::SetLen, Kind::Punch]),
        of(&[Kind::DontNeed, Kind::DropClean]),
        faults[0],
        faults[1],
        faults[2],
        store_errors(world),
        u8::from(world.difference().is_some()),
    )
}

/// Returns the faults resolved in the signal, by the thread, by calls, and rejected: of dropped mappings, and of those that
/// threads share now.
fn faults(world: &World) -> [u64; 4] {
    let tally = &world.tally;
    let mut sum =
        [&tally.in_signal, &tally.by_thread, &tally.by_call, &tally.rejected].map(|count| count.load(Relaxed));
    for mapped in world.files.iter().flat_map(|file| file.pool.lock().clone()) {
        let faulted = mapped.mapping.fault_counts();
        for (sum, more) in sum.iter_mut().zip([faulted.in_signal, faulted.by_thread, faulted.by_call, faulted.rejected])
        {
            *sum += more;
        }
    }
    sum
}

fn store_errors(world: &World) -> u64 {
    world.files.iter().flat_map(|file| file.store.failed()).sum()
}

/// Returns everything as a table.
pub fn summary(world: &World, time: Duration, skipped: usize) -> String {
    const LINE: LineStyle = LineStyle::none().fill('─').junction('─');
    let style = TableStyle::new().top_border(LINE).header_separator(LINE).bottom_border(LINE);
    let mut table = Table::new();
    table.load_style(style).set_header(["what", "how many"]);
    let mut row = |what: &str, count: u64| {
        table.add_row([Cell::new(what), Cell::new(count).set_alignment(CellAlignment::Right)]);
    };
    let tally = &world.tally;
    for kind in Kind::ALL {
        row(kind.name(), tally.of(*kind));
    }
    row("operations in all", tally.operations());
    row("evictions by threads that do nothing else", tally.evictions.load(Relaxed));
    row("times that these have ended", tally.bursts.load(Relaxed));
    row("parts of buffers that were mappings", tally.mapped_buffers.load(Relaxed));
    let faults = faults(world);
    for (who, count) in ["in the signal", "by the pager's thread", "by a call", "rejected"].iter().zip(faults) {
        row(&format!("faults {who}"), count);
    }
    let stores = || world.files.iter().map(|file| &file.store);
    row("reads of the stores", stores().map(|store| store.reads.load(Relaxed)).sum());
    row("writes of the stores", stores().map(|store| store.writes.load(Relaxed)).sum());
    row("errors of the stores", store_errors(world));
    row("operations that these have ended", tally.excused.load(Relaxed));
    row("operations that gave up on their buffer", tally.gave_up.load(Relaxed));
    row("system calls that had to be repeated", tally.repeated.load(Relaxed));
    row("modes skipped", skipped as u64);
    row("differences", u64::from(world.difference().is_some()));
    format!("{table}\n{:.1} s\n", time.as_secs_f64())
}
