//! `faultin demo`: three ways in which a program loses memory, each tried with a plain mapping, which dies of it, and with
//! this library, which reports the count and the reason.
//!
//! | module | has |
//! |---|---|
//! | `truncated`, `device`, `peer` | the scenes: the accesses, and the event that takes the memory away |
//! | `child` | the processes that access the memory, how they end, and how they wait for the event |
//! | `plain` | the accesses that every program makes: through a raw pointer into a mapping |
//! | `folder` | a temporary folder |
//! | `output` | the text that is printed |

mod child;
mod device;
mod folder;
mod output;
mod peer;
mod plain;
mod truncated;

use std::process::ExitCode;

use child::{Ending, Stage};
use device::Device;
use faultin::MapError;
use output::{Paint, SceneReport};

/// Show three programs that die of SIGBUS, and the same accesses through faultin
///
/// The scenes run on this machine: a file is truncated while it is read, a device fills up while it is written to, and a process
/// shrinks memory that it shares. In each scene, one process accesses a plain mapping and dies of SIGBUS, and another process
/// makes the same accesses through faultin and gets an error with the exact number of bytes.
///
/// Needs no privileges. Writes at most 4 MiB to a temporary folder, and removes it. A scene whose device this machine lacks is
/// skipped, with the reason.
///
/// Exit status: 0 if at least one scene ran and each of them went as described, 1 if not, 2 for wrong arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The full device of the second scene [default: the first of these that this machine supports]
    #[arg(long, value_enum, value_name = "DEVICE")]
    device: Option<Device>,
}

/// The reason why a scene cannot be shown on this machine.
struct Missing(String);

impl Missing {
    fn because(what: &str, why: impl std::fmt::Display) -> Missing {
        Missing(format!("{what}: {why}"))
    }
}

/// The kind of accesses.
#[derive(Clone, Copy)]
enum Way {
    /// Through a pointer into a mapping, as in any program.
    Plain,
    /// Through this library.
    Faultin,
}

/// Memory that is taken away while it is accessed.
trait Scene {
    /// Returns a title of one line.
    fn title(&self) -> &'static str;

    /// Returns a description for a person who has never thought about it.
    fn story(&self) -> String;

    /// Returns the number of bytes to access before the memory ends.
    fn accessible(&self) -> u64;

    /// Restores the initial state, before each child.
    fn prepare(&self) -> Result<(), Missing> {
        Ok(())
    }

    /// Accesses the memory in a separate process, up to the error. It is taken away during [`Stage::pause`].
    fn access(&self, way: Way, stage: &mut Stage) -> Result<Stopped, Missing>;

    /// Takes the memory away, in this process, while the other one pauses.
    fn remove(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The end of accesses that did not kill their process.
struct Stopped {
    /// Number of bytes that were accessed.
    done: u64,
    /// The error; empty if there was none.
    why: String,
}

/// Reads `len` bytes with `read`, and pauses after the `first` ones.
fn in_two_parts(
    len: usize,
    first: usize,
    stage: &mut Stage,
    read: impl Fn(&mut [u8], u64) -> Result<(), MapError>,
) -> Result<Stopped, Missing> {
    let mut bytes = vec![0; len];
    let (before, after) = bytes.split_at_mut(first);
    let stopped =
        |start: usize, error: MapError| Stopped { done: (start + error.done()) as u64, why: error.to_string() };
    if let Err(error) = read(before, 0) {
        return Ok(stopped(0, error));
    }
    stage.pause()?;
    Ok(match read(after, first as u64) {
        Ok(()) => Stopped { done: len as u64, why: String::new() },
        Err(error) => stopped(first, error),
    })
}

/// Runs the subcommand.
pub fn run(args: &Args) -> ExitCode {
    let paint = Paint::of_stdout();
    let (mut shown, mut failed) = (0, 0);
    let mut told = crate::printed(&output::opening(paint));
    for (number, scene) in (1..).zip(scenes(args)) {
        match scene.and_then(|scene| show(number, &*scene, paint)) {
            Ok(true) => shown += 1,
            Ok(false) => failed += 1,
            Err(Missing(what)) => told &= crate::printed(&output::skipped(number, &what, paint)),
        }
    }
    told &= crate::printed(&output::closing(shown, failed, paint));
    if told && shown > 0 && failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn scenes(args: &Args) -> [Result<Box<dyn Scene>, Missing>; 3] {
    fn scene(scene: Result<impl Scene + 'static, Missing>) -> Result<Box<dyn Scene>, Missing> {
        scene.map(|scene| Box::new(scene) as Box<dyn Scene>)
    }
    [scene(truncated::Truncated::new()), scene(device::Full::new(args.device)), scene(peer::Shrinks::new())]
}

/// Shows a scene, and returns whether it went as described and could be printed.
fn show(number: u32, scene: &dyn Scene, paint: Paint) -> Result<bool, Missing> {
    let ending = |way| -> Result<Ending, Missing> {
        scene.prepare()?;
        child::run(|stage| scene.access(way, stage), || scene.remove())
    };
    let report = SceneReport { number, scene, plain: ending(Way::Plain)?, ours: ending(Way::Faultin)? };
    Ok(crate::printed(&report.text(paint)) && report.went_as_described())
}
