/*
 * Maps, shared memory and guards, with the handler (`installed`) and without one (`kernel`). `naive` is the twin that reads a
 * mapping of a truncated file: it dies.
 */
#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static size_t page;
static int installed;

/* Makes a file of `len` bytes of the pattern; its path is in `path`. */
static int make(char *path, size_t path_size, size_t len)
{
    const char *dir = getenv("TMPDIR");
    CHECK((size_t)snprintf(path, path_size, "%s/maps.XXXXXX", dir ? dir : "/tmp") < path_size);
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    unsigned char *bytes = malloc(len);
    CHECK(bytes != NULL);
    for (size_t at = 0; at < len; at++) {
        bytes[at] = pattern(at);
    }
    CHECK(write(fd, bytes, len) == (ssize_t)len);
    free(bytes);
    return fd;
}

static void files(void)
{
    char path[4096];
    size_t len = 6 * page;
    int fd = make(path, sizeof path, len);
    struct faultin_map *map, *other;
    struct faultin_fault fault;
    struct faultin_map_options options;
    unsigned char *buffer = malloc(len + 10);
    uint64_t at;
    uint32_t change;
    CHECK(buffer != NULL);

    CHECK(faultin_map_open(&map, path, NULL, &fault) == 0);
    CHECK(faultin_map_is_mapped(map) == installed && faultin_map_size(map) == len && faultin_map_fd(map) > 2);
    CHECK(faultin_map_read_at(map, buffer, len, 0, NULL) == len && buffer[len - 1] == pattern(len - 1));
    CHECK(faultin_map_read_at(map, buffer, 20, len - 7, &fault) == 7 && fault.cause == FAULTIN_CAUSE_NONE);
    CHECK(faultin_map_read_at(map, buffer, 20, len + 100, &fault) == 0 && fault.cause == FAULTIN_CAUSE_NONE);
    CHECK(faultin_map_write_at(map, "x", 1, 0, &fault) == 0 && fault.error == EACCES);
    CHECK(faultin_map_find(map, "\xf9\xfa\x00\x01", 4, 0, UINT64_MAX, &at, NULL) == 0 && at == 249);
    CHECK(faultin_map_find(map, "nowhere", 7, 0, UINT64_MAX, &at, NULL) == 0 && at == UINT64_MAX);
    CHECK(faultin_map_count_byte(map, 3, 0, 251 * 4, &at, NULL) == 0 && at == 4);
    CHECK(faultin_map_verify(map, NULL) == 0);
    CHECK(faultin_map_allocate(map, 0, 1, &fault) == EACCES && faultin_map_flush(map, 0, 1, NULL) == EACCES);

    /* A part of the file, of a descriptor, and wrong options. */
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.offset = page + 5;
    options.length = 100;
    CHECK(faultin_map_from_fd(&other, fd, &options, NULL) == 0 && faultin_map_size(other) == 100);
    CHECK(faultin_map_read_at(other, buffer, 200, 0, NULL) == 100 && buffer[0] == pattern(page + 5));
    CHECK(faultin_map_close(other) == 0);
    struct {
        struct faultin_map_options known;
        uint64_t unknown;
    } newer;
    memset(&newer, 0, sizeof newer);
    newer.known.size = sizeof newer;
    CHECK(faultin_map_from_fd(&other, fd, &newer.known, NULL) == 0 && faultin_map_close(other) == 0);
    newer.unknown = 1;
    CHECK(faultin_map_from_fd(&other, fd, &newer.known, &fault) == EINVAL);
    newer.known.size = 0;
    CHECK(faultin_map_from_fd(&other, fd, &newer.known, &fault) == EINVAL);
    options.watch = 17;
    CHECK(faultin_map_from_fd(&other, fd, &options, &fault) == EINVAL && other == NULL);
    options.watch = FAULTIN_MAP_WATCH_READER;
    options.flags = 1U << 30;
    CHECK(faultin_map_open(&other, path, &options, &fault) == EINVAL && fault.cause == FAULTIN_CAUSE_OUT_OF_RANGE);
    options.flags = 0;
    options.backend = FAULTIN_MAP_BACKEND_MAPPED;
    if (!HAS_HANDLER_ABOVE) {
        CHECK(faultin_map_open(&other, path, &options, &fault) == (installed ? 0 : ENOSYS));
        CHECK(installed || fault.cause == FAULTIN_CAUSE_HANDLER);
    }
    CHECK(faultin_map_close(other) == 0 && faultin_map_close(NULL) == 0);
    CHECK(faultin_map_from_fd(&other, -1, NULL, &fault) == EBADF);
    CHECK(faultin_map_open(&other, "/nowhere/at/all", NULL, &fault) == ENOENT && fault.cause == FAULTIN_CAUSE_IO);
    CHECK(faultin_map_open(&other, "/", NULL, &fault) == EISDIR && fault.cause == FAULTIN_CAUSE_NOT_A_FILE);

    /* Another process truncates the file. */
    CHECK(ftruncate(fd, (off_t)(2 * page + 10)) == 0);
    CHECK(faultin_map_read_at(map, buffer, len, 0, &fault) == 2 * page + 10);
    CHECK(fault.cause == FAULTIN_CAUSE_SHRUNK && fault.error == ESTALE);
    CHECK(fault.size_before == len && fault.size_now == 2 * page + 10 && fault.done == 2 * page + 10);
    CHECK(fault.access == FAULTIN_ACCESS_READ);
    CHECK(faultin_map_count_byte(map, 0, 0, UINT64_MAX, &at, &fault) == ESTALE);
    CHECK(faultin_map_verify(map, &fault) == ESTALE && fault.cause == FAULTIN_CAUSE_SHRUNK);
    CHECK(faultin_map_refresh(map, &change, NULL) == 0 && change == FAULTIN_CAUSE_SHRUNK);
    CHECK(faultin_map_size(map) == 2 * page + 10 && faultin_map_refresh(map, &change, NULL) == 0);
    CHECK(change == FAULTIN_CAUSE_NONE && faultin_map_verify(map, NULL) == 0);
    CHECK(unlink(path) == 0 && faultin_map_verify(map, &fault) == ESTALE && fault.cause == FAULTIN_CAUSE_DELETED);
    CHECK(faultin_map_close(map) == 0);

    /* A writable map. */
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.flags = FAULTIN_MAP_WRITE;
    CHECK(faultin_map_from_fd(&map, fd, &options, NULL) == 0);
    CHECK(faultin_map_write_at(map, "hello", 5, page - 2, NULL) == 5);
    CHECK(pread(fd, buffer, 5, (off_t)page - 2) == 5 && memcmp(buffer, "hello", 5) == 0);
    CHECK(faultin_map_fill(map, 'z', 30, 100, NULL) == 30);
    CHECK(pread(fd, buffer, 32, 99) == 32 && buffer[0] == pattern(99) && buffer[1] == 'z' && buffer[30] == 'z');
    CHECK(faultin_map_flush(map, 0, UINT64_MAX, NULL) == 0 && faultin_map_allocate(map, 0, page, NULL) == 0);
    /* It does not become longer. */
    CHECK(faultin_map_write_at(map, buffer, 20, 2 * page, &fault) < 20 && fault.error != 0);
    CHECK(faultin_map_close(map) == 0 && close(fd) == 0);
    free(buffer);
}

