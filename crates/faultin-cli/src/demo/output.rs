//! The output of the demo.

use std::fmt::Write;
use std::io::{IsTerminal, stdout};

use super::child::Ending;
use super::{Scene, Stopped};

/// Number of characters of a line.
const WIDTH: usize = 96;

const STRING: &str = "a string takes everything";

/// Colours on a terminal, unless disabled as in <https://no-color.org>.
#[derive(Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// Returns whether standard output can show them.
    pub fn of_stdout() -> Paint {
        let asked_for_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Paint(stdout().is_terminal() && !asked_for_none)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    fn green(self, text: &str) -> String {
        self.with("32", text)
    }
}

/// Returns the introduction of the demo.
pub fn opening(paint: Paint) -> String {
    let title =
        paint.bold("Memory that may fault: programs that end with \"Bus error\", and the same programs with faultin");
    let story = "A program accesses a mapped file, or memory that processes share, as any other memory. But another process can \
                 remove that memory, and then the next access kills the program. This demo shows three such events on this \
                 machine. In each scene, one process accesses a plain mapping, and another process makes the same accesses \
                 through faultin.";
    format!("{title}\n\n{}\n\n", wrapped(story, ""))
}

/// Returns the text for a scene that this machine cannot show.
pub fn skipped(number: u32, what: &str, paint: Paint) -> String {
    format!("{}\n{}\n\n", paint.bold(&format!("Scene {number}")), wrapped(&format!("skipped: {what}"), "   "))
}

/// The observations of a scene.
pub struct SceneReport<'a> {
    pub number: u32,
    pub scene: &'a dyn Scene,
    pub plain: Ending,
    pub ours: Ending,
}

impl SceneReport<'_> {
    /// Returns whether the plain mapping died of SIGBUS, and ours returned an error with the exact count.
    pub fn went_as_described(&self) -> bool {
        self.plain_died() && self.ours_stopped()
    }

    fn plain_died(&self) -> bool {
        matches!(self.plain, Ending::Killed { signal: libc::SIGBUS, .. })
    }

    fn ours_stopped(&self) -> bool {
        matches!(&self.ours, Ending::Stopped(Stopped { done, why }) if *done == self.scene.accessible() && !why.is_empty())
    }

    /// Returns the scene, and both endings.
    pub fn text(&self, paint: Paint) -> String {
        let mut out = format!("{}\n", paint.bold(&format!("{}. {}", self.number, self.scene.title())));
        writeln!(out, "{}\n", wrapped(&self.scene.story(), "   ")).expect(STRING);
        let plain = in_words(&self.plain);
        let plain = if self.plain_died() { paint.red(&plain) } else { plain };
        writeln!(out, "   plain mapping   {plain}").expect(STRING);
        if let Ending::Killed { done, .. } = self.plain
            && let too_many @ 1.. = done.saturating_sub(self.scene.accessible())
        {
            writeln!(out, "                   (the last {too_many} of them zeros, which were never in the file)")
                .expect(STRING);
        }
        let ours = in_words(&self.ours);
        let ours = if self.ours_stopped() { paint.green(&ours) } else { ours };
        writeln!(out, "   faultin         {ours}").expect(STRING);
        if !self.plain_died() {
            writeln!(out, "   ✗ the plain mapping was to die of SIGBUS").expect(STRING);
        }
        if !self.ours_stopped() {
            let accessible = self.scene.accessible();
            writeln!(out, "   ✗ faultin was to return an error after {accessible} bytes").expect(STRING);
        }
        out.push('\n');
        out
    }
}

fn in_words(ending: &Ending) -> String {
    match ending {
        Ending::Killed { signal, done } => {
            let name = match *signal {
                libc::SIGBUS => " (SIGBUS, \"Bus error\")",
                libc::SIGSEGV => " (SIGSEGV)",
                libc::SIGALRM => " (SIGALRM: it took too long)",
                _ => "",
            };
            format!("killed by signal {signal}{name} after {done} bytes")
        }
        Ending::Stopped(Stopped { done, why }) if why.is_empty() => format!("{done} bytes, and no error"),
        Ending::Stopped(Stopped { done, why }) => {
            format!("{done} bytes, then an error, and the process goes on:\n                   {why}")
        }
        Ending::Odd(how) => how.clone(),
    }
}

