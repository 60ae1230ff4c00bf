/**
 * @file faultin.h
 *
 * Memory that may fault: an access that fails is an exact count and a cause, and the process lives. docs/c.md and
 * faultin(3) say which call is for what.
 *
 * - Functions that move bytes return the number of bytes done. Other functions return 0, or an error number of <errno.h>.
 * - The parameter `fault` may be NULL. It is written if, and only if, the result is less than what was asked for, or not 0. (With
 *   faultin_fault_in(), whose prefix may be short, if the result is 0.) With a length of 0 nothing is asked for, so nothing is
 *   written, whatever the other arguments are.
 * - Nothing is installed before faultin_install() is called: until then, the kernel makes the accesses.
 * - Structures have a size field or reserved words, so that later versions can extend them. Numbers of enumerators stay.
 *
 * This file is generated: see CONTRIBUTING.md.
 */

#ifndef FAULTIN_H
#define FAULTIN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/**
 * The offset of what was not found.
 */
#define FAULTIN_NOT_FOUND SIZE_MAX

/**
 * A function whose result must be used: without it, what the function makes is lost, or bytes that are not the file's are taken for it.
 * A program may define it as nothing.
 */
#ifndef FAULTIN_MUST_USE
#if defined(__GNUC__)
#define FAULTIN_MUST_USE __attribute__((warn_unused_result))
#else
#define FAULTIN_MUST_USE
#endif
#endif

/**
 * The address in a struct faultin_fault is known.
 */
#define FAULTIN_ADDRESS_KNOWN 1

/**
 * A size in bytes that is enough for every text of faultin_fault_print().
 */
#define FAULTIN_FAULT_PRINT_SIZE 256

/**
 * The bytes of a guard are a copy: `flags` in struct faultin_guard.
 */
#define FAULTIN_GUARD_COPY 1

/**
 * The number of words in struct faultin_guard that are the library's.
 */
#define FAULTIN_GUARD_WORDS 40

/**
 * The largest number of ranges in struct faultin_damage.
 */
#define FAULTIN_DAMAGE_RANGES 8

/**
 * The largest number of segments, as in readv(2) (IOV_MAX).
 */
#define FAULTIN_IOV_MAX 1024

/**
 * The map is also for writing: `flags` in struct faultin_map_options.
 */
#define FAULTIN_MAP_WRITE 1

/**
 * The longest needle of faultin_find(), in bytes: the search allocates nothing.
 */
#define FAULTIN_NEEDLE_MAX 1024

/**
 * Why an operation stopped: `cause` in struct faultin_fault.
 *
 * Numbers are never reused; later versions may add some.
 */
enum faultin_cause {
    /**
     * It did not: a short count is the end of the file.
     */
    FAULTIN_CAUSE_NONE = 0,
    /**
     * Nothing is mapped at the address (SEGV_MAPERR).
     */
    FAULTIN_CAUSE_UNMAPPED = 1,
    /**
     * Mapped, but not with this right (SEGV_ACCERR).
     */
    FAULTIN_CAUSE_PROTECTION = 2,
    /**
     * Mapped, but the file or memory behind the mapping did not deliver (BUS_ADRERR): past the end of the file, an I/O error,
     * no space, exhausted huge pages, a userfaultfd. Maps distinguish these.
     */
    FAULTIN_CAUSE_BACKING = 3,
    /**
     * Poisoned memory (BUS_MCEERR_AR): `extent` bytes are lost.
     */
    FAULTIN_CAUSE_POISON = 4,
    /**
     * The pointer's tag is not the memory's (SEGV_MTESERR).
     */
    FAULTIN_CAUSE_TAG = 5,
    /**
     * A protection key forbids it (SEGV_PKUERR).
     */
    FAULTIN_CAUSE_PROTECTION_KEY = 6,
    /**
     * Not an address of this machine.
     */
    FAULTIN_CAUSE_NON_CANONICAL = 7,
    /**
     * A misaligned atomic operation. Nothing was accessed.
     */
    FAULTIN_CAUSE_ALIGNMENT = 8,
    /**
     * The access would have had to wait, and must not.
     */
    FAULTIN_CAUSE_NOT_RESIDENT = 9,
    /**
     * An argument is out of range: a length, a number of segments, a granularity. Nothing was accessed.
     */
    FAULTIN_CAUSE_OUT_OF_RANGE = 10,
    /**
     * The ranges overlap with the destination above the source. Nothing was accessed.
     */
    FAULTIN_CAUSE_OVERLAP = 11,
    /**
     * This machine or this mode has no such operation (an atomic one without a handler), or every way by which the kernel
     * could make the access is forbidden. Nothing was accessed.
     */
    FAULTIN_CAUSE_UNSUPPORTED = 12,
    /**
     * Any other cause; `signal` and `code` have what the kernel reported.
     */
    FAULTIN_CAUSE_OTHER = 13,
    /**
     * Resolving the fault would wait for a lock that the faulting thread itself holds.
     */
    FAULTIN_CAUSE_DEADLOCK = 14,
    /**
     * The file was truncated: from `size_before` to `size_now` bytes.
     */
    FAULTIN_CAUSE_SHRUNK = 32,
    /**
     * The file grew: from `size_before` to `size_now` bytes.
     */
    FAULTIN_CAUSE_GROWN = 33,
    /**
     * The file was rewritten.
     */
    FAULTIN_CAUSE_REWRITTEN = 34,
    /**
     * Another file took the place of the mapped one.
     */
    FAULTIN_CAUSE_REPLACED = 35,
    /**
     * The file was deleted.
     */
    FAULTIN_CAUSE_DELETED = 36,
    /**
     * The file's attributes or data were changed.
     */
    FAULTIN_CAUSE_TOUCHED = 37,
    /**
     * A system call failed: `error` has its error number.
     */
    FAULTIN_CAUSE_IO = 38,
    /**
     * No space left on the device, or the quota is used up.
     */
    FAULTIN_CAUSE_NO_SPACE = 39,
    /**
     * Past the end of the map, which has `size_now` bytes.
     */
    FAULTIN_CAUSE_PAST_END = 40,
    /**
     * A directory, a pipe or a device: not a regular file.
     */
    FAULTIN_CAUSE_NOT_A_FILE = 41,
    /**
     * The signal handler could not be installed.
     */
    FAULTIN_CAUSE_HANDLER = 42,
    /**
     * The map is in use: a guard is open.
     */
    FAULTIN_CAUSE_BUSY = 43,
};

/**
 * A load or a store: `access` in struct faultin_fault, and an argument.
 */
enum faultin_access {
    /**
     * Loading.
     */
    FAULTIN_ACCESS_READ = 1,
    /**
     * Storing, and atomic operations that load and store.
     */
    FAULTIN_ACCESS_WRITE = 2,
};

/**
 * Who makes the accesses: `mode` in struct faultin_status.
 */
enum faultin_mode {
    /**
     * The kernel copies; nothing is installed. The mode until faultin_install() or faultin_host_owns_handler().
     */
    FAULTIN_MODE_KERNEL = 0,
    /**
     * The handler of this library recovers faults.
     */
    FAULTIN_MODE_INSTALLED = 1,
    /**
     * The host's handler recovers faults, by faultin_try_handle().
     */
    FAULTIN_MODE_HOST = 2,
};

/**
 * The position of the handler for a signal: `segv` and `bus` in struct faultin_status.
 */
enum faultin_position {
    /**
     * Nothing recovers faults. In mode FAULTIN_MODE_KERNEL nothing needs to.
     */
    FAULTIN_POSITION_ABSENT = 0,
    /**
     * The kernel calls the handler of this library directly.
     */
    FAULTIN_POSITION_DIRECT = 1,
    /**
     * Another handler, at `segv_above` or `bus_above`, was installed later: the library's is reached if that one passes on
     * signals that it does not know.
     */
    FAULTIN_POSITION_BELOW = 2,
    /**
     * The host owns the handler.
     */
    FAULTIN_POSITION_HOST = 3,
};