static void full_disk(void)
{
    struct faultin_test_file file;
    struct faultin_fault fault;
    struct faultin_map *map;
    struct faultin_map_options options;
    if (faultin_test_file(&file, 8 * page, 2 * page, FAULTIN_TEST_FAIL_NO_SPACE, &fault) != 0) {
        CHECK(fault.cause == FAULTIN_CAUSE_UNSUPPORTED);
        printf("no full disk here\n");
        return;
    }
    char *buffer = malloc(8 * page);
    CHECK(buffer != NULL);
    memset(buffer, 7, 8 * page);
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.flags = FAULTIN_MAP_WRITE;
    CHECK(faultin_map_from_fd(&map, file.fd, &options, NULL) == 0);
    CHECK(faultin_map_is_mapped(map) == installed);
    CHECK(faultin_map_write_at(map, buffer, 8 * page, 0, &fault) == 2 * page);
    CHECK(fault.cause == FAULTIN_CAUSE_NO_SPACE && fault.error == ENOSPC && fault.done == 2 * page);
    CHECK(fault.access == FAULTIN_ACCESS_WRITE);
    CHECK(faultin_map_fill(map, 1, page, 3 * page, &fault) == 0 && fault.error == ENOSPC);
    CHECK(faultin_map_allocate(map, 0, 8 * page, &fault) == ENOSPC && fault.cause == FAULTIN_CAUSE_NO_SPACE);
    CHECK(faultin_map_close(map) == 0);
    faultin_test_file_close(&file);
    CHECK(file.fd == -1 && file.data == NULL);
    /* No space at all. */
    CHECK(faultin_test_file(&file, 3 * page + 1, 0, FAULTIN_TEST_FAIL_NO_SPACE, NULL) == 0 && file.fails_at == 0);
    CHECK(pwrite(file.fd, buffer, 1, 0) == -1 && errno == ENOSPC);
    struct stat status;
    CHECK(fstat(file.fd, &status) == 0 && status.st_size == (off_t)(3 * page + 1));
    faultin_test_file_close(&file);
    CHECK(faultin_test_file(&file, 0, 0, FAULTIN_TEST_FAIL_PROTECTED, &fault) == EINVAL);
    CHECK(faultin_test_file(&file, 5, 6, FAULTIN_TEST_FAIL_PROTECTED, &fault) == EINVAL);
    CHECK(faultin_test_file(&file, 5, 5, 17, &fault) == EINVAL);
    free(buffer);
}

