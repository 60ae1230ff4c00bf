/* What the header promises at its edges: one promise for each argument. */
#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static size_t page;
static struct faultin_fault fault;

/* Makes a file of `len` zeros without a name. */
static int make(size_t len)
{
    const char *dir = getenv("TMPDIR");
    char path[4096];
    CHECK((size_t)snprintf(path, sizeof path, "%s/contracts.XXXXXX", dir ? dir : "/tmp") < sizeof path);
    int fd = mkstemp(path);
    CHECK(fd >= 0 && unlink(path) == 0 && ftruncate(fd, (off_t)len) == 0);
    return fd;
}

static struct faultin_map *open_map(int fd, uint32_t flags, uint32_t watch)
{
    struct faultin_map_options options;
    struct faultin_map *map;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.flags = flags;
    options.watch = watch;
    CHECK(faultin_map_from_fd(&map, fd, &options, NULL) == 0);
    return map;
}

static void install(int asked)
{
    CHECK(!asked || faultin_install() == 0);
}

/* Whether nothing has written the fault since the last time. */
static int is_untouched(void)
{
    static const unsigned char filler[sizeof fault] = {0};
    int same = memcmp(&fault, filler, sizeof fault) == 0;
    memset(&fault, 0, sizeof fault);
    return same;
}

