//! The file that is read, and its changes at a known moment.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use faultin::{MapError, map::Change};
use tempfile::TempDir;

/// Rounds of each reproduction.
pub const ROUNDS: usize = 100;

/// Lines of the file: some fifteen times a reader's buffer, with a partial last page.
const LINES: usize = 150_000;

/// The contents of the file: every seventh line contains the needle.
pub fn text() -> Vec<u8> {
    let line = |i| match i % 7 {
        0 => format!("{i:07} a needle in the hay\n"),
        _ => format!("{i:07} nothing but hay\n"),
    };
    (0..LINES).map(line).collect::<String>().into_bytes()
}

/// A folder with the file in it.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Creates the file with this text.
    pub fn file(&self, text: &[u8]) -> PathBuf {
        let path = self.folder.path().join("file");
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, text).expect("write");
        path
    }
}

/// A change of the file.
pub struct Deed {
    pub name: &'static str,
    pub act: fn(&Path, usize),
    /// The change that is reported afterwards, for a file of this length.
    pub seen: fn(usize) -> Change,
}

/// The changes in the bug reports, and others.
pub const DEEDS: &[Deed] = &[
    Deed { name: "truncated to zero", act: |path, _| cut(path, 0), seen: |len| shrunk(len, 0) },
    Deed { name: "truncated in a page", act: |path, len| cut(path, len / 3), seen: |len| shrunk(len, len / 3) },
    Deed {
        name: "truncated and grown again",
        act: |path, len| [0, len].into_iter().for_each(|to| cut(path, to)),
        seen: |_| Change::Rewritten,
    },
    Deed {
        name: "replaced",
        act: |path, len| {
            let other = path.with_extension("new");
            std::fs::write(&other, vec![0; len]).expect("write");
            std::fs::rename(other, path).expect("rename");
        },
        seen: |_| Change::Replaced,
    },
    Deed { name: "deleted", act: |path, _| std::fs::remove_file(path).expect("remove"), seen: |_| Change::Deleted },
    Deed {
        name: "rewritten in place",
        act: |path, len| open(path).write_all_at(&vec![0; len], 0).expect("write"),
        seen: |_| Change::Rewritten,
    },
];

fn shrunk(from: usize, to: usize) -> Change {
    Change::Shrunk { from: from as u64, to: to as u64 }
}

fn open(path: &Path) -> File {
    File::options().write(true).open(path).expect("open to write")
}

/// Truncates or extends the file.
pub fn cut(path: &Path, len: usize) {
    open(path).set_len(len as u64).expect("set_len");
}

/// A reader calls this as it proceeds.
pub type Step = dyn FnMut() + Send;

/// Makes a round's change in another thread while `read` reads. The reader calls its argument as it proceeds; the change
/// begins at the `after`th call, and in every other round the reader waits until it is complete.
pub fn meanwhile<T>(round: usize, after: usize, path: &Path, len: usize, read: impl FnOnce(&mut Step) -> T) -> T {
    let deed = &DEEDS[round % DEEDS.len()];
    let (begin, begun): (Sender<()>, Receiver<()>) = channel();
    let (end, ended) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if begun.recv().is_ok() {
                (deed.act)(path, len);
                // (The reader may have ended.)
                let _ = end.send(());
            }
        });
        let mut steps = 0;
        read(&mut move || {
            if steps == after {
                begin.send(()).expect("the other thread waits for it");
                if waits(round) {
                    ended.recv().expect("the other thread does it");
                }
            }
            steps += 1;
        })
    })
}

/// Whether the change of this round completes before the reader continues. Each change is tested both ways.
pub fn waits(round: usize) -> bool {
    (round / DEEDS.len()).is_multiple_of(2)
}

/// Checks an error that one of the changes caused: its file, its position, and its change.
pub fn judge(round: usize, error: &MapError, path: Option<&Path>, len: usize) {
    let deed = &DEEDS[round % DEEDS.len()];
    let what = format!("round {round}, {}: {error:?}", deed.name);
    let change = error.change().expect(&what);
    assert_eq!(error.path(), path, "{what}");
    assert_eq!(error.errno(), Some(libc::ESTALE), "{what}");
    assert!(error.offset() <= len as u64, "{what}");
    let name = path.map_or("mapped file".into(), |path| path.display().to_string());
    assert_eq!(error.to_string(), format!("{name}: {change}"));
}

/// Checks the exact change, if the only reader waited for it to complete.
pub fn judge_exactly(round: usize, error: &MapError, path: Option<&Path>, len: usize) {
    judge(round, error, path, len);
    if waits(round) {
        let deed = &DEEDS[round % DEEDS.len()];
        let (seen, change) = ((deed.seen)(len), error.change());
        // Only `verify` checks the name, if there is one.
        let is_of_the_name = matches!(seen, Change::Replaced | Change::Deleted);
        let is_seen = change == Some(seen) || is_of_the_name && change == Some(Change::Touched);
        assert!(is_seen, "round {round}, {}: {error:?}", deed.name);
    }
}