/* Sums the bytes of a guard: plain code over the mapping. */
static uint64_t sum(const struct faultin_guard *guard)
{
    const volatile unsigned char *bytes = guard->data;
    uint64_t all = 0;
    for (size_t at = 0; at < guard->len; at++) {
        all += bytes[at];
    }
    return all;
}

static void *end_guard(void *guard)
{
    static struct faultin_damage damage;
    CHECK(faultin_guard_end(guard, &damage) == ESTALE);
    return &damage;
}

static void guards(void)
{
    char path[4096];
    size_t len = 16 * page;
    int fd = make(path, sizeof path, len);
    struct faultin_map *map;
    struct faultin_guard guard, inner, copy;
    struct faultin_damage damage;
    uint64_t whole = 0, half = 0;
    for (size_t at = 0; at < len; at++) {
        whole += pattern(at);
        half += at < len / 2 ? pattern(at) : 0;
    }
    CHECK(faultin_map_open(&map, path, NULL, NULL) == 0);
    CHECK(faultin_guard_begin(map, 0, UINT64_MAX, &guard, NULL) == 0 && guard.len == len);
    CHECK((guard.flags & FAULTIN_GUARD_COPY) == (installed ? 0 : FAULTIN_GUARD_COPY));
    CHECK(sum(&guard) == whole && faultin_guard_end(&guard, &damage) == 0 && guard.data == NULL);
    CHECK(faultin_guard_end(&guard, NULL) == EINVAL);
    CHECK(faultin_guard_begin(map, 5, 10, &guard, NULL) == 0 && guard.len == 10);
    CHECK(((const unsigned char *)guard.data)[0] == pattern(5) && faultin_guard_end(&guard, NULL) == 0);
    CHECK(faultin_guard_begin(map, len, 10, &guard, NULL) == 0 && guard.len == 0);
    CHECK(faultin_guard_end(&guard, NULL) == 0);

    /* Truncated while two guards read it. The second one is ended by another thread. */
    CHECK(faultin_guard_begin(map, 0, UINT64_MAX, &guard, NULL) == 0);
    CHECK(faultin_guard_begin(map, page, UINT64_MAX, &inner, NULL) == 0 && inner.len == len - page);
    CHECK(faultin_map_close(map) == EBUSY);
    CHECK(ftruncate(fd, (off_t)len / 2) == 0);
    if (installed) {
        CHECK(sum(&guard) == half && sum(&inner) < half);
        pthread_t thread;
        void *seen;
        CHECK(pthread_create(&thread, NULL, end_guard, &inner) == 0 && pthread_join(thread, &seen) == 0);
        CHECK(((struct faultin_damage *)seen)->first_bad == len / 2);
        /* It is damaged, so a guard that begins now has a copy. */
        CHECK(faultin_guard_begin(map, 0, 10, &copy, NULL) == 0 && copy.flags == FAULTIN_GUARD_COPY);
        CHECK(faultin_guard_end(&copy, NULL) == ESTALE);
        CHECK(faultin_guard_end(&guard, &damage) == ESTALE);
        CHECK(damage.fault.cause == FAULTIN_CAUSE_SHRUNK && damage.first_bad == len / 2);
        CHECK(damage.fault.size_before == len && damage.fault.size_now == len / 2);
        CHECK(damage.ranges == 1 && damage.range[0].from == len / 2 && damage.range[0].to == len);
        CHECK(damage.reserved[0] == 0);
    } else {
        /* Copies were made before. */
        CHECK(sum(&guard) == whole && faultin_guard_end(&inner, NULL) == 0);
        CHECK(faultin_guard_end(&guard, NULL) == 0);
        CHECK(faultin_guard_begin(map, 0, UINT64_MAX, &guard, NULL) == 0 && sum(&guard) == half);
        CHECK(faultin_guard_end(&guard, &damage) == ESTALE && damage.first_bad == len / 2);
    }
    CHECK(faultin_map_close(map) == 0);

    /* A mapping that the caller made, of a part of the file. */
    CHECK(ftruncate(fd, (off_t)len) == 0);
    unsigned char *bytes = mmap(NULL, 4 * page, PROT_READ, MAP_SHARED, fd, (off_t)(2 * page));
    CHECK(bytes != MAP_FAILED);
    struct faultin_fault fault;
    CHECK(faultin_shared_over(&map, bytes + 1, page, fd, 2 * page, 0, &fault) == EINVAL);
    CHECK(faultin_shared_over(&map, bytes, 4 * page, fd, 2 * page, 0, NULL) == 0);
    CHECK(faultin_shared_address(map) == (installed ? bytes : NULL));
    if (installed) {
        CHECK(faultin_guard_begin(map, 0, UINT64_MAX, &guard, NULL) == 0 && guard.len == 4 * page);
        CHECK(guard.data == bytes);
        CHECK(faultin_shared_resize(map, page, &fault) == EBUSY && fault.cause == FAULTIN_CAUSE_BUSY);
        CHECK(ftruncate(fd, (off_t)(3 * page)) == 0);
        sum(&guard);
        CHECK(faultin_guard_end(&guard, &damage) == ESTALE);
        CHECK(damage.first_bad == page && damage.fault.size_now == 3 * page);
    } else {
        /* Without a handler nothing protects it. */
        CHECK(faultin_guard_begin(map, 0, UINT64_MAX, &guard, &fault) == ENOSYS);
        CHECK(fault.cause == FAULTIN_CAUSE_HANDLER);
        CHECK(ftruncate(fd, (off_t)(3 * page)) == 0);
    }
    CHECK(ftruncate(fd, (off_t)len) == 0);
    CHECK(faultin_map_read_at(map, path, 10, page, NULL) == 10 && path[0] == 0);
    CHECK(!installed || faultin_shared_resize(map, page, &fault) == EOPNOTSUPP);
    CHECK(faultin_map_close(map) == 0);
    /* It is still mapped, and again the file. */
    CHECK(pwrite(fd, "back", 4, (off_t)(4 * page)) == 4 && memcmp(bytes + 2 * page, "back", 4) == 0);
    CHECK(munmap(bytes, 4 * page) == 0 && close(fd) == 0);
}

