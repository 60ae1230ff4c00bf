//! The look at a fault: everything that is asked of the process, its file and its file system.

use std::ffi::OsString;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags, Stat, StatVfsMountFlags, fstatfs, fstatvfs, open, openat};

use super::classify::{self, Facts, FileFacts, Memory};
use super::file::{self, Opened};
use super::region::{self, Region};
use super::status::Status;
use super::target::{Target, pool};
use super::{Finding, gadget, lines, mount};
use crate::access::{self, Access, BEFORE, Code, LONGEST, Registers};
use crate::decide::Signal;
use crate::fault::{Cause, Fault, MappedFile, Space};

/// `f_type` of tmpfs and hugetlbfs.
const TMPFS: i64 = 0x0102_1994;
const HUGETLBFS: i64 = 0x9584_58f6;

/// What is looked at.
#[derive(Clone)]
pub(crate) struct Look {
    pub thread: i32,
    /// Of the thread, since it has stopped.
    pub status: Status,
    pub signal: Signal,
    /// No value for a program of another width, whose registers are others.
    pub registers: Option<Registers>,
    /// Whether the program may have to map zeros.
    pub for_zeros: bool,
}

/// Looks at the fault.
pub(super) fn look(look: &Look) -> Finding {
    let &Look { thread, ref status, signal, .. } = look;
    let process = match open_process(thread) {
        Ok(process) => process,
        Err(error) => return Finding::without(thread, signal, format!("/proc/{thread}: {error}")),
    };
    let decoded = decode(look);
    let mut region = None;
    let mut file = None;
    let mut target = None;
    let memory = match signal.code {
        classify::ADRERR => match region::find(&process, signal.address) {
            Err(error) => Memory::Hidden(error.to_string()),
            Ok(None) => Memory::Unmapped,
            Ok(Some(found)) => {
                let view = View { process: &process, status, look, region: region.insert(found), decoded };
                view.memory(&mut file, &mut target)
            }
        },
        _ => Memory::NotAsked,
    };
    let facts = Facts { code: signal.code, damaged: signal.damaged, address: signal.address, decoded, memory };
    let cause = classify::cause(&facts);
    let name = |folder: &OwnedFd| read(folder, "comm").map(name).unwrap_or_default();
    let leader = open_process(status.process);
    let fault = Fault {
        process: if status.process == 0 { thread } else { status.process },
        thread,
        program: leader.map_or_else(|_| name(&process), |leader| name(&leader)),
        thread_name: name(&process),
        code: signal.code,
        address: signal.address,
        access: decoded.access,
        file,
        cause,
        has_handler: status.catches(signal.number),
    };
    Finding {
        range: region.as_ref().map_or(0..0, |region| region.start..region.end),
        is_replaced: is_replaced(&facts),
        is_overdue: false,
        is_code: region.as_ref().is_some_and(|region| region.can_execute),
        has_filter: status.has_filter,
        ignores_traps: status.ignores(libc::SIGTRAP),
        recovers: look.for_zeros && fault.has_handler && has_java(&process),
        gadget: if look.for_zeros { gadget::find(&process, thread) } else { None },
        page: page_of(&facts),
        target: target.map(Arc::new),
        fault,
    }
}

/// The mapping of a thread's process at an address.
pub(super) fn region(thread: i32, address: u64) -> io::Result<Option<Region>> {
    region::find(&open_process(thread)?, address)
}

fn open_process(thread: i32) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(format!("/proc/{thread}"), flags, Mode::empty())?)
}

/// Whether the memory cannot have raised the signal: there is none, or it has no file.
fn is_replaced(facts: &Facts) -> bool {
    facts.code == classify::ADRERR
        && !facts.decoded.sent
        && matches!(facts.memory, Memory::Unmapped | Memory::Anonymous { pool: None, has_userfaultfd: false })
}

/// The bytes of the page that the fault is in.
fn page_of(facts: &Facts) -> u64 {
    match &facts.memory {
        Memory::File(file) => file.page,
        Memory::Anonymous { pool: Some(pool), .. } => pool.page,
        _ => rustix::param::page_size() as u64,
    }
}

/// A process, and one of its mappings.
struct View<'a> {
    process: &'a OwnedFd,
    status: &'a Status,
    look: &'a Look,
    region: &'a Region,
    decoded: access::Decoded,
}

