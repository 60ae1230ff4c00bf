//! A watchdog for stuck threads.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::world::World;

/// Ends the process, and prints what all threads were doing, if a thread does not complete its operation within `patience`.
pub fn watch(world: Arc<World>, patience: Duration) {
    thread::spawn(move || {
        let mut seen: Vec<(u64, Instant)> = world.trails.iter().map(|_| (0, Instant::now())).collect();
        loop {
            thread::sleep(Duration::from_millis(100));
            for (number, (trail, (operations, since))) in world.trails.iter().zip(&mut seen).enumerate() {
                let now = trail.operations();
                if now != *operations || trail.has_ended() {
                    (*operations, *since) = (now, Instant::now());
                }
                if since.elapsed() > patience {
                    let mut stderr = std::io::stderr().lock();
                    let _ =
                        writeln!(stderr, "faultin-soak: thread {number} is stuck; the seed is {}", world.setup.seed);
                    let _ = stderr.write_all(world.trails().as_bytes());
                    let _ = stderr.write_all(tasks().as_bytes());
                    std::process::exit(1);
                }
            }
        }
    });
}

/// Returns the kernel's view of each thread: its name, its state, the system call with its arguments, and where it waits,
/// as far as the kernel reports it.
fn tasks() -> String {
    let mut told = String::from("threads, in the kernel:\n");
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let of = |what: &str| fs::read_to_string(task.path().join(what)).unwrap_or_default().trim().to_owned();
        let stat = of("stat");
        let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).unwrap_or("?").to_owned();
        let number = task.file_name();
        let _ = writeln!(told, "    {} {}, {state}: {}, {}", number.display(), of("comm"), of("syscall"), of("wchan"));
    }
    told
}