static void shared(void)
{
    struct faultin_map *client, *server;
    struct faultin_fault fault;
    unsigned char *buffer = malloc(4 * page);
    CHECK(buffer != NULL);
    CHECK(faultin_shared_create(&client, "pool", 0, &fault) != 0 && client == NULL);
    CHECK(faultin_shared_create(&client, "pool", 4 * page, NULL) == 0);
    int fd = faultin_map_fd(client);
    CHECK(faultin_shared_from_fd(&server, fd, page / 2, 5 * page, 0, &fault) != 0);
    CHECK(fault.cause == FAULTIN_CAUSE_PAST_END);
    CHECK(faultin_shared_from_fd(&server, fd, page / 2, 2 * page, 0, NULL) == 0);
    CHECK(faultin_map_size(server) == 2 * page && !faultin_shared_is_sealed(server));
    CHECK(faultin_map_write_at(client, "pixels", 6, page, NULL) == 6);
    CHECK(faultin_map_read_at(server, buffer, 6, page / 2, NULL) == 6 && memcmp(buffer, "pixels", 6) == 0);
    CHECK(faultin_map_write_at(server, "x", 1, 0, &fault) == 0 && fault.error != 0);
    CHECK(faultin_map_find(server, "x", 1, 0, 1, (uint64_t[1]){0}, &fault) == EOPNOTSUPP);
    /* The client makes it longer and says so; then it breaks its promise. */
    CHECK(ftruncate(fd, (off_t)(8 * page)) == 0 && faultin_shared_resize(server, 7 * page, NULL) == 0);
    CHECK(faultin_map_read_at(server, buffer, 10, 6 * page, NULL) == 10);
    CHECK(faultin_shared_resize(server, 8 * page, &fault) != 0 && faultin_map_size(server) == 7 * page);
    if (installed) {
        unsigned char *address = faultin_shared_address(client);
        uint32_t before;
        CHECK(address != NULL);
        CHECK(faultin_atomic_fetch_add_u32(address + page, 1, &before, FAULTIN_ORDER_SEQ_CST, NULL) == 0);
        CHECK(memcmp(&before, "pixe", 4) == 0);
    }
    CHECK(ftruncate(fd, 100) == 0);
    CHECK(faultin_map_read_at(server, buffer, 10, page, &fault) == 0 && fault.cause == FAULTIN_CAUSE_SHRUNK);
    /* Without a mapping nothing is written: pwrite() would make the file longer. */
    CHECK(faultin_map_write_at(client, buffer, 200, 0, &fault) == (installed ? 100 : 0));
    CHECK(fault.cause == FAULTIN_CAUSE_SHRUNK);
    CHECK(faultin_map_verify(server, &fault) == ESTALE && fault.size_now == 100);
    CHECK(faultin_map_close(server) == 0 && faultin_map_close(client) == 0);
    free(buffer);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    page = (size_t)sysconf(_SC_PAGESIZE);
    if (strcmp(argv[1], "naive") == 0) {
        struct faultin_test_file file;
        make_failing(&file, 4 * page, page, FAULTIN_TEST_FAIL_TRUNCATED);
        struct faultin_guard guard;
        guard.data = file.data;
        guard.len = file.len;
        return (int)sum(&guard);
    }
    installed = strcmp(argv[1], "installed") == 0;
    if (installed) {
        CHECK(faultin_install() == 0);
        /* Where another handler is above, it is not certain that it passes signals on: maps read from their files. */
        struct faultin_map *map;
        CHECK(faultin_shared_create(&map, "first", page, NULL) == 0);
        CHECK(faultin_map_is_mapped(map) || HAS_HANDLER_ABOVE);
        installed = faultin_map_is_mapped(map);
        CHECK(faultin_map_close(map) == 0);
    }
    files();
    full_disk();
    guards();
    shared();
    return 0;
}
