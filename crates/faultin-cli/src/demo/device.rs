//! A device that fills up while it is written to.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::ValueEnum;
use faultin::FileMapMut;
use faultin::WriteView;

use super::child::{self, Ending, Stage};
use super::folder::Folder;
use super::plain::PlainMapping;
use super::{Missing, Scene, Stopped, Way};

const LEN: usize = 4 << 20;

/// Size in bytes of the file system.
const ROOM: usize = 1 << 20;

/// The full device.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// A tmpfs of 1 MiB, mounted in a user namespace
    Tmpfs,
    /// Huge pages, if the pool of this machine is empty
    HugePages,
}

/// The device.
pub struct Full {
    device: Device,
    folder: Folder,
}

impl Full {
    /// Returns the requested device, or the first one that this machine has.
    pub fn new(asked: Option<Device>) -> Result<Full, Missing> {
        let mut full = Full { device: Device::Tmpfs, folder: Folder::new()? };
        let mut reasons = Vec::new();
        for device in Device::value_variants().iter().filter(|device| asked.is_none_or(|asked| asked == **device)) {
            full.device = *device;
            match full.is_there() {
                Ok(()) => return Ok(full),
                Err(Missing(why)) => reasons.push(why),
            }
        }
        Err(Missing(reasons.join("; ")))
    }

    fn is_there(&self) -> Result<(), Missing> {
        match self.device {
            // It belongs to the child, and ends with it.
            Device::Tmpfs => match child::run(|_| self.mount(), || Ok(()))? {
                Ending::Stopped(_) => Ok(()),
                _ => Err(Missing("a small file system: the process that mounts it died".into())),
            },
            Device::HugePages => no_huge_pages(),
        }
    }

    /// Mounts the file system, which only this process sees.
    fn mount(&self) -> Result<Stopped, Missing> {
        let cannot = |error: io::Error| Missing::because("a small file system (tmpfs in a user namespace)", error);
        // SAFETY: no preconditions.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        // SAFETY: this process is a child with one thread.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } == 0 {
            // (Kernels before 3.19 have no setgroups, and need none.)
            let _ = fs::write("/proc/self/setgroups", "deny");
            fs::write("/proc/self/uid_map", format!("{user} {user} 1")).map_err(cannot)?;
            fs::write("/proc/self/gid_map", format!("{group} {group} 1")).map_err(cannot)?;
        } else {
            let error = io::Error::last_os_error();
            // Root may mount without a user namespace.
            // SAFETY: as above.
            if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
                return Err(cannot(error));
            }
        }
        let nul = |_| cannot(io::ErrorKind::InvalidInput.into());
        let target = CString::new(self.folder.path().as_os_str().as_bytes()).map_err(nul)?;
        let options = CString::new(format!("size={ROOM},mode=700")).map_err(nul)?;
        let (none, kind) = (std::ptr::null(), c"tmpfs".as_ptr());
        // SAFETY: paths and options are strings. The mount is visible in this process's namespace only.
        let mounted = unsafe {
            match libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) {
                0 => libc::mount(kind, target.as_ptr(), kind, 0, options.as_ptr().cast()),
                error => error,
            }
        };
        match mounted {
            0 => Ok(Stopped { done: 0, why: String::new() }),
            _ => Err(cannot(io::Error::last_os_error())),
        }
    }

    /// Returns a file that has a length and no space.
    fn file(&self) -> Result<(File, PathBuf), Missing> {
        self.mount()?;
        let path = self.folder.path().join("database");
        let made = File::options().read(true).write(true).create_new(true).open(&path);
        let made = made.and_then(|file| file.set_len(LEN as u64).map(|()| file));
        made.map(|file| (file, path)).map_err(|error| Missing::because("a file on a small file system", error))
    }
}

/// Checks that huge pages are supported here, and there are none.
fn no_huge_pages() -> Result<(), Missing> {
    let missing = |why: &str| Err(Missing::because("huge pages of which there are none", why));
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let Some(more) = number("/proc/sys/vm/nr_overcommit_hugepages") else {
        return missing("this kernel does not have any");
    };
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = info.lines().find_map(|line| line.strip_prefix("HugePages_Free:")?.trim().parse::<u64>().ok());
    match free {
        Some(0) if more == 0 => Ok(()),
        Some(free) => missing(&format!("there are {}", free + more)),
        None => missing("this kernel does not have any"),
    }
}

impl Scene for Full {
    fn title(&self) -> &'static str {
        match self.device {
            Device::Tmpfs => "The disk is full while a program writes to a mapped file",
            Device::HugePages => "Huge pages run out while a program writes to memory",
        }
    }

    fn story(&self) -> String {
        match self.device {
            Device::Tmpfs => format!(
                "A program has created a file of {LEN} bytes, which takes no space yet, has mapped it, and fills it. The file \
                 system (here a tmpfs for this scene) has space for {ROOM} bytes. No system call could return \"No space left \
                 on device\": a store to memory fails."
            ),
            Device::HugePages => format!(
                "A program has mapped {LEN} bytes of huge pages without reserving them, and the pool is empty. The kernel needs \
                 the pages at the first store, when no system call could return an error."
            ),
        }
    }

    fn accessible(&self) -> u64 {
        match self.device {
            Device::Tmpfs => ROOM as u64,
            Device::HugePages => 0,
        }
    }

    fn access(&self, way: Way, stage: &mut Stage) -> Result<Stopped, Missing> {
        let all = vec![1; LEN];
        let (done, why) = match (self.device, way) {
            (Device::Tmpfs, Way::Plain) => {
                let (file, _) = self.file()?;
                PlainMapping::of_file(&file, LEN, libc::PROT_READ | libc::PROT_WRITE)?.write(0..LEN, stage);
                (LEN, String::new())
            }
            (Device::Tmpfs, Way::Faultin) => {
                let (_, path) = self.file()?;
                let map = FileMapMut::open(path).map_err(|error| Missing::because("mapping a file", error))?;
                match map.write_at(&all, 0) {
                    Ok(()) => (LEN, String::new()),
                    Err(error) => (error.done(), error.to_string()),
                }
            }
            (Device::HugePages, Way::Plain) => {
                PlainMapping::of_huge_pages(LEN)?.write(0..LEN, stage);
                (LEN, String::new())
            }
            (Device::HugePages, Way::Faultin) => {
                let pages = PlainMapping::of_huge_pages(LEN)?;
                // SAFETY: the range belongs to this process, and nothing else is ever mapped there.
                let view = unsafe { WriteView::new(pages.as_ptr(), LEN) };
                match view.map_err(|error| Missing::because("a signal handler", error))?.write(&all, 0) {
                    Ok(()) => (LEN, String::new()),
                    Err(short) => (short.done, short.to_string()),
                }
            }
        };
        Ok(Stopped { done: done as u64, why })
    }
}
