//! The one registry of a process: which objects have tables, and who had the signals before us.
//!
//! Several objects of a process may each carry this crate, or only instructions inlined from it. They meet through ELF
//! notes: each object that has a table has a note (see [`table`](crate::table)), and the loader lists all objects. The
//! first that needs the handler offers its own registry; the others find it through an object that is registered.
//!
//! What the handler may find here is never unloaded: an object is pinned (`RTLD_NODELETE`) before it is entered.
//! Nothing here runs in a signal; what does only follows the atomic pointers this module publishes.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_int, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::arch;
use crate::fault::Cause;
use crate::signal::handler::{self, GENERATIONS};
use crate::table::{self, ABI, Object, Site};

/// Who answers the signals.
pub(crate) const MODE_NONE: u32 = 0;
pub(crate) const MODE_OURS: u32 = 1;
pub(crate) const MODE_HOST: u32 = 2;

/// `SA_EXPOSE_TAGBITS` (Linux 5.11): `si_addr` keeps the tag of the pointer that faulted, where there are tags.
const EXPOSE_TAGBITS: c_int = 0x800;

/// SIGSEGV and SIGBUS.
pub(crate) const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// The process-wide registry, shared by every object with the same [`ABI`]. What a recovery touches comes first, and
/// shares a cache line.
#[repr(C, align(64))]
pub(crate) struct Registry {
    abi: u32,
    pub(crate) mode: AtomicU32,
    /// Objects with a table, newest first. Only ever grows.
    pub(crate) objects: AtomicPtr<Object>,
    /// Recovered faults by [`Cause::index`].
    pub(crate) recovered: [AtomicU64; 16],
    /// Signals passed on to whoever was there before.
    pub(crate) forwarded: AtomicU64,
    /// For each of [`SIGNALS`].
    previous: [Previous; 2],
    /// The handler of the object this registry lives in, by generation.
    entries: [handler::Entry; GENERATIONS],
    /// Process id of the thread that changes dispositions, 0 if none does. A child that is forked meanwhile inherits
    /// its parent's, which it may ignore.
    lock: AtomicU32,
}

const _: () = assert!(Cause::COUNT <= 16);

/// What was in force for one signal before us, by generation of our handler. The first generation stands where we were
/// installed first, or after somebody set the default action; each further one above a handler that others installed
/// above ours, and that we were raised above in turn.
#[repr(C)]
pub(crate) struct Previous {
    pub(crate) before: [Disposition; GENERATIONS],
}

impl Previous {
    /// The generation to install above `action`: the one that stood above the same handler before, else a new one.
    fn generation_above(&self, action: &Action) -> Option<usize> {
        let known = self.before.iter().position(|b| b.get().is_some_and(|b| b.handler == action.handler));
        known.or_else(|| self.before.iter().position(|b| b.get().is_none()))
    }
}

/// What there is to know of a `struct sigaction` to do as it says.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Action {
    pub(crate) handler: usize,
    pub(crate) flags: c_int,
    /// The kernel's signal set.
    pub(crate) mask: u64,
}

impl Action {
    /// Whether it is a function, not the default or "ignore".
    pub(crate) fn is_function(&self) -> bool {
        self.handler != libc::SIG_DFL && self.handler != libc::SIG_IGN
    }
}

impl From<libc::sigaction> for Action {
    fn from(action: libc::sigaction) -> Self {
        const { assert!(size_of::<libc::sigset_t>() >= size_of::<u64>()) };
        // SAFETY: the C library's signal set begins with the kernel's.
        let mask = unsafe { (&raw const action.sa_mask).cast::<u64>().read_unaligned() };
        Action { handler: action.sa_sigaction, flags: action.sa_flags, mask }
    }
}

/// A published [`Action`]. Two slots: one is written while the other may be read.
#[repr(C)]
pub(crate) struct Disposition {
    current: AtomicPtr<Action>,
    slots: [UnsafeCell<MaybeUninit<Action>>; 2],
    next: AtomicUsize,
    /// Whether a one-shot (`SA_RESETHAND`) handler has had its shot.
    pub(crate) spent: AtomicU32,
}

// SAFETY: a slot is written only under the registry's lock and only while `current` points to the other one or to
// nothing; readers follow `current`.
unsafe impl Sync for Disposition {}

