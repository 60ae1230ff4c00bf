//! A test that hangs is a test that fails.

use std::io::Write;
use std::sync::Once;
use std::thread;
use std::time::Duration;

/// What all tests of a process may take. Far more than they need on a busy machine, or an emulated one.
const LIMIT: Duration = Duration::from_secs(600);

/// Ends the process, with a message, if it is still there when the time is up.
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
