//! A file system whose files fail on demand: `cargo xtask serve`, a separate process, because the server of a file must not
//! wait for that file.
//!
//! Each file passes through to another one. Failures are set by writing to the file `control`, one per line:
//!
//! | | |
//! |---|---|
//! | `eio NAME FROM LEN` | reads of these bytes fail with `EIO` |
//! | `eio-write NAME FROM LEN` | writes to these bytes fail with `EIO` |
//! | `short NAME FROM LEN` | reads of these bytes end before them |
//! | `restless NAME 0 0` | its change time is different at every query |
//! | `heal` | removes all failures |
//! | `die` | the server ends, as if it had crashed |
//!
//! Reading it returns `ready`, although its size is 0. The server ends when its standard input does.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, Session,
    TimeOrNow, WriteFlags,
};
use nix::sched::{CloneFlags, unshare};

/// Serves files that fail when they are told to, for `cargo xtask env files`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder to mount the file system at
    mountpoint: PathBuf,
    /// `NAME=PATH`: the name of a file, and the file that it passes accesses through to
    #[arg(required = true)]
    files: Vec<String>,
}

/// Serves until standard input ends.
pub fn run(args: &Args) -> io::Result<()> {
    let mut files = Vec::new();
    for file in &args.files {
        let (name, path) = file.split_once('=').ok_or_else(|| io::Error::other("NAME=PATH is needed"))?;
        files.push((name.to_owned(), File::options().read(true).write(true).open(path)?));
    }
    let failing = Failing { files, faults: Mutex::new(Vec::new()) };
    let session = Session::new(failing, &args.mountpoint, &Config::default())?;
    // Leaves the mount to the caller. A server that is the last process in a namespace would have to unmount what is
    // mounted on its own files when it is killed, and wait for itself.
    unshare(CloneFlags::CLONE_NEWNS).map_err(io::Error::from)?;
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    session.run()
}

/// Attributes are queried each time: other processes change the files.
const FRESH: Duration = Duration::ZERO;

const CONTROL: u64 = 2;
/// The bytes that a read of it returns.
const READY: &[u8] = b"ready\n";
const FIRST: u64 = 3;

#[derive(Clone, Copy, PartialEq)]
enum How {
    Fails,
    RefusesWrites,
    Ends,
    Restless,
}

struct Fault {
    file: usize,
    how: How,
    from: u64,
    to: u64,
}

struct Failing {
    files: Vec<(String, File)>,
    faults: Mutex<Vec<Fault>>,
}

impl Failing {
    fn faults(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, ino: INodeNo) -> Option<(usize, &File)> {
        let index = usize::try_from(ino.0.checked_sub(FIRST)?).ok()?;
        self.files.get(index).map(|(_, file)| (index, file))
    }

    fn attributes(&self, ino: INodeNo) -> Result<FileAttr, Errno> {
        let of = |metadata: &Metadata, kind, size| {
            let time = |time: io::Result<std::time::SystemTime>| time.unwrap_or(std::time::UNIX_EPOCH);
            FileAttr {
                ino,
                size,
                blocks: size.div_ceil(512),
                atime: time(metadata.accessed()),
                mtime: time(metadata.modified()),
                ctime: time(metadata.modified()),
                crtime: time(metadata.modified()),
                kind,
                perm: if kind == FileType::Directory { 0o755 } else { 0o644 },
                nlink: 1,
                uid: 0,
                gid: 0,
                rdev: 0,
                blksize: 4096,
                flags: 0,
            }
        };
        let (_, first) = self.files.first().ok_or(Errno::ENOENT)?;
        match ino.0 {
            1 => Ok(of(&first.metadata()?, FileType::Directory, 0)),
            CONTROL => Ok(of(&first.metadata()?, FileType::RegularFile, 0)),
            _ => {
                let (index, file) = self.file(ino).ok_or(Errno::ENOENT)?;
                let metadata = file.metadata()?;
                let mut attributes = of(&metadata, FileType::RegularFile, metadata.len());
                if self.faults().iter().any(|fault| fault.file == index && fault.how == How::Restless) {
                    attributes.ctime = std::time::SystemTime::now();
                }
                Ok(attributes)
            }
        }
    }