impl Disposition {
    const fn new() -> Self {
        Disposition {
            current: AtomicPtr::new(core::ptr::null_mut()),
            slots: [UnsafeCell::new(MaybeUninit::uninit()), UnsafeCell::new(MaybeUninit::uninit())],
            next: AtomicUsize::new(0),
            spent: AtomicU32::new(0),
        }
    }

    /// What was there, if anything was recorded. Signal-safe.
    pub(crate) fn get(&self) -> Option<Action> {
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: a non-null `current` points to a slot that was written before it was published.
        if current.is_null() { None } else { Some(unsafe { *current }) }
    }

    /// Publishes. Only under the registry's lock.
    fn set(&self, action: Action) {
        let slot = self.slots[self.next.fetch_xor(1, Ordering::Relaxed) & 1].get();
        // SAFETY: the other slot is the published one; see `Sync`. A handler that still reads this slot from two
        // publications ago would have to be in the midst of copying it for the time of two sigaction calls; the values
        // it could mix are both plain data.
        unsafe { (*slot).write(action) };
        self.spent.store(0, Ordering::Relaxed);
        self.current.store(slot.cast(), Ordering::Release);
    }
}

/// This object's offer.
pub(crate) static REGISTRY: Registry = Registry {
    abi: ABI,
    mode: AtomicU32::new(MODE_NONE),
    objects: AtomicPtr::new(core::ptr::null_mut()),
    recovered: [const { AtomicU64::new(0) }; 16],
    forwarded: AtomicU64::new(0),
    previous: [const { Previous { before: [const { Disposition::new() }; GENERATIONS] } }; 2],
    entries: handler::ENTRIES,
    lock: AtomicU32::new(0),
};

/// Why the handler could not be installed or a table not be registered.
#[derive(Debug)]
#[non_exhaustive]
pub enum InstallError {
    /// `sigaction(2)` refused, for this signal.
    Sigaction(i32, std::io::Error),
    /// Our handler was raised above so many others', one after the other, that there is no room for one more.
    TooManyHandlers,
    /// The host owns the handler: see [`host_owns_handler`](crate::host_owns_handler).
    HostOwnsHandler,
    /// An object could not be pinned, so that its table could vanish while the handler reads it.
    Pin(String),
    /// This object's table was not found among the loaded objects: the ELF note was stripped.
    NotFound,
    /// This architecture has no handler: use [`signal_free`](crate::signal_free).
    Unsupported,
}

impl core::fmt::Display for InstallError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            InstallError::Sigaction(signal, error) => write!(f, "sigaction for signal {signal}: {error}"),
            InstallError::TooManyHandlers => f.write_str("too many other handlers to stand above"),
            InstallError::HostOwnsHandler => f.write_str("the host owns the handler; ours is not installed"),
            InstallError::Pin(what) => write!(f, "cannot keep {what} from being unloaded"),
            InstallError::NotFound => {
                f.write_str("this object's exception table is not registered; was the note `faultin` stripped from it?")
            }
            InstallError::Unsupported => f.write_str("no fault handler on this architecture; use the signal-free mode"),
        }
    }
}

impl core::error::Error for InstallError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            InstallError::Sigaction(_, error) => Some(error),
            _ => None,
        }
    }
}

impl From<InstallError> for std::io::Error {
    fn from(error: InstallError) -> Self {
        match error {
            InstallError::Sigaction(_, error) => error,
            InstallError::Unsupported => std::io::Error::new(std::io::ErrorKind::Unsupported, error),
            other => std::io::Error::other(other),
        }
    }
}

/// The registry `object` is in, if it is in one.
#[inline]
pub(crate) fn of(object: &Object) -> Option<&'static Registry> {
    let registry = object.registry.load(Ordering::Acquire).cast::<Registry>();
    // SAFETY: only `publish` stores it: a registry of our ABI in a pinned object.
    unsafe { registry.as_ref() }
}