/**
 * How the kernel copies where there is no handler: `kernel` in struct faultin_status.
 */
enum faultin_kernel {
    /**
     * Every way is forbidden to this thread.
     */
    FAULTIN_KERNEL_NONE = 0,
    /**
     * process_vm_readv and process_vm_writev on this process.
     */
    FAULTIN_KERNEL_CROSS_MEMORY = 1,
    /**
     * /proc/self/mem.
     */
    FAULTIN_KERNEL_PROC_MEM = 2,
    /**
     * A pipe.
     */
    FAULTIN_KERNEL_PIPE = 3,
};

/**
 * What a probe proves one by one: an argument of faultin_probe().
 */
enum faultin_unit {
    /**
     * One access per page: mapping, protection, backing.
     */
    FAULTIN_UNIT_PAGE = 0,
    /**
     * One load per 64 bytes as well: poison.
     */
    FAULTIN_UNIT_LINE = 1,
    /**
     * One load per 16 bytes as well: memory tags.
     */
    FAULTIN_UNIT_GRANULE = 2,
};

/**
 * A memory order: an argument of atomic operations. The numbers are those of memory_order in C and C++, with gcc and clang.
 */
enum faultin_order {
    /**
     * No order.
     */
    FAULTIN_ORDER_RELAXED = 0,
    /**
     * As FAULTIN_ORDER_ACQUIRE.
     */
    FAULTIN_ORDER_CONSUME = 1,
    /**
     * Loads only: later accesses stay after it.
     */
    FAULTIN_ORDER_ACQUIRE = 2,
    /**
     * Stores only: earlier accesses stay before it.
     */
    FAULTIN_ORDER_RELEASE = 3,
    /**
     * Operations that load and store: both.
     */
    FAULTIN_ORDER_ACQ_REL = 4,
    /**
     * One order of all such operations.
     */
    FAULTIN_ORDER_SEQ_CST = 5,
};

/**
 * What counts as a change of a mapped file: `watch` in struct faultin_map_options.
 */
enum faultin_map_watch {
    /**
     * The errors of read(2): a file that ends before the bytes that were asked for do. The default.
     */
    FAULTIN_MAP_WATCH_READER = 0,
    /**
     * For logs, whose bytes never change: a file that is shorter than it was, or rewritten.
     */
    FAULTIN_MAP_WATCH_APPENDING = 1,
    /**
     * For hashes and backups: any change.
     */
    FAULTIN_MAP_WATCH_CONTENTS = 2,
    /**
     * For files that do not change: only a page that no longer exists.
     */
    FAULTIN_MAP_WATCH_NOTHING = 3,
};

/**
 * How a map reads: `backend` in struct faultin_map_options.
 */
enum faultin_map_backend {
    /**
     * From a mapping if faultin_install() or faultin_host_owns_handler() was called before, otherwise from the file. The default.
     */
    FAULTIN_MAP_BACKEND_AUTOMATIC = 0,
    /**
     * From a mapping, or the map is not opened.
     */
    FAULTIN_MAP_BACKEND_MAPPED = 1,
    /**
     * From the file, with pread(2) and pwrite(2).
     */
    FAULTIN_MAP_BACKEND_FILE = 2,
};

/**
 * How a test file fails: an argument of faultin_test_file().
 */
enum faultin_test_fail {
    /**
     * The file was truncated to `fails_at` bytes after it was mapped. The bytes from there to the end of the page read as zeros;
     * pages after that raise SIGBUS. read() ends.
     */
    FAULTIN_TEST_FAIL_TRUNCATED = 0,
    /**
     * The pages from `fails_at` on cannot be provided, although the file has them: as for an I/O error, an access of the
     * mapping raises SIGBUS. (The kernel has no I/O errors without root: read() of the descriptor succeeds.)
     */
    FAULTIN_TEST_FAIL_UNREADABLE = 1,
    /**
     * The file system is full: the file has `bytes` bytes, and space for `fails_at` of them. A store past that raises SIGBUS,
     * and write() fails with ENOSPC.
     */
    FAULTIN_TEST_FAIL_NO_SPACE = 2,
    /**
     * The pages from `fails_at` on are PROT_NONE: an access of the mapping raises SIGSEGV.
     */
    FAULTIN_TEST_FAIL_PROTECTED = 3,
};

/**
 * A mapped file, or shared memory. Its functions may be called by any number of threads at the same time, except
 * faultin_map_close() and faultin_shared_resize().
 */
struct faultin_map;

/**
 * Why an operation stopped, and where. 112 bytes, and the same on every machine.
 *
 * Functions write it if, and only if, they did less than was asked for. With a length of 0 nothing is asked for, so nothing is
 * written, whatever the other arguments are.
 */
struct faultin_fault {
    /**
     * The cause: enum faultin_cause.
     */
    uint32_t cause;
    /**
     * Whether a load or a store failed: enum faultin_access; 0 if neither was tried.
     */
    uint32_t access;
    /**
     * The error number that a system call would return for the same memory or file.
     */
    int32_t error;
    /**
     * FAULTIN_ADDRESS_KNOWN, or 0. Later versions may set other bits.
     */
    uint32_t flags;
    /**
     * The signal that reported the fault (SIGSEGV or SIGBUS), 0 if none did.
     */
    int32_t signal;
    /**
     * The signal's si_code, 0 if no signal reported the fault.
     */
    int32_t code;
    /**
     * The address of the first byte that could not be accessed, if it is known.
     */
    uint64_t address;
    /**
     * The number of bytes that poison has destroyed, otherwise 0.
     */
    uint64_t extent;
    /**
     * The number of bytes that were done before.
     */
    uint64_t done;
    /**
     * Maps: the position in the file of the first byte that is not done.
     */
    uint64_t offset;
    /**
     * Maps: the size of the file when it was mapped, if that is the matter.
     */
    uint64_t size_before;
    /**
     * Maps: the size of the file now, or the length of the map, if that is the matter.
     */
    uint64_t size_now;
    /**
     * 0. Later versions may use it.
     */
    uint64_t reserved[5];
};

/**
 * A guard: memory of the caller that faultin_guard_begin() fills in. It may be moved, and ended by any thread.
 */
struct faultin_guard {
    /**
     * The bytes: readable until the guard ends. They may change at any time.
     */
    const void *data;
    /**
     * Their number.
     */
    size_t len;
    /**
     * FAULTIN_GUARD_COPY, or 0.
     */
    uint32_t flags;
    /**
     * 0. Later versions may use it.
     */
    uint32_t reserved;
    /**
     * The library's.
     */
    uint64_t state[FAULTIN_GUARD_WORDS];
};

/**
 * Bytes `from` to `to`, without `to`, of a map.
 */
struct faultin_range {
    /**
     * The position of the first byte.
     */
    uint64_t from;
    /**
     * The position after the last byte.
     */
    uint64_t to;
};

/**
 * Which bytes of a guard were not the file's, and why.
 */
struct faultin_damage {
    /**
     * The reason.
     */
    struct faultin_fault fault;
    /**
     * The position in the map of the first byte that was not the file's; the bytes before it were. UINT64_MAX if the file has
     * changed in a way that leaves no trace in memory: then the position is unknown.
     */
    uint64_t first_bad;
    /**
     * The number of ranges that may have been zeros instead of the file's bytes.
     */
    uint64_t ranges;
    /**
     * The first of them. The last one extends to the end of all if there are more.
     */
    struct faultin_range range[FAULTIN_DAMAGE_RANGES];
    /**
     * 0. Later versions may use it.
     */
    uint64_t reserved[4];
};

/**
 * What holds now in this process and this thread. The caller sets `size`.
 */