/* A length of 0: whatever else is wrong, 0 bytes are all bytes, and the fault is not written. */
static void zero_lengths(void)
{
    unsigned char byte = 0, *bad = mmap(NULL, 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(bad != MAP_FAILED);
    struct iovec list[2] = {{NULL, 100}, {NULL, SIZE_MAX}};
#define QUIET(call) CHECK((call) == 0 && is_untouched())
    is_untouched();
    QUIET(faultin_copy_in(&byte, bad, 0, &fault));
    QUIET(faultin_copy_out(bad, &byte, 0, &fault));
    QUIET(faultin_copy(bad + 1, bad, 0, &fault));
    QUIET(faultin_fill(bad, 1, 0, &fault));
    QUIET(faultin_kernel_copy_in(&byte, bad, 0, &fault));
    QUIET(faultin_kernel_copy_out(bad, &byte, 0, &fault));
    QUIET(faultin_copy_in_iov(&byte, 0, list, 2, &fault));
    QUIET(faultin_copy_in_iov(&byte, 0, list, -1, &fault));
    QUIET(faultin_copy_in_iov(&byte, 0, list, FAULTIN_IOV_MAX + 1, &fault));
    QUIET(faultin_copy_out_iov(list, -1, &byte, 0, &fault));
    QUIET(faultin_fault_in(bad, 0, FAULTIN_ACCESS_READ, &fault));
    QUIET(faultin_fault_in(bad, 0, 99, &fault));
    QUIET(faultin_probe(bad, 0, FAULTIN_ACCESS_WRITE, FAULTIN_UNIT_PAGE, &fault));
    QUIET(faultin_probe(bad, 0, 99, FAULTIN_UNIT_PAGE, &fault));
    QUIET(faultin_probe(bad, 0, FAULTIN_ACCESS_READ, 99, &fault));

    int fd = make(2 * page);
    struct faultin_map *reader = open_map(fd, 0, FAULTIN_MAP_WATCH_CONTENTS);
    struct faultin_map *writer = open_map(fd, FAULTIN_MAP_WRITE, FAULTIN_MAP_WATCH_READER), *shared, *viewed;
    CHECK(faultin_shared_create(&shared, "contracts", 2 * page, NULL) == 0);
    CHECK(faultin_shared_from_fd(&viewed, faultin_map_fd(shared), 0, page, 0, NULL) == 0);
    /* Nothing is as it was. */
    CHECK(ftruncate(fd, 1) == 0 && ftruncate(faultin_map_fd(shared), 1) == 0);
    struct faultin_map *all[4] = {reader, writer, shared, viewed};
    for (int i = 0; i < 4; i++) {
        for (uint64_t at = 0; at <= 4 * page; at += 2 * page) {
            QUIET(faultin_map_read_at(all[i], &byte, 0, at, &fault));
            QUIET(faultin_map_write_at(all[i], &byte, 0, at, &fault));
            QUIET(faultin_map_fill(all[i], 1, 0, at, &fault));
        }
    }
    /* With a length, each of these is written. */
#define WRITTEN(call) CHECK((call) == 0 && !is_untouched())
    WRITTEN(faultin_copy_in(&byte, bad, 1, &fault));
    WRITTEN(faultin_copy_in_iov(&byte, 1, list, -1, &fault));
    WRITTEN(faultin_copy_out_iov(list, FAULTIN_IOV_MAX + 1, &byte, 1, &fault));
    WRITTEN(faultin_fault_in(bad, 1, 99, &fault));
    WRITTEN(faultin_probe(bad, 1, 99, FAULTIN_UNIT_PAGE, &fault));
    WRITTEN(faultin_probe(bad, 1, FAULTIN_ACCESS_READ, 99, &fault));
    WRITTEN(faultin_map_write_at(reader, &byte, 1, 0, &fault));
    WRITTEN(faultin_map_fill(reader, 1, 1, 0, &fault));
    WRITTEN(faultin_map_write_at(viewed, &byte, 1, 0, &fault));
    for (int i = 0; i < 4; i++) {
        CHECK(faultin_map_close(all[i]) == 0);
    }
    CHECK(close(fd) == 0 && munmap(bad, 2 * page) == 0);
}

/* A change that `watch` counts is a short result, also if every byte can be read. */
static void changes(void)
{
    unsigned char bytes[64];
    int fd = make(2 * page);
    struct faultin_map *map = open_map(fd, 0, FAULTIN_MAP_WATCH_CONTENTS);
    CHECK(faultin_map_read_at(map, bytes, sizeof bytes, 100, NULL) == sizeof bytes);
    CHECK(pwrite(fd, "other", 5, 100) == 5);
    is_untouched();
    CHECK(faultin_map_read_at(map, bytes, sizeof bytes, 100, &fault) == 0);
    CHECK(fault.cause == FAULTIN_CAUSE_REWRITTEN && fault.error == ESTALE);
    CHECK(fault.done == 0 && fault.offset == 100 && fault.access == FAULTIN_ACCESS_READ);
    CHECK(faultin_map_refresh(map, NULL, NULL) == 0);
    CHECK(faultin_map_read_at(map, bytes, sizeof bytes, 100, NULL) == sizeof bytes && memcmp(bytes, "other", 5) == 0);
    CHECK(ftruncate(fd, (off_t)(3 * page)) == 0);
    CHECK(faultin_map_read_at(map, bytes, sizeof bytes, 100, &fault) == 0 && fault.cause == FAULTIN_CAUSE_GROWN);
    CHECK(faultin_map_close(map) == 0 && close(fd) == 0);
}

static off_t size_of(int fd)
{
    struct stat status;
    CHECK(fstat(fd, &status) == 0);
    return status.st_size;
}

/* A reservation past the end makes the file longer, and the map with it. */
static void allocate(void)
{
    char byte = 1;
    int fd = make(page);
    struct faultin_map *map = open_map(fd, FAULTIN_MAP_WRITE, FAULTIN_MAP_WATCH_READER);
    CHECK(faultin_map_allocate(map, 0, page, NULL) == 0);
    CHECK(size_of(fd) == (off_t)page && faultin_map_size(map) == page);
    CHECK(faultin_map_allocate(map, 2 * page, page + 7, NULL) == 0);
    CHECK(size_of(fd) == (off_t)(3 * page + 7) && faultin_map_size(map) == 3 * page + 7);
    CHECK(faultin_map_read_at(map, &byte, 1, 3 * page + 6, NULL) == 1 && byte == 0);
    CHECK(faultin_map_allocate(map, 9 * page, 0, NULL) == 0 && size_of(fd) == (off_t)(3 * page + 7));
    CHECK(faultin_map_close(map) == 0);

    struct faultin_map_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.flags = FAULTIN_MAP_WRITE;
    options.length = 4 * page;
    CHECK(faultin_map_from_fd(&map, fd, &options, NULL) == 0);
    CHECK(faultin_map_allocate(map, 0, 4 * page + 1, &fault) == ERANGE && fault.cause == FAULTIN_CAUSE_PAST_END);
    CHECK(size_of(fd) == (off_t)(3 * page + 7));
    CHECK(faultin_map_allocate(map, 0, 4 * page, NULL) == 0 && faultin_map_size(map) == 4 * page);
    CHECK(faultin_map_close(map) == 0 && close(fd) == 0);
}

/* A guard over the caller's own mapping protects that, or does not begin: the caller reads by its own pointers. */
static void over(int is_installed)
{
    int fd = make(4 * page);
    struct faultin_map *map;
    struct faultin_guard guard, inner;
    struct faultin_damage damage;
    volatile unsigned char *bytes = mmap(NULL, 4 * page, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(bytes != MAP_FAILED);
    CHECK(faultin_shared_over(&map, (void *)(uintptr_t)bytes, 4 * page, fd, 0, 0, NULL) == 0);
    is_installed = is_installed && faultin_map_is_mapped(map);
    if (is_installed) {
        sigset_t bus;
        CHECK(sigemptyset(&bus) == 0 && sigaddset(&bus, SIGBUS) == 0);
        CHECK(pthread_sigmask(SIG_BLOCK, &bus, NULL) == 0);
        CHECK(faultin_guard_begin(map, 0, UINT64_MAX, &guard, &fault) == ENOSYS);
        CHECK(fault.cause == FAULTIN_CAUSE_HANDLER && guard.data == NULL && guard.len == 0);
        CHECK(pthread_sigmask(SIG_UNBLOCK, &bus, NULL) == 0);
        CHECK(faultin_guard_begin(map, 0, UINT64_MAX, &guard, NULL) == 0 && guard.flags == 0);
        CHECK(guard.data == (const void *)(uintptr_t)bytes);
        CHECK(ftruncate(fd, (off_t)page) == 0 && bytes[3 * page] == 0);
        /* The zeros of the first guard are no bytes for another one. */
        CHECK(faultin_guard_begin(map, 0, 10, &inner, &fault) == EBUSY);
        CHECK(fault.cause == FAULTIN_CAUSE_BUSY && inner.data == NULL);
        CHECK(faultin_guard_begin(map, 0, 0, &inner, NULL) == 0 && faultin_guard_end(&inner, NULL) == 0);
        CHECK(faultin_guard_end(&guard, &damage) == ESTALE && damage.first_bad == page);
    } else {
        CHECK(faultin_guard_begin(map, 0, UINT64_MAX, &guard, &fault) == ENOSYS);
        CHECK(fault.cause == FAULTIN_CAUSE_HANDLER && guard.data == NULL && guard.len == 0);
        CHECK(faultin_map_read_at(map, &guard, 10, 0, NULL) == 10);
    }
    CHECK(faultin_map_close(map) == 0 && close(fd) == 0);
}

/* What parent and child do with the map and the guard that both have. The file is truncated to a page. */
static void use_in_both(struct faultin_map *map, struct faultin_guard *guard)
{
    struct faultin_damage damage;
    const volatile unsigned char *bytes = guard->data;
    char byte;
    int is_copy = guard->flags == FAULTIN_GUARD_COPY;
    CHECK(bytes[0] == 0 && bytes[3 * page] == 0);
    CHECK(faultin_guard_end(guard, &damage) == (is_copy ? 0 : ESTALE) && (is_copy || damage.first_bad == page));
    CHECK(faultin_map_read_at(map, &byte, 1, 0, NULL) == 1);
    CHECK(faultin_map_read_at(map, &byte, 1, 3 * page, &fault) == 0 && fault.cause == FAULTIN_CAUSE_SHRUNK);
    CHECK(faultin_map_refresh(map, NULL, NULL) == 0 && faultin_map_size(map) == page);
    CHECK(faultin_guard_begin(map, 0, page, guard, NULL) == 0 && faultin_guard_end(guard, NULL) == 0);
    CHECK(faultin_map_close(map) == 0);
}

/* A child has its own copies of maps and guards. */
static void forked(int is_installed)
{
    int fd = make(4 * page), status;
    struct faultin_map *map = open_map(fd, 0, FAULTIN_MAP_WATCH_READER);
    struct faultin_guard guard;
    CHECK(faultin_guard_begin(map, 0, UINT64_MAX, &guard, NULL) == 0);
    CHECK(is_installed || guard.flags == FAULTIN_GUARD_COPY);
    CHECK(ftruncate(fd, (off_t)page) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    use_in_both(map, &guard);
    if (child == 0) {
        exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0 && close(fd) == 0);
}

/* Whether a test file that was not made is closed without closing anything else. */
static void closes_nothing(struct faultin_test_file *file)
{
    CHECK(fcntl(STDIN_FILENO, F_GETFD) >= 0);
    faultin_test_file_close(file);
    faultin_test_file_close(file);
    CHECK(fcntl(STDIN_FILENO, F_GETFD) >= 0);
}

static void test_files(void)
{
    struct faultin_test_file file;
    int has_full_disks = faultin_test_file(&file, page, 0, FAULTIN_TEST_FAIL_NO_SPACE, &fault) == 0;
    CHECK(has_full_disks || fault.cause == FAULTIN_CAUSE_UNSUPPORTED);
    closes_nothing(&file);
    for (int how = 0; how < 4; how++) {
        memset(&file, 0, sizeof file);
        closes_nothing(&file);
        CHECK(faultin_test_file(&file, 1, 2, how, &fault) == EINVAL);
        CHECK(file.fd == -1 && file.data == NULL && file.len == 0);
        closes_nothing(&file);
        /* A size that no file and no mapping has is no reason to skip a test. */
        static const size_t sizes[] = {SIZE_MAX - 8192 + 1, SIZE_MAX / 2, SIZE_MAX / 2 - 8191, SIZE_MAX / 2 + 1};
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            memset(&file, 0, sizeof file);
            CHECK(faultin_test_file(&file, sizes[i], 0, how, &fault) != 0);
            CHECK(fault.cause == FAULTIN_CAUSE_OUT_OF_RANGE || fault.cause == FAULTIN_CAUSE_IO ||
                  (how == FAULTIN_TEST_FAIL_NO_SPACE && !has_full_disks));
            CHECK(file.fd == -1 && file.data == NULL);
            closes_nothing(&file);
        }
    }
    memset(&file, 0, sizeof file);
    CHECK(faultin_test_file(&file, 1, 1, 99, &fault) == EINVAL && file.fd == -1 && file.data == NULL);
    closes_nothing(&file);
    make_failing(&file, page, page, FAULTIN_TEST_FAIL_PROTECTED);
    CHECK(file.fd > 2 && file.data != NULL);
    closes_nothing(&file);
}

/* In a user namespace that may make no mount namespaces: the test has made it. */
static void no_namespaces(void)
{
    struct faultin_test_file file;
    int error = faultin_test_file(&file, page, 0, FAULTIN_TEST_FAIL_NO_SPACE, &fault);
    /* (Emulators of user mode have no child that shares memory.) */
    CHECK(error == ENOSPC || error == EINVAL);
    CHECK(fault.cause == FAULTIN_CAUSE_UNSUPPORTED);
}

#define THREADS 8
static pthread_barrier_t barrier;

static void *explain(void *nothing)
{
    struct sigaction now;
    int waited = pthread_barrier_wait(&barrier);
    CHECK(waited == 0 || waited == PTHREAD_BARRIER_SERIAL_THREAD);
    CHECK(faultin_explain_install() == 0);
    CHECK(sigaction(SIGBUS, NULL, &now) == 0 && now.sa_handler != SIG_DFL);
    return nothing;
}

/* Whichever thread installs: it is installed when the call returns, in each. */
static void install_race(void)
{
    pthread_t threads[THREADS];
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, explain, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

int main(int argc, char **argv)
{
    CHECK(argc >= 2);
    page = (size_t)sysconf(_SC_PAGESIZE);
    int is_installed = argc > 2 && strcmp(argv[2], "installed") == 0;
    install(is_installed);
    if (strcmp(argv[1], "zero-lengths") == 0) {
        zero_lengths();
    } else if (strcmp(argv[1], "changes") == 0) {
        changes();
    } else if (strcmp(argv[1], "allocate") == 0) {
        allocate();
    } else if (strcmp(argv[1], "over") == 0) {
        over(is_installed);
    } else if (strcmp(argv[1], "fork") == 0) {
        forked(is_installed);
    } else if (strcmp(argv[1], "test-files") == 0) {
        test_files();
    } else if (strcmp(argv[1], "no-namespaces") == 0) {
        no_namespaces();
    } else {
        CHECK(strcmp(argv[1], "install-race") == 0);
        install_race();
    }
    return 0;
}