/// Registers the tables of this object, of `caller`'s, and of every other object that is loaded now.
pub(crate) fn attach(caller: &'static Object) -> Result<&'static Registry, InstallError> {
    if !arch::HAS_TABLE {
        return Err(InstallError::Unsupported);
    }
    let own = arch::object();
    // This object first: its registry may be the one everybody uses from now on.
    if of(own).is_none() {
        let site = find(|object| core::ptr::eq(object, own)).into_iter().next().ok_or(InstallError::NotFound)?;
        pin(&site)?;
        let mut slots = Some(table::slots(own.table()));
        with_loader_lock(|| {
            if of(own).is_some() {
                return;
            }
            let registry = find(|object| of(object).is_some()).first().and_then(|l| of(l.object)).unwrap_or(&REGISTRY);
            publish(registry, own, slots.take().unwrap_or_default());
        });
    }
    let registry = of(own).ok_or(InstallError::NotFound)?;
    // Then whoever else is loaded. One that cannot be pinned is left out; if it is the caller, that is an error.
    for site in find(|object| of(object).is_none()) {
        let pinned = pin(&site);
        if core::ptr::eq(site.object, caller) {
            pinned?;
        } else if pinned.is_err() {
            continue;
        }
        let mut slots = Some(table::slots(site.object.table()));
        with_loader_lock(|| {
            if of(site.object).is_none() {
                publish(registry, site.object, slots.take().unwrap_or_default());
            }
        });
    }
    if of(caller).is_none() {
        return Err(InstallError::NotFound);
    }
    Ok(registry)
}

impl Registry {
    /// What was in force for `signal` before us; nothing for a signal that is none of ours.
    pub(crate) fn previous(&self, signal: c_int) -> Option<&Previous> {
        let [segv, bus] = &self.previous;
        match signal {
            libc::SIGSEGV => Some(segv),
            libc::SIGBUS => Some(bus),
            _ => None,
        }
    }

    /// Whether the function at this address is our handler.
    pub(crate) fn is_ours(&self, handler: usize) -> bool {
        self.entries.iter().any(|entry| *entry as usize == handler)
    }

    /// Makes our handler answer both signals, unless another stands above it or the host has them.
    pub(crate) fn install_handler(&self) -> Result<(), InstallError> {
        self.locked(|| match self.mode.load(Ordering::Acquire) {
            MODE_HOST => Ok(()),
            // Somebody may have set the default since (Rust's own handler does, before it gives up).
            MODE_OURS => self.take_both(|_, now| Ok(if now.is_function() { None } else { Some(0) })),
            _ => {
                self.take_both(|_, _| Ok(Some(0)))?;
                self.mode.store(MODE_OURS, Ordering::Release);
                Ok(())
            }
        })
    }

    /// The host's own handler calls ours. Once ours is installed it stays; a host may call it all the same.
    pub(crate) fn host_owns_handler(&self) {
        self.locked(|| {
            let _ = self.mode.compare_exchange(MODE_NONE, MODE_HOST, Ordering::AcqRel, Ordering::Acquire);
        });
    }

    /// Puts our handler on top again where another stands above it.
    pub(crate) fn raise_to_top(&self) -> Result<(), InstallError> {
        self.locked(|| {
            if self.mode.load(Ordering::Acquire) == MODE_HOST {
                return Err(InstallError::HostOwnsHandler);
            }
            self.take_both(|previous, now| match now.is_function() {
                true => previous.generation_above(now).map(Some).ok_or(InstallError::TooManyHandlers),
                false => Ok(Some(0)),
            })?;
            self.mode.store(MODE_OURS, Ordering::Release);
            Ok(())
        })
    }

    /// [Takes](Registry::take) both signals or, if that fails, none.
    fn take_both(
        &self,
        generation: impl Fn(&Previous, &Action) -> Result<Option<usize>, InstallError>,
    ) -> Result<(), InstallError> {
        let replaced = self.take(0, &generation)?;
        self.take(1, &generation).map(drop).inspect_err(|_| {
            if let Some(action) = replaced {
                // SAFETY: gives back what was in force, as the kernel returned it.
                unsafe { libc::sigaction(SIGNALS[0], &action, core::ptr::null_mut()) };
            }
        })
    }

    /// Installs our handler for a signal, as the generation that is chosen for what is in force now (none: leaves it
    /// alone), and returns what it replaced.
    fn take(
        &self,
        which: usize,
        generation: impl Fn(&Previous, &Action) -> Result<Option<usize>, InstallError>,
    ) -> Result<Option<libc::sigaction>, InstallError> {
        let (signal, previous) = (SIGNALS[which], &self.previous[which]);
        let now = current(signal)?;
        let before = Action::from(now);
        if self.is_ours(before.handler) {
            return Ok(None);
        }
        let Some(generation) = generation(previous, &before)? else { return Ok(None) };
        // Recorded first, so that a signal that arrives in between finds its way.
        previous.before[generation].set(before);
        // SAFETY: all-zero is a valid `sigaction`; every field that matters is set below.
        let mut ours: libc::sigaction = unsafe { core::mem::zeroed() };
        ours.sa_sigaction = self.entries[generation] as usize;
        // SIGINFO: the fault's address and the registers. ONSTACK: a stack overflow leaves no other stack, and the
        // predecessor (Rust's runtime, for one) may count on it. NODEFER: a handler that we call and that faults again
        // must find us. Of the predecessor's wishes those that take effect before a handler runs: only what is
        // forwarded to it interrupts system calls, and addresses keep their tags for its sake.
        ours.sa_flags =
            libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER | before.flags & (libc::SA_RESTART | EXPOSE_TAGBITS);
        if before.handler == libc::SIG_IGN {
            // An ignored signal interrupts no system call.
            ours.sa_flags |= libc::SA_RESTART;
        }
        let mut replaced = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: `ours` is initialised; the handler it names lives in a pinned object.
        if unsafe { libc::sigaction(signal, &ours, replaced.as_mut_ptr()) } != 0 {
            return Err(InstallError::Sigaction(signal, std::io::Error::last_os_error()));
        }
        // SAFETY: written by the call, and zeroed before.
        let replaced = unsafe { replaced.assume_init() };
        let after = Action::from(replaced);
        // Somebody else was quicker between the two calls.
        if after.handler != before.handler && !self.is_ours(after.handler) {
            previous.before[generation].set(after);
        }
        Ok(Some(replaced))
    }

    /// Runs `f` while no other thread of this process changes dispositions.
    fn locked<T>(&self, f: impl FnOnce() -> T) -> T {
        let me = std::process::id();
        loop {
            let holder = self.lock.load(Ordering::Relaxed);
            if holder != me && self.lock.compare_exchange(holder, me, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                break;
            }
            std::thread::yield_now();
        }
        let result = f();
        self.lock.store(0, Ordering::Release);
        result
    }
}

/// The disposition of `signal`.
pub(crate) fn current(signal: c_int) -> Result<libc::sigaction, InstallError> {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: only asks; `now` is valid for writes.
    if unsafe { libc::sigaction(signal, core::ptr::null(), now.as_mut_ptr()) } != 0 {
        return Err(InstallError::Sigaction(signal, std::io::Error::last_os_error()));
    }
    // SAFETY: written by the call, and zeroed before.
    Ok(unsafe { now.assume_init() })
}

/// Enters `object` into `registry`. Only under the loader's lock, once per object.
fn publish(registry: &'static Registry, object: &'static Object, slots: Vec<Site>) {
    let slots: &'static mut [Site] = slots.leak();
    object.slot_count.store(slots.len(), Ordering::Relaxed);
    object.slots.store(slots.as_mut_ptr(), Ordering::Relaxed);
    object.next.store(registry.objects.load(Ordering::Relaxed), Ordering::Relaxed);
    registry.objects.store(core::ptr::from_ref(object).cast_mut(), Ordering::Release);
    object.registry.store(core::ptr::from_ref(registry).cast_mut().cast::<c_void>(), Ordering::Release);
}

/// A loaded object that carries our note. Unless it is pinned, it may be unloaded at any time, and `object` dangle.
struct Loaded {
    object: &'static Object,
    /// Path the loader knows it by; empty for the executable, which is never unloaded.
    name: Box<CStr>,
    base: usize,
}

/// Every loaded object with a note of our ABI that `want`s. It is asked while nothing can be unloaded.
fn find<W: Fn(&'static Object) -> bool>(want: W) -> Vec<Loaded> {
    unsafe extern "C" fn visit<W: Fn(&'static Object) -> bool>(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader passes a valid `info` for the time of the call, and `data` is the pair below.
        let (info, (found, want)) = unsafe { (&*info, &mut *data.cast::<(Vec<Loaded>, W)>()) };
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: the loader's program headers of a mapped object.
        let headers = unsafe { core::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum as usize) };
        for header in headers.iter().filter(|h| h.p_type == libc::PT_NOTE) {
            let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
            // SAFETY: a PT_NOTE segment lies inside a loaded segment of the object, mapped as long as it is loaded.
            let notes = unsafe {
                core::slice::from_raw_parts(core::ptr::with_exposed_provenance::<u8>(start), header.p_memsz as usize)
            };
            let Some(object) = object_in(notes, header.p_align as usize) else { continue };
            if !want(object) {
                break;
            }
            let name = if info.dlpi_name.is_null() {
                Box::from(c"")
            } else {
                // SAFETY: the loader's NUL-terminated name.
                Box::from(unsafe { CStr::from_ptr(info.dlpi_name) })
            };
            found.push(Loaded { object, name, base: info.dlpi_addr as usize });
            break;
        }
        0
    }
    let mut data = (Vec::new(), want);
    // SAFETY: `visit` only reads what the loader shows it, asks `want` and pushes to the vector.
    unsafe { libc::dl_iterate_phdr(Some(visit::<W>), core::ptr::from_mut(&mut data).cast()) };
    data.0
}