impl View<'_> {
    fn memory(&self, file: &mut Option<MappedFile>, target: &mut Option<Target>) -> Memory {
        let region = self.region;
        let page = region.page.unwrap_or(rustix::param::page_size() as u64);
        let is_huge = page > rustix::param::page_size() as u64;
        if region.inode == 0 {
            let pool = if is_huge { pool(page) } else { None };
            *target = pool.map(|pool| self.target_of_pool(pool.page));
            return Memory::Anonymous { pool, has_userfaultfd: pool.is_none() && self.has_userfaultfd() };
        }
        let writes = self.stores();
        let process = if self.status.process == 0 { self.look.thread } else { self.status.process };
        match file::open(self.process, process, region, writes) {
            Ok(Opened::Device) => Memory::Device,
            Ok(Opened::File { file: opened, stat }) => self.file(opened, &stat, file, target),
            // Memory of MAP_HUGETLB has a file that nobody can open without privileges.
            Err(_) if is_huge => {
                let pool = pool(page);
                *target = pool.map(|pool| self.target_of_pool(pool.page));
                Memory::Anonymous { pool, has_userfaultfd: false }
            }
            Err(error) => {
                *file = Some(self.mapped(None, None));
                Memory::Unopened(format!("the file cannot be opened: {error}"))
            }
        }
    }

    fn file(
        &self,
        opened: OwnedFd,
        stat: &Stat,
        mapped: &mut Option<MappedFile>,
        target: &mut Option<Target>,
    ) -> Memory {
        let region = self.region;
        *mapped = Some(self.mapped(Some(&opened), Some(stat)));
        let system = fstatfs(&opened).ok();
        let kind = system.map_or(0, |system| system.f_type);
        let is_huge = kind == HUGETLBFS;
        let block = system.map_or(0, |system| system.f_bsize as u64);
        let page = if is_huge { block } else { rustix::param::page_size() as u64 };
        let space = system.map_or_else(Space::default, |system| Space {
            // A file system in user space may say anything.
            total: system.f_blocks.saturating_mul(block),
            free: system.f_bavail.saturating_mul(block),
        });
        let is_memory = kind == TMPFS || is_huge;
        let allocates = is_memory || self.stores();
        // Memory is allocated also for a load, whatever the mapping may do.
        let writable = if is_memory { file::for_writing(&opened) } else { None };
        let offset = region.offset + self.look.signal.address.saturating_sub(region.start);
        let own = Target {
            file: Some(writable.unwrap_or(opened)),
            offset: offset / page * page,
            len: page,
            owner: self.status.owner,
            allocates,
            // What a private mapping of huge pages takes is not the file's.
            pool: (is_huge && !region.is_shared).then_some(page),
        };
        let size = stat.st_size as u64;
        let is_inside = offset < size.next_multiple_of(page);
        let read = if is_inside { own.read().unwrap_or(Ok(())) } else { Ok(()) };
        let allocated = if is_inside && read.is_ok() && own.pool.is_none() { own.allocate() } else { None };
        let is_read_only = own
            .file
            .as_ref()
            .and_then(|file| fstatvfs(file).ok())
            .is_some_and(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY));
        *target = Some(own);
        Memory::File(FileFacts {
            region: region.clone(),
            size,
            changed: time(stat),
            page,
            is_memory,
            is_read_only,
            pool: if is_huge { pool(page) } else { None },
            space,
            read,
            allocated,
        })
    }

    /// Whether the access may have stored to the file, which the program can do itself. A signal that it has sent to itself, with the
    /// address of a file that it may only read, is not to have a privileged guard allocate a page there.
    fn stores(&self) -> bool {
        self.region.is_shared && self.region.can_write && self.decoded.access.may_store()
    }

    fn mapped(&self, opened: Option<&OwnedFd>, stat: Option<&Stat>) -> MappedFile {
        let region = self.region;
        let is_unlinked = stat.is_some_and(|stat| stat.st_nlink == 0);
        let (path, is_deleted) = file::path(&region.name, is_unlinked, || file::has_name(self.process, region));
        MappedFile {
            path,
            is_deleted,
            device: stat.map_or_else(|| libc::makedev(region.device.0, region.device.1), |stat| stat.st_dev),
            inode: region.inode,
            offset: region.offset + self.look.signal.address.saturating_sub(region.start),
            size: stat.map_or(0, |stat| stat.st_size as u64),
            is_shared: region.is_shared,
            is_executable: region.can_execute,
            mount: opened.and_then(|file| mount::find(self.process, file)),
        }
    }

    fn target_of_pool(&self, page: u64) -> Target {
        let owner = self.status.owner;
        Target { file: None, offset: 0, len: page, owner, allocates: false, pool: Some(page) }
    }

    /// Whether a userfaultfd has the mapping: `um` or `ui` among its flags.
    fn has_userfaultfd(&self) -> bool {
        let begin = format!("{:x}-{:x} ", self.region.start, self.region.end);
        let mut is_here = false;
        let flags = lines::find(self.process, "smaps", |line| {
            is_here |= line.starts_with(begin.as_bytes());
            (is_here && line.starts_with(b"VmFlags:")).then(|| line.to_vec())
        });
        let has =
            |flags: Vec<u8>| flags.split(|&byte| byte == b' ').any(|flag| [b"um", b"ui"].iter().any(|of| flag == *of));
        flags.ok().flatten().is_some_and(has)
    }
}

