//! `faultin demo`: three ways in which a program loses memory, each tried with a plain mapping, which dies of it, and with
//! this library, which reports the count and the reason.
//!
//! | module | has |
//! |---|---|
//! | `truncated`, `device`, `peer` | the scenes: the accesses, and the event that takes the memory away |
//! | `child` | the processes that access the memory, how they end, and how they wait for the event |
//! | `plain` | the accesses that every program makes: through a raw pointer into a mapping |
//! | `folder` | a temporary folder |
//! | `told` | the output |

mod child;
mod device;
mod folder;
mod peer;
mod plain;
mod told;
mod truncated;

use std::process::ExitCode;

use child::{Ending, Stage};
use device::Device;
use faultin::MapError;
use told::{Paint, Told};

/// Shows what kills a program that uses mapped memory, and what this library makes of it
///
/// Three scenes, on this machine and in a second: a file that is truncated while it is read, a device that fills up while it is
/// written to, and a process that shrinks the memory it shares. In each, one process accesses a plain mapping and dies of
/// SIGBUS, and another one makes the same accesses through faultin. Needs no privileges; files are written to a temporary
/// folder, and removed.
///
/// Exits with 0 if each scene went as it says, with 1 if not. A scene that a machine has no means for is skipped, and says what
/// is missing; if all are, that is a failure.
#[derive(clap::Args)]
pub struct Args {
    /// What is full in the second scene [default: the first of these that this machine has]
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
    fn there_are(&self) -> u64;

    /// Restores the initial state, before each child.
    fn prepare(&self) -> Result<(), Missing> {
        Ok(())
    }

    /// Accesses the memory in a separate process, up to the error. It is taken away during [`Stage::pause`].
    fn access(&self, way: Way, stage: &mut Stage) -> Result<Stopped, Missing>;

    /// Takes the memory away, in this process, while the other one pauses.
    fn take_away(&self) -> std::io::Result<()> {
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
    crate::print(&told::opening(paint));
    for (number, scene) in (1..).zip(scenes(args)) {
        match scene.and_then(|scene| show(number, &*scene, paint)) {
            Ok(true) => shown += 1,
            Ok(false) => failed += 1,
            Err(Missing(what)) => crate::print(&told::skipped(number, &what, paint)),
        }
    }
    crate::print(&told::closing(shown, failed, paint));
    if shown > 0 && failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn scenes(args: &Args) -> [Result<Box<dyn Scene>, Missing>; 3] {
    fn scene(scene: Result<impl Scene + 'static, Missing>) -> Result<Box<dyn Scene>, Missing> {
        scene.map(|scene| Box::new(scene) as Box<dyn Scene>)
    }
    [scene(truncated::Truncated::new()), scene(device::Full::new(args.device)), scene(peer::Shrinks::new())]
}

/// Shows a scene, and returns whether it went as described.
fn show(number: u32, scene: &dyn Scene, paint: Paint) -> Result<bool, Missing> {
    let ending = |way| -> Result<Ending, Missing> {
        scene.prepare()?;
        child::run(|stage| scene.access(way, stage), || scene.take_away())
    };
    let told = Told { number, scene, plain: ending(Way::Plain)?, ours: ending(Way::Faultin)? };
    crate::print(&told.text(paint));
    Ok(told.is_as_claimed())
}