/// The object a note of ours leads to, among `notes`.
fn object_in(notes: &'static [u8], align: usize) -> Option<&'static Object> {
    let align = if align == 8 { 8 } else { 4 };
    let mut at = 0;
    loop {
        let word = |i: usize| {
            let bytes = notes.get(at + 4 * i..at + 4 * i + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let (name_len, desc_len, kind) = (word(0)? as usize, word(1)? as usize, word(2)?);
        let name_at = at + 12;
        let desc_at = name_at.checked_add(name_len)?.checked_next_multiple_of(align)?;
        let name = notes.get(name_at..name_at.checked_add(name_len)?)?;
        if name == b"faultin\0" && kind == ABI && desc_len == 4 {
            let desc = notes.get(desc_at..desc_at + 4)?;
            let offset = i32::from_ne_bytes(desc.try_into().ok()?);
            let object = desc.as_ptr().wrapping_offset(offset as isize).cast::<Object>();
            // SAFETY: a note of this name and version is only made together with the object it points to.
            return Some(unsafe { &*core::ptr::with_exposed_provenance::<Object>(object.expose_provenance()) });
        }
        at = desc_at.checked_add(desc_len)?.checked_next_multiple_of(align)?;
    }
}

/// Keeps the object from ever being unloaded.
fn pin(loaded: &Loaded) -> Result<(), InstallError> {
    if loaded.name.is_empty() {
        return Ok(());
    }
    let error = || InstallError::Pin(loaded.name.to_string_lossy().into_owned());
    // SAFETY: NOLOAD: only finds what is loaded already, and marks it.
    let handle =
        unsafe { libc::dlopen(loaded.name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE) };
    if handle.is_null() {
        return Err(error());
    }
    // SAFETY: gives the reference back; the mark stays.
    unsafe { libc::dlclose(handle) };
    // Another object may have taken its name and place since we looked.
    let same = find(|object| core::ptr::eq(object, loaded.object))
        .iter()
        .any(|l| l.base == loaded.base && l.name == loaded.name);
    if same { Ok(()) } else { Err(error()) }
}

/// Runs `f` while the loader neither loads nor unloads: `dl_iterate_phdr` holds its lock around the callback, and the
/// lock may be taken again inside (glibc). Where it does not (musl), processes with several objects that install at
/// the same moment in two threads may end with two registries, which chain to each other.
fn with_loader_lock(mut f: impl FnMut()) {
    unsafe extern "C" fn once<F: FnMut()>(_: *mut libc::dl_phdr_info, _: usize, f: *mut c_void) -> c_int {
        // SAFETY: `f` is the closure below, alive and not otherwise used during the call.
        unsafe { (*f.cast::<F>())() };
        1
    }
    fn go<F: FnMut()>(f: &mut F) {
        // SAFETY: `once` calls `f` at most once, during this call. `f` does not unwind.
        unsafe { libc::dl_iterate_phdr(Some(once::<F>), core::ptr::from_mut(f).cast()) };
    }
    go(&mut f);
}