fn time(stat: &Stat) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or(0));
    let nanoseconds = Duration::from_nanos(stat.st_ctime_nsec);
    let time = SystemTime::UNIX_EPOCH.checked_add(seconds).and_then(|time| time.checked_add(nanoseconds));
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What the instruction did.
fn decode(look: &Look) -> access::Decoded {
    let Some(registers) = &look.registers else { return access::Decoded { access: Access::Unknown, sent: false } };
    let pc = access::program_counter(registers);
    let mut before = [0; BEFORE];
    let mut at = [0; LONGEST];
    // Up to the end of a page separately: the next one may be the one that is gone.
    let page = rustix::param::page_size() as u64;
    let first = usize::try_from(page - pc % page).map_or(LONGEST, |rest| rest.min(LONGEST));
    let mut len = peek(look.thread, pc, &mut at[..first]);
    if len == first && first < LONGEST {
        len += peek(look.thread, pc + first as u64, &mut at[first..]);
    }
    let before_len = peek(look.thread, pc.wrapping_sub(BEFORE as u64), &mut before);
    let before = if before_len == BEFORE { &before[..] } else { &[] };
    access::decode(&Code { before, at: &at[..len] }, registers, look.signal.address)
}

/// Reads memory of a thread's process: how many bytes.
pub(super) fn peek(thread: i32, address: u64, bytes: &mut [u8]) -> usize {
    let remote = libc::iovec { iov_base: address as usize as *mut _, iov_len: bytes.len() };
    let local = IoSliceMut::new(bytes);
    // SAFETY: `IoSliceMut` has the layout of `iovec` and leads to memory that may be written, for which it holds the borrow.
    // What is read is another process' memory, or an error.
    let len = unsafe { libc::process_vm_readv(thread, (&raw const local).cast(), 1, &raw const remote, 1, 0) };
    usize::try_from(len).unwrap_or(0)
}

/// Reads a file of a process.
pub(super) fn read(process: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = openat(process.as_fd(), name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    std::fs::File::from(file).read_to_end(&mut text)?;
    Ok(text)
}

fn name(mut comm: Vec<u8>) -> OsString {
    if comm.last() == Some(&b'\n') {
        comm.pop();
    }
    OsString::from_vec(comm)
}

/// Whether the process is a Java machine, which turns the signal into an exception.
fn has_java(process: &OwnedFd) -> bool {
    let is_java = |line: &[u8]| line.ends_with(b"/libjvm.so").then_some(());
    lines::find(process, "maps", is_java).is_ok_and(|found| found.is_some())
}

impl Finding {
    /// For a fault that was not looked at.
    pub(crate) fn without(thread: i32, signal: Signal, why: String) -> Finding {
        Finding {
            fault: Fault {
                process: thread,
                thread,
                program: OsString::new(),
                thread_name: OsString::new(),
                code: signal.code,
                address: signal.address,
                access: access::Access::Unknown,
                file: None,
                cause: Cause::Unknown { facts: why },
                has_handler: false,
            },
            range: 0..0,
            is_replaced: false,
            is_overdue: false,
            is_code: false,
            has_filter: false,
            ignores_traps: false,
            recovers: false,
            gadget: None,
            page: rustix::param::page_size() as u64,
            target: None,
        }
    }
}