    fn command(&self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["heal"] => self.faults().clear(),
            ["die"] => std::process::abort(),
            [how, name, from, len] => {
                let file = self.files.iter().position(|(known, _)| known == name)?;
                let how = match how {
                    "eio" => How::Fails,
                    "eio-write" => How::RefusesWrites,
                    "short" => How::Ends,
                    "restless" => How::Restless,
                    _ => return None,
                };
                let from = from.parse().ok()?;
                let len: u64 = len.parse().ok()?;
                self.faults().push(Fault { file, how, from, to: from + len });
            }
            _ => return None,
        }
        Some(())
    }

    /// Returns the end of a read of these bytes.
    fn end(&self, file: usize, from: u64, to: u64) -> Result<u64, Errno> {
        let mut end = to;
        for fault in self.faults().iter().filter(|f| f.file == file && f.from < to && from < f.to) {
            match fault.how {
                How::Fails => return Err(Errno::EIO),
                How::Ends => end = end.min(fault.from.max(from)),
                How::RefusesWrites | How::Restless => {}
            }
        }
        Ok(end)
    }
}

impl Filesystem for Failing {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Read only the requested bytes, so that the accessed ones fail.
        let _ = config.set_max_readahead(1);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let file = self.files.iter().position(|(known, _)| OsStr::new(known) == name);
        let ino = match file {
            _ if parent.0 != 1 => None,
            _ if name == "control" => Some(CONTROL),
            file => file.map(|index| FIRST + index as u64),
        };
        match ino.ok_or(Errno::ENOENT).and_then(|ino| self.attributes(INodeNo(ino))) {
            Ok(attributes) => reply.entry(&FRESH, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino) {
            Ok(attributes) => reply.attr(&FRESH, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if let (Some(size), Some((_, file))) = (size, self.file(ino))
            && let Err(error) = file.set_len(size)
        {
            return reply.error(error.into());
        }
        self.getattr(request, ino, fh, reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let flags = if ino.0 == CONTROL { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::empty() };
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if ino.0 == CONTROL {
            // It has a text, and no size.
            let from = READY.len().min(usize::try_from(offset).unwrap_or(READY.len()));
            return reply.data(&READY[from..READY.len().min(from.saturating_add(size as usize))]);
        }
        let Some((index, file)) = self.file(ino) else { return reply.error(Errno::EINVAL) };
        let end = match self.end(index, offset, offset + u64::from(size)) {
            Ok(end) => end,
            Err(error) => return reply.error(error),
        };
        let mut bytes = vec![0; (end - offset) as usize];
        let mut done = 0;
        while done < bytes.len() {
            match file.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) => return reply.error(error.into()),
            }
        }
        reply.data(&bytes[..done]);
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if ino.0 == CONTROL {
            let obeyed = std::str::from_utf8(data).ok().and_then(|line| self.command(line));
            return match obeyed {
                Some(()) => reply.written(data.len() as u32),
                None => reply.error(Errno::EINVAL),
            };
        }
        let to = offset + data.len() as u64;
        let write = |(index, file): (usize, &File)| {
            let refused = |f: &Fault| f.file == index && f.how == How::RefusesWrites && f.from < to && offset < f.to;
            match self.faults().iter().any(refused) {
                true => Err(io::Error::from_raw_os_error(Errno::EIO.code())),
                false => file.write_all_at(data, offset),
            }
        };
        match self.file(ino).map(write) {
            Some(Ok(())) => reply.written(data.len() as u32),
            Some(Err(error)) => reply.error(error.into()),
            None => reply.error(Errno::EINVAL),
        }
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.file(ino).map(|(_, file)| file.sync_data()) {
            Some(Err(error)) => reply.error(error.into()),
            _ => reply.ok(),
        }
    }
}
