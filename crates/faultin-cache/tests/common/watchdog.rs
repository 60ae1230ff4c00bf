//! A watchdog that turns a hang into a failure.

use std::io::Write;
use std::sync::Once;
use std::thread;
use std::time::Duration;

/// The time limit for all tests of a process, far more than they need on a busy or emulated machine.
const LIMIT: Duration = Duration::from_secs(600);

/// Ends the process with a message if it is still running when the time limit expires.
pub fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        thread::spawn(|| {
            thread::sleep(LIMIT);
            let _ = writeln!(std::io::stderr(), "watchdog: a test hangs; after {LIMIT:?} this process ends itself");
            std::process::abort();
        });
    });
}