/// Returns the summary, and the commands to try next.
pub fn closing(shown: u32, failed: u32, paint: Paint) -> String {
    let sum = match (shown, failed) {
        (0, 0) => "No scene can be shown on this machine; the reasons are above.".to_owned(),
        (_, 0) => format!(
            "{} of 3 scenes: the plain mapping died, and faultin returned the exact number of bytes and the reason.",
            shown
        ),
        _ => paint.red(&format!("{failed} of 3 scenes did not go as described (✗).")),
    };
    // Cargo sets this variable for the programs that it runs.
    let in_sources = std::env::var_os("CARGO_MANIFEST_DIR").is_some();
    let program = if in_sources { "cargo run --release --" } else { "faultin" };
    let mut next = vec![
        (
            format!("{program} sum FILE"),
            "prints the BLAKE3 checksum of a file, as b3sum does; a file that is truncated meanwhile is an error message, not \
             a crash",
        ),
        (
            format!("{program} guard -- CMD"),
            "runs any program unmodified, and explains its \"Bus error\": the file, the byte, the cause and a remedy",
        ),
    ];
    if in_sources {
        next.push((
            "cargo run --example".into(),
            "lists programs to start your own from: grep, hash, a server that shares memory",
        ));
    }
    let mut out = format!("{}\n\nNext:\n", paint.bold(&sum));
    for (command, what) in next {
        writeln!(out, "   {}\n{}", paint.bold(&command), wrapped(what, "      ")).expect(STRING);
    }
    out
}

/// Returns the text in lines, each after `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let mut out = indent.to_owned();
    let mut line = indent.len();
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if line > indent.len() && line + 1 + len > WIDTH {
            out += &format!("\n{indent}{word}");
            line = indent.len() + len;
        } else {
            if line > indent.len() {
                out.push(' ');
                line += 1;
            }
            out += word;
            line += len;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::child::Stage;
    use super::super::{Missing, Way};
    use super::*;

    /// A scene with 100 bytes.
    struct Hundred;

    impl Scene for Hundred {
        fn title(&self) -> &'static str {
            "A title"
        }

        fn story(&self) -> String {
            "A story".into()
        }

        fn accessible(&self) -> u64 {
            100
        }

        fn access(&self, _: Way, _: &mut Stage) -> Result<Stopped, Missing> {
            Err(Missing("never accessed".into()))
        }
    }

    fn killed(signal: i32) -> Ending {
        Ending::Killed { signal, done: 100 }
    }

    fn stopped(done: u64, why: &str) -> Ending {
        Ending::Stopped(Stopped { done, why: why.into() })
    }

    #[test]
    fn a_scene_went_as_described_only_if_both_halves_did() {
        let died = || killed(libc::SIGBUS);
        let said = || stopped(100, "an error");
        for (plain, ours, complaints) in [
            (died(), said(), 0),
            (killed(libc::SIGSEGV), said(), 1),
            (stopped(100, ""), said(), 1),
            (stopped(100, "an error"), said(), 1),
            (died(), stopped(99, "an error"), 1),
            (died(), stopped(101, "an error"), 1),
            (died(), stopped(100, ""), 1),
            (died(), died(), 1),
            (died(), Ending::Odd("odd".into()), 1),
            (Ending::Odd("odd".into()), died(), 2),
        ] {
            let report = SceneReport { number: 1, scene: &Hundred, plain, ours };
            let text = report.text(Paint(false));
            assert_eq!(report.went_as_described(), complaints == 0, "{text}");
            assert_eq!(text.matches('✗').count(), complaints, "{text}");
        }
    }

    #[test]
    fn text_is_wrapped_between_words() {
        let text = "word ".repeat(60);
        let lines = wrapped(&text, "   ");
        assert!(lines.lines().all(|line| line.starts_with("   word") && line.chars().count() <= WIDTH), "{lines}");
        assert_eq!(lines.split_whitespace().count(), 60);
        assert!(lines.lines().count() > 3);
    }
}