struct faultin_status {
    /**
     * The size of this structure in bytes, as the caller knows it: set by the caller, and not changed.
     */
    uint32_t size;
    /**
     * Who makes the accesses: enum faultin_mode.
     */
    uint32_t mode;
    /**
     * The position of the handler for SIGSEGV: enum faultin_position.
     */
    uint32_t segv;
    /**
     * The position of the handler for SIGBUS: enum faultin_position.
     */
    uint32_t bus;
    /**
     * 1 if this thread blocks SIGSEGV, otherwise 0. In the modes other than FAULTIN_MODE_KERNEL, a fault in a thread that
     * blocks it ends the process.
     */
    uint32_t segv_blocked;
    /**
     * 1 if this thread blocks SIGBUS, otherwise 0.
     */
    uint32_t bus_blocked;
    /**
     * How the kernel copies for this thread: enum faultin_kernel.
     */
    uint32_t kernel;
    /**
     * 1 if a fault of an access in this thread is certain to be a short result, otherwise 0.
     */
    uint32_t covered;
    /**
     * The address of the handler above ours for SIGSEGV, 0 if there is none.
     */
    uint64_t segv_above;
    /**
     * The address of the handler above ours for SIGBUS, 0 if there is none.
     */
    uint64_t bus_above;
    /**
     * The size of this thread's alternate signal stack in bytes, 0 if it has none.
     */
    uint64_t alternate_stack;
    /**
     * The size in bytes that an alternate stack needs for our handler, in the worst case.
     */
    uint64_t stack_needed;
    /**
     * The number of faults of accesses that were recovered in this process.
     */
    uint64_t recovered;
    /**
     * The number of faults that were resolved by zeros under a guard.
     */
    uint64_t substituted;
    /**
     * The number of signals that were not ours and were passed on.
     */
    uint64_t forwarded;
    /**
     * 0. Later versions may use it.
     */
    uint64_t reserved[5];
};

/**
 * How a file is mapped. Zeros are the defaults; the caller sets `size`.
 */
struct faultin_map_options {
    /**
     * The size of this structure in bytes, as the caller knows it. A larger one is accepted if the bytes that this version does
     * not know are 0.
     */
    uint32_t size;
    /**
     * FAULTIN_MAP_WRITE, or 0.
     */
    uint32_t flags;
    /**
     * What counts as a change: enum faultin_map_watch.
     */
    uint32_t watch;
    /**
     * How it reads: enum faultin_map_backend.
     */
    uint32_t backend;
    /**
     * The byte of the file where the map begins. Positions in the map count from here.
     */
    uint64_t offset;
    /**
     * The largest number of bytes of the map, 0 for no limit.
     */
    uint64_t length;
    /**
     * 0. Later versions may use it.
     */
    uint64_t reserved[4];
};

/**
 * A file that fails on purpose: a descriptor and a mapping.
 */
