//! Events as lines for people: one for each process, file and cause, then a count.

mod escape;
mod json;
mod words;

pub use escape::is_plain;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::event::{Ending, Event, Outcome, Release};
use crate::fault::{Cause, Fault};
use crate::policy::Policies;
use escape::escaped;

/// Turns events into lines for people.
#[derive(Debug, Default)]
pub struct Lines {
    colour: bool,
    policies: Policies,
    processes: BTreeMap<i32, Process>,
    /// The causes and options of which a hint was printed.
    hints: HashSet<&'static str>,
    /// The ranges of files that were shown as zeros, by name.
    zeros: BTreeMap<String, Zeros>,
    /// Files beyond those, or once more after them.
    more_zeros: u64,
}

/// What was shown as zeros of a file.
#[derive(Debug, Default)]
struct Zeros {
    ranges: Vec<Range<u64>>,
    /// Bytes of ranges beyond those.
    more: u64,
}

/// What was said of a process.
#[derive(Debug, Default)]
struct Process {
    stories: HashMap<Key, Story>,
    /// What the next fault without a look belongs to.
    last: Option<Key>,
}

/// What one line is for: a cause, and a file.
type Key = (&'static str, u64, u64);

#[derive(Debug)]
struct Story {
    fault: Box<Fault>,
    instead: String,
    count: u64,
    shown: bool,
    /// Whether all that was told is that the program sees zeros.
    shows_zeros: bool,
    waiting: HashSet<i32>,
    /// Since when there has been a wait of which a line was printed.
    announced: Option<Instant>,
    /// When the last wait of which a line was printed was over.
    ended: Option<Instant>,
}

/// So many stories of a process are told.
const STORIES: usize = 64;
/// So many ranges are listed for a file.
const RANGES: usize = 32;
/// So many are remembered.
const REMEMBERED: usize = 4096;
/// Of so many files zeros are listed.
const FILES: usize = 256;
/// A wait is announced again when the last one has been over for so long.
const SILENCE: Duration = Duration::from_secs(10);

/// What a line is about, as a colour.
#[derive(Clone, Copy)]
enum Tone {
    Bad,
    Waits,
    Good,
    Note,
}

impl Lines {
    /// Lines with colours, or without.
    #[must_use]
    pub fn new(colour: bool) -> Lines {
        Lines { colour, ..Lines::default() }
    }

    /// Sets the policies of the guard, so that no hint recommends what is in use.
    #[must_use]
    pub fn policies(mut self, policies: Policies) -> Lines {
        self.policies = policies;
        self
    }

    /// The lines that an event makes.
    pub fn of(&mut self, event: &Event) -> Vec<String> {
        let mut lines = Vec::new();
        match event {
            Event::Fault { fault, outcome } => self.fault(fault, outcome, &mut lines),
            Event::Repeated { process, .. } => {
                let process = self.processes.entry(*process).or_default();
                if let Some(story) = process.last.and_then(|last| process.stories.get_mut(&last)) {
                    story.count += 1;
                }
            }
            Event::Released { fault, after, why } => self.released(fault, *after, *why, &mut lines),
            Event::StoreToZeros { process, thread, address } => lines.push(self.line(
                Tone::Bad,
                &format!(
                    "process {process}, thread {thread}: SIGSEGV by a store at {address:#x}, where --zero shows zeros of a shared mapping"
                ),
            )),
            Event::Writers { fault, writers } => {
                let names: Vec<String> =
                    writers.iter().map(|writer| format!("{}[{}]", escaped(&writer.program), writer.process)).collect();
                let file = fault.file.as_ref().map(words::name).unwrap_or_default();
                lines.push(self.line(Tone::Note, &format!("note: {file} is open for writing in {}", names.join(", "))));
            }
            Event::Unguarded { why } => {
                lines.push(self.line(Tone::Note, &format!("the command runs without a guard: {why}")));
            }
            Event::CannotTrace { process, program, tracing } => {
                let name = escaped(program);
                let text = words::cannot_trace(&name, *process, *tracing);
                lines.push(self.line(Tone::Note, &format!("hint: {text}")));
            }
            Event::Ended { process, how } => self.ended(*process, *how, &mut lines),
            Event::Excepted { .. } => {}
        }
        lines
    }

    /// The last lines: of processes whose end was not seen, and what was shown as zeros.
    pub fn finish(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let left: Vec<i32> = self.processes.keys().copied().collect();
        for process in left {
            self.ended(process, Ending::Exit(0), &mut lines);
        }
        for (file, Zeros { ranges, more }) in std::mem::take(&mut self.zeros) {
            let bytes = ranges.iter().map(|range| range.end - range.start).fold(more, u64::saturating_add);
            let listed: Vec<String> =
                ranges.iter().take(RANGES).map(|range| format!("{}..{}", range.start, range.end)).collect();
            let more = if ranges.len() > RANGES || more > 0 { " and more".to_owned() } else { String::new() };
            lines.push(self.line(
                Tone::Bad,
                &format!(
                    "zeros in place of {bytes} bytes of {file}: {}{more}. Results are not to be trusted",
                    listed.join(", ")
                ),
            ));
        }
        if self.more_zeros > 0 {
            let text = format!("zeros in place of more, {} times in other files", self.more_zeros);
            lines.push(self.line(Tone::Bad, &text));
        }
        lines
    }

    fn line(&self, tone: Tone, text: &str) -> String {
        if !self.colour {
            return format!("faultin guard: {text}");
        }
        let colour = match tone {
            Tone::Bad => "1;31",
            Tone::Waits => "1;33",
            Tone::Good => "1;32",
            Tone::Note => "2",
        };
        format!("\x1b[{colour}mfaultin guard:\x1b[0m {text}")
    }

    fn story(&mut self, fault: &Fault) -> Option<&mut Story> {
        let key = key(fault);
        let process = self.processes.entry(fault.process).or_default();
        if process.stories.len() >= STORIES && !process.stories.contains_key(&key) {
            return None;
        }
        process.last = Some(key);
        Some(process.stories.entry(key).or_insert_with(|| Story {
            fault: Box::new(fault.clone()),
            instead: String::new(),
            count: 0,
            shown: false,
            shows_zeros: false,
            waiting: HashSet::new(),
            announced: None,
            ended: None,
        }))
    }

    fn fault(&mut self, fault: &Fault, outcome: &Outcome, lines: &mut Vec<String>) {
        self.note_zeros(fault, outcome);
        let Some(story) = self.story(fault) else { return };
        story.count += 1;
        match outcome {
            Outcome::Delivered { instead } => {
                // A handler may go on. What it does is told by how the process ends.
                // That others saw zeros does not say why this one got its signal.
                let is_first = !story.shown || story.shows_zeros;
                story.instead.clone_from(instead);
                if is_first && !fault.has_handler {
                    (story.shown, story.shows_zeros) = (true, false);
                    let text = deadly(fault, instead);
                    self.tell(Tone::Bad, fault, &text, lines);
                }
            }
            Outcome::Zeros { .. } => {
                if !story.shown {
                    (story.shown, story.shows_zeros) = (true, true);
                    let text = format!("{}: {}; the program sees zeros", words::access(fault), words::cause(fault));
                    self.tell(Tone::Bad, fault, &text, lines);
                }
            }
            Outcome::Waits { .. } | Outcome::Retries { .. } => {
                let is_first = story.waiting.is_empty() && story.announced.is_none();
                story.waiting.insert(fault.thread);
                if is_first && story.ended.is_none_or(|ended| ended.elapsed() >= SILENCE) {
                    story.announced = Some(Instant::now());
                    let what = match outcome {
                        Outcome::Waits { limit: Some(limit) } => format!("waits for up to {}", words::seconds(*limit)),
                        Outcome::Retries { left } => format!("tries up to {left} times more"),
                        _ => "waits".into(),
                    };
                    let text = format!("{}: {}; {what}", words::access(fault), words::cause(fault));
                    self.tell(Tone::Waits, fault, &text, lines);
                }
            }
            // After a signal that the thread had to take.
            Outcome::Repeats => self.goes_on(fault, lines),
        }
    }

    /// A line, and the first time a hint: what can be done about the cause, and which option of the guard helps.
    fn tell(&mut self, tone: Tone, fault: &Fault, text: &str, lines: &mut Vec<String>) {
        lines.push(self.line(tone, text));
        let advice = words::advice(fault).filter(|_| self.hints.insert(fault.cause.name()));
        let option = words::option(fault, &self.policies).filter(|(name, _)| self.hints.insert(name));
        let hint: Vec<String> = advice.into_iter().chain(option.map(|(_, text)| text.to_owned())).collect();
        if !hint.is_empty() {
            lines.push(self.line(Tone::Note, &format!("hint: {}", hint.join(". "))));
        }
    }

    fn released(&mut self, fault: &Fault, after: Duration, why: Release, lines: &mut Vec<String>) {
        let Some(story) = self.story(fault) else { return };
        story.waiting.remove(&fault.thread);
        let seconds = words::seconds(after);
        match why {
            Release::Signal => {}
            Release::Ready => {
                self.goes_on(fault, lines);
            }
            Release::Limit | Release::GuardEnds => {
                story.announced = None;
                let when = if why == Release::Limit { "its limit is reached" } else { "the command has ended" };
                let text = format!("{} has waited for {seconds}, and gets its signal: {when}", words::who(fault));
                lines.push(self.line(Tone::Bad, &text));
            }
        }
    }

    /// A line if nothing waits any more.
    fn goes_on(&mut self, fault: &Fault, lines: &mut Vec<String>) {
        let Some(story) = self.story(fault) else { return };
        let Some(since) = story.announced.filter(|_| story.waiting.is_empty()) else { return };
        story.announced = None;
        story.ended = Some(Instant::now());
        let text = format!("{} goes on after {}", words::program(fault), words::seconds(since.elapsed()));
        lines.push(self.line(Tone::Good, &text));
    }

    fn ended(&mut self, process: i32, how: Ending, lines: &mut Vec<String>) {
        let Some(process) = self.processes.remove(&process) else { return };
        let has_failed = how != Ending::Exit(0);
        let mut stories: Vec<Story> = process.stories.into_values().collect();
        stories.sort_by_key(|story| key(&story.fault));
        for mut story in stories {
            // It took a signal, and met no fault afterwards.
            if story.announced.is_some() && !has_failed {
                let text = format!("{} has gone on", words::program(&story.fault));
                lines.push(self.line(Tone::Good, &text));
            }
            if has_failed && !story.shown && story.fault.has_handler && !is_settled(&story) {
                story.shown = true;
                let text = deadly(&story.fault, &story.instead);
                self.tell(Tone::Bad, &story.fault, &text, lines);
            }
            if story.shown && story.count > 1 {
                let file =
                    story.fault.file.as_ref().map(|file| format!(" in {}", words::name(file))).unwrap_or_default();
                let text = format!("{}: {} more such faults{file}", words::who(&story.fault), story.count - 1);
                lines.push(self.line(Tone::Note, &text));
            }
        }
    }

    fn note_zeros(&mut self, fault: &Fault, outcome: &Outcome) {
        let (Outcome::Zeros { range }, Some(file)) = (outcome, &fault.file) else { return };
        let start = file.offset.wrapping_sub(fault.address.wrapping_sub(range.start));
        let name = words::name(file);
        if self.zeros.len() >= FILES && !self.zeros.contains_key(&name) {
            self.more_zeros += 1;
            return;
        }
        let Zeros { ranges, more } = self.zeros.entry(name).or_default();
        let range = start..start.wrapping_add(range.end - range.start);
        if let Some(last) = ranges.last_mut().filter(|last| last.end == range.start) {
            last.end = range.end;
        } else if !ranges.contains(&range) {
            match ranges.len() {
                REMEMBERED.. => *more = more.saturating_add(range.end - range.start),
                _ => ranges.push(range),
            }
        }
    }
}

/// Whether a story was one of waiting, which has been told.
fn is_settled(story: &Story) -> bool {
    story.announced.is_some() || story.ended.is_some()
}

fn deadly(fault: &Fault, instead: &str) -> String {
    let instead = if instead.is_empty() { String::new() } else { format!(" ({})", instead) };
    format!("{}: {}{instead}", words::access(fault), words::cause(fault))
}

fn key(fault: &Fault) -> Key {
    let (device, inode) = fault.file.as_ref().map_or((0, 0), |file| (file.device, file.inode));
    let name = match fault.cause {
        // Whether the kernel was asked makes no other story.
        Cause::Accessible { .. } if fault.access.may_store() => "no-space",
        _ => fault.cause.name(),
    };
    (name, device, inode)
}

impl Event {
    /// The event as a line of the report, in JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::of(self).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::access::Access;
    use crate::event::Tracing;
    use crate::fault::{MappedFile, Mount, Space};

    fn fault(thread: i32, has_handler: bool) -> Box<Fault> {
        let mount = Mount { point: "/dev/shm".into(), kind: "tmpfs".into(), source: "shm".into() };
        let file = MappedFile {
            path: OsString::from("/dev/shm/a\x1b[2J"),
            is_deleted: false,
            device: 1,
            inode: 2,
            offset: 4096,
            size: 8192,
            is_shared: true,
            is_executable: false,
            mount: Some(mount),
        };
        Box::new(Fault {
            process: 7,
            thread,
            program: "prog".into(),
            thread_name: "prog".into(),
            code: 2,
            address: 0x5000,
            access: Access::Store,
            file: Some(file),
            cause: Cause::NoSpace { errno: Some(libc::ENOSPC), space: Space { total: 1 << 20, free: 0 } },
            has_handler,
        })
    }

    fn delivered(has_handler: bool) -> Event {
        Event::Fault { fault: fault(7, has_handler), outcome: Outcome::Delivered { instead: String::new() } }
    }

    const DEAD: Event = Event::Ended { process: 7, how: Ending::Signal(7) };

    #[test]
    fn a_death_is_a_line_a_hint_and_a_count() {
        let mut lines = Lines::new(false);
        let first = lines.of(&delivered(false));
        let expected = "faultin guard: prog[7]: store at byte 4096 of /dev/shm/a\\u{1b}[2J: no space left on /dev/shm (tmpfs of 1 MiB, 0 bytes free)";
        assert_eq!(first[0], expected);
        assert!(first[1].contains("hint: ") && first[1].contains("--shm-size") && first.len() == 2, "{first:?}");
        assert!(lines.of(&delivered(false)).is_empty());
        assert!(lines.of(&delivered(false)).is_empty());
        let last = lines.of(&DEAD);
        assert_eq!(last, ["faultin guard: prog[7]: 2 more such faults in /dev/shm/a\\u{1b}[2J"]);
        assert!(lines.finish().is_empty());
    }

    /// The lines of a fault of this cause and access.
    fn said(lines: &mut Lines, cause: &Cause, access: Access) -> Vec<String> {
        let mut fault = fault(7, false);
        (fault.cause, fault.access) = (cause.clone(), access);
        // Each in a process of its own: its line is printed.
        fault.process = i32::try_from(lines.processes.len()).expect("few") + 1;
        lines.of(&Event::Fault { fault, outcome: Outcome::Delivered { instead: String::new() } })
    }

    #[test]
    fn a_page_past_the_end_does_not_prove_that_the_file_was_truncated() {
        let cause = Cause::PastEnd { size: 5, mapped_to: 32768, changed: std::time::SystemTime::now() };
        let lines = said(&mut Lines::new(false), &cause, Access::Load);
        assert!(
            lines[0].contains("past the end of the file: it has 5 bytes (mapped up to byte 32768, changed "),
            "{lines:?}"
        );
        assert!(!lines[0].contains("truncated"), "{lines:?}");
        assert!(lines[1].contains("`ftruncate`") && lines[1].contains("rename"), "{lines:?}");
    }

    #[test]
    fn a_hint_recommends_only_what_helps_and_is_not_in_use() {
        use crate::policy::WaitSpace;
        let none = Policies::default();
        let wait = Policies { wait_space: Some(WaitSpace { limit: None }), ..none };
        let (retry, zero) = (Policies { retry: Some(1), ..none }, Policies { zero: true, ..none });
        let end = Cause::PastEnd { size: 0, mapped_to: 4096, changed: std::time::SystemTime::UNIX_EPOCH };
        let full = Cause::NoSpace { errno: None, space: Space::default() };
        let huge = Cause::HugePages { page: 2 << 20, total: 0, free: 0 };
        let io = Cause::Io { errno: libc::EIO };
        let (load, store) = (Access::Load, Access::Store);
        let table = [
            (&end, load, none, Some("--zero")),
            (&end, load, wait, Some("--zero")),
            (&end, load, zero, None),
            (&end, store, none, None),
            (&end, store, retry, None),
            (&end, Access::LoadAndStore, none, None),
            (&end, Access::Fetch, none, None),
            (&end, Access::Unknown, none, None),
            (&full, store, none, Some("--wait-space")),
            (&full, store, retry, Some("--wait-space")),
            (&full, load, zero, Some("--wait-space")),
            (&full, store, wait, None),
            (&huge, store, none, Some("--wait-space")),
            (&huge, store, wait, None),
            (&io, load, none, Some("--retry")),
            (&io, load, zero, Some("--retry")),
            (&io, store, wait, Some("--retry")),
            (&io, load, retry, None),
        ];
        for (cause, access, policies, expected) in table {
            let text = said(&mut Lines::new(false).policies(policies), cause, access).concat();
            let options: Vec<&str> = ["--zero", "--wait-space", "--retry"]
                .into_iter()
                .filter(|option| text.contains(&format!("`faultin guard {option}`")))
                .collect();
            assert_eq!(options, Vec::from_iter(expected), "{cause:?}, {access:?}, {policies:?}: {text}");
            assert!(text.contains("hint: "), "what can be done about the cause remains: {text}");
        }
        // Code never is zeros.
        let mut code = fault(7, false);
        (code.cause, code.access) = (end.clone(), load);
        assert_eq!(words::option(&code, &none).map(|(name, _)| name), Some("--zero"));
        code.file.as_mut().expect("it has one").is_executable = true;
        assert_eq!(words::option(&code, &none), None);
        // Each part of a hint is printed once.
        let mut lines = Lines::new(false);
        assert!(said(&mut lines, &end, store)[1].contains("ftruncate"));
        let second = said(&mut lines, &end, load);
        assert!(second[1].contains("--zero") && !second[1].contains("ftruncate"), "{second:?}");
        assert_eq!(said(&mut lines, &end, load).len(), 1);
    }

    #[test]
    fn a_death_after_zeros_is_told() {
        let mut lines = Lines::new(false);
        let zeros = Event::Fault { fault: fault(7, false), outcome: Outcome::Zeros { range: 0x5000..0x6000 } };
        assert!(lines.of(&zeros)[0].contains("sees zeros"));
        let instead = "no zeros: its other threads do not stop".to_owned();
        let death = Event::Fault { fault: fault(8, false), outcome: Outcome::Delivered { instead } };
        assert!(lines.of(&death)[0].contains("(no zeros: its other threads do not stop)"));
        assert!(lines.of(&death).is_empty() && lines.of(&zeros).is_empty(), "each is told once");
    }

    #[test]
    fn no_name_reaches_a_terminal_raw() {
        let evil = "\x1b[2J\n\u{9b}";
        let full = Cause::NoSpace { errno: Some(libc::ENOSPC), space: Space::default() };
        let causes = [full, Cause::Io { errno: libc::EIO }, Cause::Misaligned];
        for cause in causes {
            let mut fault = fault(7, false);
            fault.cause = cause;
            (fault.program, fault.thread_name, fault.thread) = (evil.into(), format!("{evil}x").into(), 8);
            if let Some(file) = &mut fault.file {
                file.path = evil.into();
                // The kernel escapes blanks and newlines only.
                file.mount = Some(Mount { point: evil.into(), kind: format!("fuse.{evil}"), source: evil.into() });
            }
            let events = [
                Event::Fault { fault: fault.clone(), outcome: Outcome::Delivered { instead: String::new() } },
                Event::CannotTrace { process: 7, program: evil.into(), tracing: Tracing::LeakSanitizer },
                Event::Writers { fault: fault.clone(), writers: Vec::new() },
                DEAD,
            ];
            let mut lines = Lines::new(false);
            let said: Vec<String> = events.iter().flat_map(|event| lines.of(event)).collect();
            assert!(said.len() >= 3 && !said.concat().chars().any(char::is_control), "{said:?}");
        }
    }

    #[test]
    fn what_a_handler_survives_is_not_told_and_what_it_does_not_is() {
        for (how, count) in [(Ending::Exit(0), 0), (Ending::Exit(1), 2), (Ending::Signal(6), 2)] {
            let mut lines = Lines::new(false);
            assert!(lines.of(&delivered(true)).is_empty());
            assert_eq!(lines.of(&Event::Ended { process: 7, how }).len(), count, "{how:?}");
        }
    }

    #[test]
    fn a_wait_has_a_beginning_and_an_end() {
        let mut lines = Lines::new(false);
        let waits = |thread| Event::Fault { fault: fault(thread, true), outcome: Outcome::Waits { limit: None } };
        let ready = |thread| Event::Released { fault: fault(thread, true), after: Duration::ZERO, why: Release::Ready };
        assert_eq!(lines.of(&waits(7)).len(), 2);
        assert!(lines.of(&waits(8)).is_empty(), "another thread of the same");
        assert!(lines.of(&ready(7)).is_empty());
        assert!(lines.of(&ready(8))[0].contains("prog[7] goes on after"));
        assert!(lines.of(&waits(7)).is_empty(), "not again at once");
        assert!(lines.of(&ready(7)).is_empty());
        assert!(lines.of(&Event::Ended { process: 7, how: Ending::Exit(3) }).is_empty());
    }

    #[test]
    fn zeros_are_summed_up() {
        let mut lines = Lines::new(false);
        let zeros = |range| Event::Fault { fault: fault(7, false), outcome: Outcome::Zeros { range } };
        assert_eq!(lines.of(&zeros(0x5000..0x6000)).len(), 2);
        assert!(lines.of(&zeros(0x6000..0x8000)).is_empty());
        let last = lines.finish().pop().expect("a line");
        assert!(last.contains("zeros in place of 12288 bytes") && last.contains(": 4096..16384."), "{last}");
    }

    #[test]
    fn zeros_are_summed_up_in_bounded_memory() {
        let mut lines = Lines::new(false);
        for number in 0..2 * FILES as u64 {
            for page in 0..3 {
                let mut fault = fault(7, false);
                if let Some(file) = &mut fault.file {
                    file.path = format!("/{number}").into();
                }
                let start = 0x5000 + page * 0x2000;
                lines.of(&Event::Fault { fault, outcome: Outcome::Zeros { range: start..start + 0x1000 } });
            }
        }
        let last = lines.finish();
        assert_eq!(last.iter().filter(|line| line.contains("zeros in place of 12288 bytes")).count(), FILES);
        assert!(last.last().is_some_and(|line| line.contains("768 times in other files")), "{last:?}");
        let mut lines = Lines::new(false);
        for page in 0..10_000 {
            let start = page * 0x2000;
            lines
                .of(&Event::Fault { fault: fault(7, false), outcome: Outcome::Zeros { range: start..start + 0x1000 } });
        }
        let ranges = lines.zeros.values().map(|zeros| zeros.ranges.len()).max();
        assert_eq!(ranges, Some(REMEMBERED));
        assert!(
            lines
                .finish()
                .last()
                .is_some_and(|line| line.contains("zeros in place of 40960000 bytes") && line.contains("and more"))
        );
    }

    #[test]
    fn colours_are_of_the_guards_own_words_only() {
        let mut lines = Lines::new(true);
        let line = lines.of(&delivered(false)).remove(0);
        assert!(line.starts_with("\x1b[1;31mfaultin guard:\x1b[0m prog[7]"));
        assert_eq!(line.matches('\x1b').count(), 2);
    }

    #[test]
    fn json_keeps_names_that_are_not_utf8() {
        use std::os::unix::ffi::OsStringExt;
        let mut event = fault(7, true);
        event.program = OsString::from_vec(vec![0xff, b'a']);
        let outcome = Outcome::Waits { limit: Some(Duration::from_secs(3)) };
        let text = Event::Fault { fault: event, outcome }.to_json();
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert!(!text.contains('\n') && !text.contains('\x1b'), "{text}");
        assert_eq!((&json["program"]["hex"], &json["v"]), (&"ff61".into(), &1.into()));
        assert_eq!((&json["file"]["path"], &json["limit_seconds"]), (&"/dev/shm/a\x1b[2J".into(), &3.0.into()));
    }
}