struct faultin_test_file {
    /**
     * A descriptor for reading and writing.
     */
    int fd;
    /**
     * How it fails: enum faultin_test_fail.
     */
    uint32_t how;
    /**
     * A mapping of the file from its start, with MAP_SHARED, PROT_READ and PROT_WRITE.
     */
    void *data;
    /**
     * The length of the mapping in bytes.
     */
    size_t len;
    /**
     * The first byte whose access fails: `fails_at`, rounded up to a page.
     */
    size_t fails_at;
    /**
     * The library's.
     */
    uint64_t reserved[4];
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Copies `len` bytes of memory that may fault into plain memory. Every byte before the returned count is copied, and none
 * after it.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst    Plain memory for `len` bytes, which does not overlap with `src`.
 * @param src    Memory that may fault.
 * @param len    The number of bytes.
 * @param fault  Written if fewer bytes were copied; may be NULL.
 * @return The number of bytes copied.
 */
size_t faultin_copy_in(void *dst,
                       const void *src,
                       size_t len,
                       struct faultin_fault *fault);

/**
 * Copies `len` bytes of plain memory to memory that may fault. Every byte before the returned count is copied, and none after
 * it.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst    Memory that may fault.
 * @param src    Plain memory of `len` bytes, which does not overlap with `dst`.
 * @param len    The number of bytes.
 * @param fault  Written if fewer bytes were copied; may be NULL.
 * @return The number of bytes copied.
 */
size_t faultin_copy_out(void *dst,
                        const void *src,
                        size_t len,
                        struct faultin_fault *fault);

/**
 * Copies `len` bytes between two ranges that both may fault, ascending.
 *
 * Ranges that overlap with `dst` below `src` are copied as by memmove(). With `dst` above `src` nothing is copied
 * (FAULTIN_CAUSE_OVERLAP), because no exact count could be kept.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst    Memory that may fault.
 * @param src    Memory that may fault.
 * @param len    The number of bytes.
 * @param fault  Written if fewer bytes were copied; may be NULL. Its `access` says which side failed.
 * @return The number of bytes copied.
 */
size_t faultin_copy(void *dst,
                    const void *src,
                    size_t len,
                    struct faultin_fault *fault);

/**
 * Fills `len` bytes of memory that may fault with a byte.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst    Memory that may fault.
 * @param byte   The byte, converted to unsigned char.
 * @param len    The number of bytes.
 * @param fault  Written if fewer bytes were filled; may be NULL.
 * @return The number of bytes filled.
 */
size_t faultin_fill(void *dst, int byte, size_t len, struct faultin_fault *fault);

/**
 * Copies as faultin_copy_in() does, always by the kernel: for threads that block SIGSEGV or SIGBUS, and for code that must not
 * raise a signal.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone. One system call if all bytes can be read.
 *
 * @param dst    Plain memory for `len` bytes, which does not overlap with `src`.
 * @param src    Memory that may fault.
 * @param len    The number of bytes.
 * @param fault  Written if fewer bytes were copied; may be NULL.
 * @return The number of bytes copied.
 */
size_t faultin_kernel_copy_in(void *dst,
                              const void *src,
                              size_t len,
                              struct faultin_fault *fault);

/**
 * Copies as faultin_copy_out() does, always by the kernel: for threads that block SIGSEGV or SIGBUS, and for code that must
 * not raise a signal.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone. One system call if all bytes can be written.
 *
 * @param dst    Memory that may fault.
 * @param src    Plain memory of `len` bytes, which does not overlap with `dst`.
 * @param len    The number of bytes.
 * @param fault  Written if fewer bytes were copied; may be NULL.
 * @return The number of bytes copied.
 */
size_t faultin_kernel_copy_out(void *dst,
                               const void *src,
                               size_t len,
                               struct faultin_fault *fault);

/**
 * Writes one line to `fd` that says what a SIGBUS or SIGSEGV is about: what was accessed, which file and byte, the cause, the
 * file's size and the free space, and what to do about it. For example:
 *
 * faultin: SIGBUS: store at byte 8192 of /dev/shm/pool: no space left on /dev/shm (64 MiB, 0 bytes free); hint: /dev/shm is too
 * small: in a container, `docker run --shm-size=1g` ...
 *
 * It may be called by any SA_SIGINFO handler for these signals, also on an alternate stack of 8 KiB. If two threads call it at the
 * same time, the second one writes a line without the file.
 *
 * Async-signal-safe: does not allocate, and leaves errno alone. It opens /proc/self/maps and the mapped file's name, and
 * queries the file: where a file server has died, a query may wait.
 *
 * @param info     The siginfo_t that the kernel passed to the handler.
 * @param context  The ucontext_t that the kernel passed to it; NULL if it is not known.
 * @param fd       Where the line is written, for example STDERR_FILENO.
 */
void faultin_explain(const void *info,
                     const void *context,
                     int fd);

/**
 * Installs a handler of SIGBUS that writes the line of faultin_explain() to standard error, and then lets the handler that was there
 * before have the signal: without one, the program dies by the same signal at the same instruction, with the same core
 * file. For an application that wants only that; libraries leave it alone.
 *
 * Faults that faultin_install() recovers are not explained. An object that has installed the handler stays loaded after dlclose().
 *
 * Not async-signal-safe; may be called by any thread, and more than once. A call that finds another thread installing waits for it.
 *
 * @return 0 if the handler is installed, otherwise the error number of sigaction(), or ENOTSUP if the object cannot be kept loaded.
 */
int faultin_explain_install(void);

/**
 * Writes what a fault says, as a line without its end, for example "store failed after 4096 bytes: no space left (error 28) at
 * byte 4096".
 *
 * At most `size` bytes are written, including a NUL, which is always written unless `size` is 0.
 *
 * If FAULTIN_ADDRESS_KNOWN is set in `flags`, the text ends with `address`, which is an address of the calling process. Sent to a
 * peer that is not trusted, or written where others may read it, it discloses where memory is mapped (address space layout
 * randomisation). Clear the flag in the structure first, and the text has no address.
 *
 * Async-signal-safe: does not allocate, lock, or use the locale.
 *
 * @param fault   What a function has written.
 * @param buffer  Where the text is written; may be NULL if `size` is 0.
 * @param size    The size of the buffer in bytes; FAULTIN_FAULT_PRINT_SIZE is always enough.
 * @return The length of the whole text without its NUL, as snprintf: the text was shortened if this is `size` or more.
 */
size_t faultin_fault_print(const struct faultin_fault *fault,
                           char *buffer,
                           size_t size);

/**
 * Begins a guard: until it ends, any code may read the bytes of a range in place. Pages that are missing (the file was truncated,
 * its disk fails) read as zeros meanwhile, which faultin_guard_end() reports.
 *
 * The code must be right whatever it reads: no byte needs to be the same when it is read twice. Guards may be nested, overlap, and
 * be open in any number of threads. A thread that reads must not block SIGBUS. System calls that are given the bytes
 * fail with EFAULT where a page is missing.
 *
 * The bytes are a copy (FAULTIN_GUARD_COPY), which takes memory and time for the whole range: without a handler, in a thread that
 * blocks SIGBUS, where the kernel forbids to replace pages, and while an earlier guard of the map has replaced some. A map of
 * faultin_shared_over() has no copies: there, begin fails with FAULTIN_CAUSE_HANDLER in the first two cases, with
 * FAULTIN_CAUSE_UNSUPPORTED in the third and FAULTIN_CAUSE_BUSY in the last one.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map     The map of a file or of shared memory.
 * @param offset  The position in the map.
 * @param len     The number of bytes; UINT64_MAX for all. A range that ends past the map ends with it.
 * @param guard   Filled in.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or an error number; there is no guard then.
 */
FAULTIN_MUST_USE
int faultin_guard_begin(const struct faultin_map *map,
                        uint64_t offset,
                        uint64_t len,
                        struct faultin_guard *guard,
                        struct faultin_fault *fault);

/**
 * Ends a guard. Its bytes must not be used any more.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param guard   The guard; its `data` is NULL afterwards.
 * @param damage  Written if not all bytes were the file's; may be NULL.
 * @return 0 if all bytes were the file's, of one time; otherwise the error number of the reason. EINVAL if the guard has ended.
 */
FAULTIN_MUST_USE
int faultin_guard_end(struct faultin_guard *guard,
                      struct faultin_damage *damage);

/**
 * Installs the handler for SIGSEGV and SIGBUS, once in a process: from here on, accesses run at the speed of plain ones. The
 * application decides this, and not a library.
 *
 * Signals that are not faults of these functions go to the handler that was installed before. An object that has installed
 * the handler stays loaded after dlclose(). Maps that were opened before keep reading from their files. Maps that are opened
 * afterwards move the handler as faultin_raise_to_top() does if another one is above it by then.
 *
 * A thread that blocks SIGSEGV or SIGBUS must not call the accessing functions afterwards: a fault would end the process.
 * It uses faultin_kernel_copy_in() and faultin_kernel_copy_out(), or unblocks the two signals.
 *
 * A second call checks whether the handler still has the signals, and installs it again where the default action was set in the
 * meantime. Not async-signal-safe; may be called by any thread.
 *
 * @return 0, or an error number: EBUSY after faultin_host_owns_handler(), ENOSYS where this architecture has no handler,
 *         ENOEXEC if the section or the note `faultin` was stripped from the object, ENOTSUP if the object cannot be kept
 *         loaded, or that of sigaction(). Nothing has changed then.
 */
int faultin_install(void);

/**
 * Moves the handler above one that was installed after it and does not pass on signals that it does not know (Python's
 * faulthandler). That handler still receives the signals that are not ours. As a first call, it installs the handler as
 * faultin_install() does.
 *
 * Not async-signal-safe; may be called by any thread.
 *
 * @return 0, or an error number, as faultin_install(); EAGAIN if the handler was raised above seven others already.
 */
int faultin_raise_to_top(void);

/**
 * Declares that the host has a handler for SIGSEGV and SIGBUS, which calls faultin_try_handle() first. Nothing is installed,
 * now or later. From here on, accesses run at the speed of plain ones.
 *
 * Not async-signal-safe; may be called by any thread.
 *
 * @return 0, or an error number, as faultin_install().
 */
int faultin_host_owns_handler(void);

/**
 * Handles a signal as the handler of this library does, for a host that owns the handler (a runtime, a database).
 *
 * The host's handler is installed with SA_SIGINFO, and with all signals blocked if it runs on an alternate stack.
 *
 * Async-signal-safe.
 *
 * @param signo    The signal: SIGSEGV or SIGBUS.
 * @param info     The siginfo_t that the kernel passed to the host's handler.
 * @param context  The ucontext_t that the kernel passed to it.
 * @return 1 if the signal was a fault of an access of this library: the handler returns, and the access ends as a short
 *         result. 0 if it is not ours; nothing was changed then.
 */
FAULTIN_MUST_USE
int faultin_try_handle(int signo,
                       void *info,
                       void *context);

/**
 * Writes what holds now: who makes the accesses, whether the handler is reached, whether this thread blocks the signals.
 *
 * Async-signal-safe; about ten system calls.
 *
 * @param status  Its `size` is set by the caller. Fields that are beyond this size are not written.
 */
void faultin_status(struct faultin_status *status);

/**
 * Copies `len` bytes from segments that may fault into plain memory: gathers. The list itself is plain memory.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst    Plain memory for `len` bytes.
 * @param len    The number of bytes.
 * @param iov    The segments, in memory that may fault.
 * @param count  The number of segments, at most FAULTIN_IOV_MAX. The sum of their lengths is at most SSIZE_MAX.
 * @param fault  Written if fewer bytes were copied; may be NULL. FAULTIN_CAUSE_OUT_OF_RANGE if the list breaks a limit (nothing
 *               is copied then), or has fewer than `len` bytes.
 * @return The number of bytes copied.
 */
size_t faultin_copy_in_iov(void *dst,
                           size_t len,
                           const struct iovec *iov,
                           int count,
                           struct faultin_fault *fault);

/**
 * Copies `len` bytes of plain memory to segments that may fault: scatters. The list itself is plain memory.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param iov    The segments, in memory that may fault.
 * @param count  The number of segments, at most FAULTIN_IOV_MAX. The sum of their lengths is at most SSIZE_MAX.
 * @param src    Plain memory of `len` bytes.
 * @param len    The number of bytes.
 * @param fault  Written if fewer bytes were copied; may be NULL. FAULTIN_CAUSE_OUT_OF_RANGE if the list breaks a limit (nothing
 *               is copied then), or has fewer than `len` bytes.
 * @return The number of bytes copied.
 */
size_t faultin_copy_out_iov(const struct iovec *iov,
                            int count,
                            const void *src,
                            size_t len,
                            struct faultin_fault *fault);

/**
 * Maps a file by its path.
 *
 * After faultin_install(), a map that is opened or refreshed moves the handler as faultin_raise_to_top() does if another one is above it.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map      The map is written there, NULL after an error.
 * @param path     The path.
 * @param options  How it is mapped; NULL for the defaults.
 * @param fault    Written after an error; may be NULL.
 * @return 0, or an error number.
 */
FAULTIN_MUST_USE
int faultin_map_open(struct faultin_map **map,
                     const char *path,
                     const struct faultin_map_options *options,
                     struct faultin_fault *fault);

/**
 * Maps the file of a descriptor. The map has a copy of the descriptor (with the same open file description), and never moves its
 * offset. When the map is closed, so is the copy: that releases the process's record locks (fcntl()) on the file, as closing any
 * descriptor of it does. The handler is moved as by faultin_map_open().
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map      The map is written there, NULL after an error.
 * @param fd       The descriptor, open for reading, or with FAULTIN_MAP_WRITE for reading and writing.
 * @param options  How it is mapped; NULL for the defaults.
 * @param fault    Written after an error; may be NULL.
 * @return 0, or an error number.
 */
FAULTIN_MUST_USE
int faultin_map_from_fd(struct faultin_map **map,
                        int fd,
                        const struct faultin_map_options *options,
                        struct faultin_fault *fault);

/**
 * Closes a map. No other thread uses it, and no guard of it is open.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map  The map; NULL does nothing.
 * @return 0; EBUSY if a guard is open, and the map stays open then.
 */
int faultin_map_close(struct faultin_map *map);

/**
 * Returns the length of a map in bytes: of a file, as of its last refresh; of shared memory, as agreed on.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map  The map.
 * @return The length in bytes.
 */
uint64_t faultin_map_size(const struct faultin_map *map);

/**
 * Returns the descriptor of a map, which belongs to the map: to pass it on, or to query the file. It must not be closed.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param map  The map.
 * @return The descriptor.
 */
int faultin_map_fd(const struct faultin_map *map);

/**
 * Returns whether a map reads from a mapping.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map  The map.
 * @return 1 if it reads from a mapping, 0 if it reads from the file.
 */
int faultin_map_is_mapped(const struct faultin_map *map);

/**
 * Reads from a map, as pread(2) does from the file.
 *
 * If all bytes can be read, but the file has changed in a way that `watch` counts, the result is 0: it is not known which bytes
 * are those of the file as it was.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map     The map.
 * @param dst     Plain memory for `len` bytes. Bytes past the count may have been overwritten.
 * @param len     The number of bytes.
 * @param offset  The position in the map.
 * @param fault   Written if fewer bytes were read; may be NULL. FAULTIN_CAUSE_NONE at the end of the map.
 * @return The number of bytes read.
 */
size_t faultin_map_read_at(const struct faultin_map *map,
                           void *dst,
                           size_t len,
                           uint64_t offset,
                           struct faultin_fault *fault);

/**
 * Writes to a map. A full disk is FAULTIN_CAUSE_NO_SPACE. The file does not become longer: faultin_map_allocate() makes it longer.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map     The map.
 * @param src     Plain memory of `len` bytes.
 * @param len     The number of bytes.
 * @param offset  The position in the map.
 * @param fault   Written if fewer bytes were written; may be NULL.
 * @return The number of bytes written.
 */
size_t faultin_map_write_at(const struct faultin_map *map,
                            const void *src,
                            size_t len,
                            uint64_t offset,
                            struct faultin_fault *fault);

/**
 * Fills a range of a map with a byte. A full disk is FAULTIN_CAUSE_NO_SPACE. The file does not become longer.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map     The map.
 * @param byte    The byte, converted to unsigned char.
 * @param len     The number of bytes.
 * @param offset  The position in the map.
 * @param fault   Written if fewer bytes were written; may be NULL.
 * @return The number of bytes written.
 */
size_t faultin_map_fill(const struct faultin_map *map,
                        int byte,
                        size_t len,
                        uint64_t offset,
                        struct faultin_fault *fault);

/**
 * Reserves space for a range of a writable map of a file, so that later writes do not find the disk full. If the range ends past the
 * end of the file, the file becomes longer, by zeros, and the map with it: fallocate() with mode 0, and faultin_map_refresh(). A map
 * that was opened with a `length` does not become longer than that.
 *
 * On file systems that copy on write or compress, a reservation promises little: writes report a full disk all the same.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map     The map.
 * @param offset  The position in the map.
 * @param len     The number of bytes; 0 does nothing.
 * @param fault   Written after an error; may be NULL. FAULTIN_CAUSE_NO_SPACE if there is none, FAULTIN_CAUSE_PAST_END if the range ends
 *                past the `length` that the map was opened with. A part of the range may be reserved then.
 * @return 0, or an error number.
 */
int faultin_map_allocate(const struct faultin_map *map,
                         uint64_t offset,
                         uint64_t len,
                         struct faultin_fault *fault);

/**
 * Writes a range of a writable map of a file back to its disk, and waits for that: msync() with MS_SYNC.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map     The map.
 * @param offset  The position in the map.
 * @param len     The number of bytes.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or an error number.
 */
int faultin_map_flush(const struct faultin_map *map,
                      uint64_t offset,
                      uint64_t len,
                      struct faultin_fault *fault);

/**
 * Finds the first occurrence of a needle in a range of a map of a file, without copying it.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map         The map.
 * @param needle      Plain memory: the bytes to find.
 * @param needle_len  Their number. None are found at `offset`.
 * @param offset      The position in the map where the search begins.
 * @param len         The number of bytes to search; UINT64_MAX for all.
 * @param at          The position in the map of the first occurrence, UINT64_MAX if there is none; not written after an error.
 * @param fault       Written after an error; may be NULL.
 * @return 0, or an error number.
 */
int faultin_map_find(const struct faultin_map *map,
                     const void *needle,
                     size_t needle_len,
                     uint64_t offset,
                     uint64_t len,
                     uint64_t *at,
                     struct faultin_fault *fault);

/**
 * Counts the bytes of a value in a range of a map of a file, without copying it.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map     The map.
 * @param byte    The byte, converted to unsigned char.
 * @param offset  The position in the map where the count begins.
 * @param len     The number of bytes to search; UINT64_MAX for all.
 * @param count   The number of occurrences; not written after an error.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or an error number.
 */
int faultin_map_count_byte(const struct faultin_map *map,
                           int byte,
                           uint64_t offset,
                           uint64_t len,
                           uint64_t *count,
                           struct faultin_fault *fault);

/**
 * Checks whether a file is as it was when it was mapped or last refreshed: size, times, and whether its path still leads to it.
 * For shared memory: whether the file still has the bytes of the map.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map    The map.
 * @param fault  Written after an error; may be NULL. Its cause is the change.
 * @return 0 if nothing changed; ESTALE after a change, or another error number.
 */
int faultin_map_verify(const struct faultin_map *map,
                       struct faultin_fault *fault);

/**
 * Accepts the state of a file as it is now: later operations compare with it, and a map whose length is not limited has the
 * file's new length. Other threads may be reading meanwhile. The handler is moved as by faultin_map_open().
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map     The map.
 * @param change  What changed since it was mapped or last refreshed: enum faultin_cause, FAULTIN_CAUSE_NONE for nothing. May be
 *                NULL.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or an error number.
 */
int faultin_map_refresh(const struct faultin_map *map,
                        uint32_t *change,
                        struct faultin_fault *fault);

/**
 * Loads a value from memory that may fault. It may be misaligned. With a handler, an aligned value is loaded at once;
 * without one, the kernel copies its bytes, and it may be torn while another thread stores it.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param value  Where the value is written.
 * @param src    Memory that may fault.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault; `value` is not written then.
 */
int faultin_load_u8(uint8_t *value,
                    const void *src,
                    struct faultin_fault *fault);

/**
 * Stores a value to memory that may fault. It may be misaligned. With a handler, an aligned value is stored at once;
 * without one, the kernel copies its bytes, and another thread may see a part of it.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst    Memory that may fault.
 * @param value  The value.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault; nothing was stored then.
 */
int faultin_store_u8(void *dst,
                     uint8_t value,
                     struct faultin_fault *fault);

/**
 * Loads a value atomically from memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param value  Where the value is written.
 * @param src    Memory that may fault.
 * @param order  enum faultin_order: relaxed, consume, acquire or sequentially consistent.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler and for another order,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned.
 */
int faultin_atomic_load_u8(uint8_t *value,
                           const void *src,
                           int order,
                           struct faultin_fault *fault);

/**
 * Stores a value atomically to memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst    Memory that may fault.
 * @param value  The value.
 * @param order  enum faultin_order: relaxed, release or sequentially consistent.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler and for another order,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_store_u8(void *dst,
                            uint8_t value,
                            int order,
                            struct faultin_fault *fault);

/**
 * Exchanges a value atomically in memory that may fault, sequentially consistent.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The new value.
 * @param before  Where the previous value is written; may be NULL.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_exchange_u8(void *dst,
                               uint8_t value,
                               uint8_t *before,
                               struct faultin_fault *fault);

/**
 * Stores a value atomically in memory that may fault if the expected value is there.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst        Memory that may fault.
 * @param expected   The expected value; the one that was found is written there.
 * @param desired    The new value.
 * @param order      enum faultin_order; a part of it that releases applies only if the value is stored.
 * @param exchanged  1 is written there if the value was stored, 0 if another one was found; may be NULL.
 * @param fault      Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_compare_exchange_u8(void *dst,
                                       uint8_t *expected,
                                       uint8_t desired,
                                       int order,
                                       int *exchanged,
                                       struct faultin_fault *fault);

/**
 * Atomically adds a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_add_u8(void *dst,
                                uint8_t value,
                                uint8_t *before,
                                int order,
                                struct faultin_fault *fault);

/**
 * Atomically subtracts a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_sub_u8(void *dst,
                                uint8_t value,
                                uint8_t *before,
                                int order,
                                struct faultin_fault *fault);

/**
 * Atomically ands a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_and_u8(void *dst,
                                uint8_t value,
                                uint8_t *before,
                                int order,
                                struct faultin_fault *fault);

/**
 * Atomically ors a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_or_u8(void *dst,
                               uint8_t value,
                               uint8_t *before,
                               int order,
                               struct faultin_fault *fault);

/**
 * Atomically xors a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_xor_u8(void *dst,
                                uint8_t value,
                                uint8_t *before,
                                int order,
                                struct faultin_fault *fault);

/**
 * Loads a value from memory that may fault. It may be misaligned. With a handler, an aligned value is loaded at once;
 * without one, the kernel copies its bytes, and it may be torn while another thread stores it.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param value  Where the value is written.
 * @param src    Memory that may fault.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault; `value` is not written then.
 */
int faultin_load_u16(uint16_t *value,
                     const void *src,
                     struct faultin_fault *fault);

/**
 * Stores a value to memory that may fault. It may be misaligned. With a handler, an aligned value is stored at once;
 * without one, the kernel copies its bytes, and another thread may see a part of it.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst    Memory that may fault.
 * @param value  The value.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault; nothing was stored then.
 */
int faultin_store_u16(void *dst,
                      uint16_t value,
                      struct faultin_fault *fault);

/**
 * Loads a value atomically from memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param value  Where the value is written.
 * @param src    Memory that may fault.
 * @param order  enum faultin_order: relaxed, consume, acquire or sequentially consistent.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler and for another order,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned.
 */
int faultin_atomic_load_u16(uint16_t *value,
                            const void *src,
                            int order,
                            struct faultin_fault *fault);

/**
 * Stores a value atomically to memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst    Memory that may fault.
 * @param value  The value.
 * @param order  enum faultin_order: relaxed, release or sequentially consistent.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler and for another order,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_store_u16(void *dst,
                             uint16_t value,
                             int order,
                             struct faultin_fault *fault);

/**
 * Exchanges a value atomically in memory that may fault, sequentially consistent.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The new value.
 * @param before  Where the previous value is written; may be NULL.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_exchange_u16(void *dst,
                                uint16_t value,
                                uint16_t *before,
                                struct faultin_fault *fault);

/**
 * Stores a value atomically in memory that may fault if the expected value is there.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst        Memory that may fault.
 * @param expected   The expected value; the one that was found is written there.
 * @param desired    The new value.
 * @param order      enum faultin_order; a part of it that releases applies only if the value is stored.
 * @param exchanged  1 is written there if the value was stored, 0 if another one was found; may be NULL.
 * @param fault      Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_compare_exchange_u16(void *dst,
                                        uint16_t *expected,
                                        uint16_t desired,
                                        int order,
                                        int *exchanged,
                                        struct faultin_fault *fault);

/**
 * Atomically adds a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_add_u16(void *dst,
                                 uint16_t value,
                                 uint16_t *before,
                                 int order,
                                 struct faultin_fault *fault);

/**
 * Atomically subtracts a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_sub_u16(void *dst,
                                 uint16_t value,
                                 uint16_t *before,
                                 int order,
                                 struct faultin_fault *fault);

/**
 * Atomically ands a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_and_u16(void *dst,
                                 uint16_t value,
                                 uint16_t *before,
                                 int order,
                                 struct faultin_fault *fault);

/**
 * Atomically ors a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_or_u16(void *dst,
                                uint16_t value,
                                uint16_t *before,
                                int order,
                                struct faultin_fault *fault);

/**
 * Atomically xors a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_xor_u16(void *dst,
                                 uint16_t value,
                                 uint16_t *before,
                                 int order,
                                 struct faultin_fault *fault);

/**
 * Loads a value from memory that may fault. It may be misaligned. With a handler, an aligned value is loaded at once;
 * without one, the kernel copies its bytes, and it may be torn while another thread stores it.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param value  Where the value is written.
 * @param src    Memory that may fault.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault; `value` is not written then.
 */
int faultin_load_u32(uint32_t *value,
                     const void *src,
                     struct faultin_fault *fault);

/**
 * Stores a value to memory that may fault. It may be misaligned. With a handler, an aligned value is stored at once;
 * without one, the kernel copies its bytes, and another thread may see a part of it.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst    Memory that may fault.
 * @param value  The value.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault; nothing was stored then.
 */
int faultin_store_u32(void *dst,
                      uint32_t value,
                      struct faultin_fault *fault);

/**
 * Loads a value atomically from memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param value  Where the value is written.
 * @param src    Memory that may fault.
 * @param order  enum faultin_order: relaxed, consume, acquire or sequentially consistent.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler and for another order,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned.
 */
int faultin_atomic_load_u32(uint32_t *value,
                            const void *src,
                            int order,
                            struct faultin_fault *fault);

/**
 * Stores a value atomically to memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst    Memory that may fault.
 * @param value  The value.
 * @param order  enum faultin_order: relaxed, release or sequentially consistent.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler and for another order,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_store_u32(void *dst,
                             uint32_t value,
                             int order,
                             struct faultin_fault *fault);

/**
 * Exchanges a value atomically in memory that may fault, sequentially consistent.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The new value.
 * @param before  Where the previous value is written; may be NULL.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_exchange_u32(void *dst,
                                uint32_t value,
                                uint32_t *before,
                                struct faultin_fault *fault);

/**
 * Stores a value atomically in memory that may fault if the expected value is there.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst        Memory that may fault.
 * @param expected   The expected value; the one that was found is written there.
 * @param desired    The new value.
 * @param order      enum faultin_order; a part of it that releases applies only if the value is stored.
 * @param exchanged  1 is written there if the value was stored, 0 if another one was found; may be NULL.
 * @param fault      Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_compare_exchange_u32(void *dst,
                                        uint32_t *expected,
                                        uint32_t desired,
                                        int order,
                                        int *exchanged,
                                        struct faultin_fault *fault);

/**
 * Atomically adds a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_add_u32(void *dst,
                                 uint32_t value,
                                 uint32_t *before,
                                 int order,
                                 struct faultin_fault *fault);

/**
 * Atomically subtracts a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_sub_u32(void *dst,
                                 uint32_t value,
                                 uint32_t *before,
                                 int order,
                                 struct faultin_fault *fault);

/**
 * Atomically ands a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_and_u32(void *dst,
                                 uint32_t value,
                                 uint32_t *before,
                                 int order,
                                 struct faultin_fault *fault);

/**
 * Atomically ors a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_or_u32(void *dst,
                                uint32_t value,
                                uint32_t *before,
                                int order,
                                struct faultin_fault *fault);

/**
 * Atomically xors a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_xor_u32(void *dst,
                                 uint32_t value,
                                 uint32_t *before,
                                 int order,
                                 struct faultin_fault *fault);

/**
 * Loads a value from memory that may fault. It may be misaligned. With a handler, an aligned value is loaded at once;
 * without one, the kernel copies its bytes, and it may be torn while another thread stores it.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param value  Where the value is written.
 * @param src    Memory that may fault.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault; `value` is not written then.
 */
int faultin_load_u64(uint64_t *value,
                     const void *src,
                     struct faultin_fault *fault);

/**
 * Stores a value to memory that may fault. It may be misaligned. With a handler, an aligned value is stored at once;
 * without one, the kernel copies its bytes, and another thread may see a part of it.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst    Memory that may fault.
 * @param value  The value.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault; nothing was stored then.
 */
int faultin_store_u64(void *dst,
                      uint64_t value,
                      struct faultin_fault *fault);

/**
 * Loads a value atomically from memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param value  Where the value is written.
 * @param src    Memory that may fault.
 * @param order  enum faultin_order: relaxed, consume, acquire or sequentially consistent.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler and for another order,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned.
 */
int faultin_atomic_load_u64(uint64_t *value,
                            const void *src,
                            int order,
                            struct faultin_fault *fault);

/**
 * Stores a value atomically to memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst    Memory that may fault.
 * @param value  The value.
 * @param order  enum faultin_order: relaxed, release or sequentially consistent.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler and for another order,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_store_u64(void *dst,
                             uint64_t value,
                             int order,
                             struct faultin_fault *fault);

/**
 * Exchanges a value atomically in memory that may fault, sequentially consistent.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The new value.
 * @param before  Where the previous value is written; may be NULL.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_exchange_u64(void *dst,
                                uint64_t value,
                                uint64_t *before,
                                struct faultin_fault *fault);

/**
 * Stores a value atomically in memory that may fault if the expected value is there.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst        Memory that may fault.
 * @param expected   The expected value; the one that was found is written there.
 * @param desired    The new value.
 * @param order      enum faultin_order; a part of it that releases applies only if the value is stored.
 * @param exchanged  1 is written there if the value was stored, 0 if another one was found; may be NULL.
 * @param fault      Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_compare_exchange_u64(void *dst,
                                        uint64_t *expected,
                                        uint64_t desired,
                                        int order,
                                        int *exchanged,
                                        struct faultin_fault *fault);

/**
 * Atomically adds a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_add_u64(void *dst,
                                 uint64_t value,
                                 uint64_t *before,
                                 int order,
                                 struct faultin_fault *fault);

/**
 * Atomically subtracts a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_sub_u64(void *dst,
                                 uint64_t value,
                                 uint64_t *before,
                                 int order,
                                 struct faultin_fault *fault);

/**
 * Atomically ands a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_and_u64(void *dst,
                                 uint64_t value,
                                 uint64_t *before,
                                 int order,
                                 struct faultin_fault *fault);

/**
 * Atomically ors a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_or_u64(void *dst,
                                uint64_t value,
                                uint64_t *before,
                                int order,
                                struct faultin_fault *fault);

/**
 * Atomically xors a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Memory that may fault.
 * @param value   The operand.
 * @param before  Where the previous value is written; may be NULL.
 * @param order   enum faultin_order.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
 *         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
 */
int faultin_atomic_fetch_xor_u64(void *dst,
                                 uint64_t value,
                                 uint64_t *before,
                                 int order,
                                 struct faultin_fault *fault);

/**
 * Finds the first offset at which two ranges that may fault differ.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param a      Memory that may fault.
 * @param b      Memory that may fault.
 * @param len    The number of bytes of each.
 * @param at     The offset of the first byte that differs, FAULTIN_NOT_FOUND if none does. After an error, the number of equal
 *               bytes before the one that could not be loaded.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault.
 */
int faultin_compare(const void *a,
                    const void *b,
                    size_t len,
                    size_t *at,
                    struct faultin_fault *fault);

/**
 * Finds the first occurrence of a needle in memory that may fault. The time is in proportion to `len`, whatever the bytes are.
 *
 * Async-signal-safe, with 8 KiB of stack: does not allocate or lock, and leaves errno alone.
 *
 * @param ptr         Memory that may fault.
 * @param len         The number of bytes to search.
 * @param needle      Plain memory: the bytes to find.
 * @param needle_len  Their number, at most FAULTIN_NEEDLE_MAX. None are found at 0.
 * @param at          The offset of the first occurrence, FAULTIN_NOT_FOUND if there is none. After an error, the offset of the
 *                    byte that could not be loaded: no occurrence ends before it.
 * @param fault       Written after an error; may be NULL.
 * @return 0, or the error number of the fault.
 */
int faultin_find(const void *ptr,
                 size_t len,
                 const void *needle,
                 size_t needle_len,
                 size_t *at,
                 struct faultin_fault *fault);

/**
 * Finds the first occurrence of a byte in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param ptr    Memory that may fault.
 * @param len    The number of bytes to search.
 * @param byte   The byte, converted to unsigned char.
 * @param at     The offset of the first occurrence, FAULTIN_NOT_FOUND if there is none. After an error, the number of bytes
 *               before the one that could not be loaded.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault.
 */
int faultin_find_byte(const void *ptr,
                      size_t len,
                      int byte,
                      size_t *at,
                      struct faultin_fault *fault);

/**
 * Counts the bytes of a value in memory that may fault.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param ptr    Memory that may fault.
 * @param len    The number of bytes to search.
 * @param byte   The byte, converted to unsigned char.
 * @param count  The number of its occurrences; not written after an error.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or the error number of the fault.
 */
int faultin_count_byte(const void *ptr,
                       size_t len,
                       int byte,
                       size_t *count,
                       struct faultin_fault *fault);

/**
 * Returns the length of a string in memory that may fault, or `max` if none of the first `max` bytes is NUL. No byte after
 * the NUL is needed.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param string  Memory that may fault.
 * @param max     The largest length.
 * @param len     The number of bytes before the NUL. After an error, the number of bytes before the one that could not be
 *                loaded, none of which is NUL.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault.
 */
int faultin_strnlen(const char *string,
                    size_t max,
                    size_t *len,
                    struct faultin_fault *fault);

/**
 * Copies a string in memory that may fault, up to and including its NUL, at most `max` bytes. Unlike strncpy(), it fills nothing
 * after the NUL.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param dst     Plain memory for `max` bytes, which does not overlap with the string.
 * @param string  Memory that may fault.
 * @param max     The largest number of bytes, with the NUL.
 * @param len     The number of bytes before the NUL; `max` if none was found, and `dst` has no NUL then. After an error, the
 *                number of bytes copied, none of which is NUL.
 * @param fault   Written after an error; may be NULL.
 * @return 0, or the error number of the fault.
 */
int faultin_strncpy(char *dst,
                    const char *string,
                    size_t max,
                    size_t *len,
                    struct faultin_fault *fault);

/**
 * Makes shared memory: a memfd that is `len` bytes long, mapped for reading and writing. faultin_map_fd() is for the peer.
 * The handler is moved as by faultin_map_open().
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map    The map is written there, NULL after an error.
 * @param name   A name for /proc/self/maps.
 * @param len    The number of bytes, not 0.
 * @param fault  Written after an error; may be NULL.
 * @return 0, or an error number.
 */
FAULTIN_MUST_USE
int faultin_shared_create(struct faultin_map **map,
                          const char *name,
                          size_t len,
                          struct faultin_fault *fault);

/**
 * Maps shared memory that a peer made, and may truncate at any time: what a server does with the descriptor and the length that
 * a client claims. No operation on the map ends the process or waits for the peer, and each has bounded work.
 * The handler is moved as by faultin_map_open().
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map       The map is written there, NULL after an error.
 * @param fd        The descriptor; the map has a copy of it.
 * @param offset    The byte of the file where the map begins. Positions in the map count from here.
 * @param len       The number of bytes of the map, not 0. The file has them.
 * @param writable  Not 0 if the map is also for writing: the descriptor must be open for that and not sealed against it.
 * @param fault     Written after an error; may be NULL.
 * @return 0, or an error number.
 */
FAULTIN_MUST_USE
int faultin_shared_from_fd(struct faultin_map **map,
                           int fd,
                           uint64_t offset,
                           size_t len,
                           int writable,
                           struct faultin_fault *fault);

/**
 * Makes a map over a mapping that the caller made, for faultin_guard_begin() and everything else that shared memory has. The
 * mapping stays the caller's: closing the map leaves it mapped, and the map cannot be resized.
 *
 * Until the map is closed, the caller maps nothing else there, unmaps nothing of it, and makes no other map over it. While a
 * guard replaces missing pages by zeros, the caller's own stores to those pages fault.
 *
 * A guard of such a map never has a copy, because the caller's pointers lead to the mapping: where the mapping itself cannot be
 * guarded, faultin_guard_begin() fails. That is so for a map that is made without a handler (before faultin_install() or
 * faultin_host_owns_handler()). To read a copy, use faultin_shared_from_fd(). The handler is moved as by faultin_map_open().
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map       The map is written there, NULL after an error.
 * @param address   The start of a mapping with MAP_SHARED. (One with MAP_PRIVATE may be given if no code stores to it.)
 * @param len       The number of bytes of the map, not 0. The file has them.
 * @param fd        The descriptor of the mapped file, open for reading; the map has a copy of it.
 * @param offset    The offset in the file at which the mapping was made, a multiple of the page size.
 * @param writable  Not 0 if the mapping has PROT_READ and PROT_WRITE, 0 if it has PROT_READ alone.
 * @param fault     Written after an error; may be NULL.
 * @return 0, or an error number.
 */
FAULTIN_MUST_USE
int faultin_shared_over(struct faultin_map **map,
                        void *address,
                        size_t len,
                        int fd,
                        uint64_t offset,
                        int writable,
                        struct faultin_fault *fault);

/**
 * Changes the length of a shared map, as both sides have agreed on (wl_shm_pool.resize). The file has the new length already. No
 * other thread uses the map, and no guard of it is open.
 *
 * Not async-signal-safe: may allocate and lock.
 *
 * @param map    The map.
 * @param len    The new number of bytes, not 0.
 * @param fault  Written after an error; may be NULL. The map is as it was then.
 * @return 0, or an error number; EBUSY if a guard is open.
 */
int faultin_shared_resize(struct faultin_map *map,
                          size_t len,
                          struct faultin_fault *fault);

/**
 * Returns whether shared memory cannot be truncated by any process, ever again (F_SEAL_SHRINK).
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param map  The map.
 * @return 1 if it is sealed, otherwise 0.
 */
int faultin_shared_is_sealed(const struct faultin_map *map);

/**
 * Returns the first address of a shared map, for the accesses that take addresses (the atomic operations above all). The
 * memory there may fault at any time: plain C code must not access it.
 *
 * Async-signal-safe: does not allocate or lock, and leaves errno alone.
 *
 * @param map  The map.
 * @return The address; NULL if nothing is mapped (without a handler), or the map is not of shared memory.
 */
void *faultin_shared_address(const struct faultin_map *map);

/**
 * Makes a file that fails from a byte on, without root: a fixture for tests of code that maps files.
 *
 * Byte `n` of the file is `n % 251`, for bytes before `fails_at`.
 *
 * FAULTIN_TEST_FAIL_NO_SPACE needs user namespaces, or root: it mounts a tmpfs in a mount namespace of its own.
 * FAULTIN_TEST_FAIL_UNREADABLE needs userfaultfd (Linux 5.11). Not async-signal-safe.
 *
 * @param file      Filled in. After an error, its `fd` is -1 and its `data` NULL.
 * @param bytes     The length of the file and of the mapping in bytes, not 0.
 * @param fails_at  The first byte that fails, at most `bytes`. Memory fails by the page: accesses fail from the next page on, if
 *                  this is within one.
 * @param how       How it fails: enum faultin_test_fail.
 * @param fault     Written after an error; may be NULL. FAULTIN_CAUSE_UNSUPPORTED if this system cannot make such a file: then a
 *                  test is to be skipped.
 * @return 0, or an error number.
 */
int faultin_test_file(struct faultin_test_file *file,
                      size_t bytes,
                      size_t fails_at,
                      int how,
                      struct faultin_fault *fault);

/**
 * Unmaps and closes a test file. Does nothing if its `data` is NULL: after an error, after a close, and for a structure of zeros.
 *
 * Not async-signal-safe.
 *
 * @param file  What faultin_test_file() has filled in.
 */
void faultin_test_file_close(struct faultin_test_file *file);

/**
 * Makes the next attempt progress: faults in memory, and returns the length of the accessible prefix.
 *
 * Call it only after a copy that moved nothing, and give up only when it returns 0. It changes no byte; for
 * FAULTIN_ACCESS_WRITE it stores what it reads, atomically.
 *
 * Async-signal-safe, except where a pager of the Rust crate faultin-cache resolves the faults: does not allocate or lock, and
 * leaves errno alone.
 *
 * @param ptr     Memory that may fault.
 * @param len     The number of bytes that the consumer wants.
 * @param access  FAULTIN_ACCESS_READ or FAULTIN_ACCESS_WRITE.
 * @param fault   Written if 0 is returned and `len` is not 0; may be NULL.
 * @return The number of accessible bytes from the start: at least 1, unless the first byte is not accessible.
 */
size_t faultin_fault_in(void *ptr,
                        size_t len,
                        int access,
                        struct faultin_fault *fault);

/**
 * Proves that every byte can be loaded, or stored, now. It changes no byte; for FAULTIN_ACCESS_WRITE it stores what it reads,
 * atomically, in each page: that dirties pages and breaks copy-on-write.
 *
 * Async-signal-safe, except where a pager of the Rust crate faultin-cache resolves the faults: does not allocate or lock, and
 * leaves errno alone.
 *
 * @param ptr     Memory that may fault.
 * @param len     The number of bytes.
 * @param access  FAULTIN_ACCESS_READ or FAULTIN_ACCESS_WRITE.
 * @param unit    FAULTIN_UNIT_PAGE, FAULTIN_UNIT_LINE or FAULTIN_UNIT_GRANULE: differences within one unit go unnoticed.
 * @param fault   Written if fewer bytes were proven; may be NULL.
 * @return The number of bytes that were proven, from the start.
 */
size_t faultin_probe(void *ptr,
                     size_t len,
                     int access,
                     int unit,
                     struct faultin_fault *fault);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FAULTIN_H */
