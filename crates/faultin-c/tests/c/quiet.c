/*
 * Nothing is installed unless asked: after every kind of call the signals, their handlers and the mask are as before. The
 * accesses allocate nothing and leave errno alone, in both modes. A program that links statically has its own malloc here.
 */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile unsigned long allocations;

extern void *__libc_malloc(size_t size);

#ifdef COUNT_ALLOCATIONS
void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}
#endif

static void same_handlers(struct sigaction before[65])
{
    for (int signo = 1; signo < 65; signo++) {
        struct sigaction now;
        memset(&now, 0, sizeof now);
        if (sigaction(signo, NULL, &now) == 0) {
            /* (Other bytes are padding.) */
            CHECK(now.sa_sigaction == before[signo].sa_sigaction && now.sa_flags == before[signo].sa_flags);
            CHECK(memcmp(&now.sa_mask, &before[signo].sa_mask, 8) == 0);
        }
    }
}

static void accesses(struct faultin_test_file *file)
{
    char *good = file->data, *bad = good + file->fails_at;
    char buffer[3000];
    size_t at;
    uint64_t value;
    struct faultin_fault fault;
    struct iovec list = {bad - 10, 20};
    unsigned long before = allocations;
    errno = 12345;
    for (int side = FAULTIN_ACCESS_READ; side <= FAULTIN_ACCESS_WRITE; side++) {
        faultin_fault_in(bad - 10, 20, side, &fault);
        faultin_probe(bad - 10, 20, side, FAULTIN_UNIT_GRANULE, &fault);
    }
    faultin_copy_in(buffer, bad - 1000, sizeof buffer, &fault);
    faultin_copy_out(bad - 1000, buffer, sizeof buffer, &fault);
    faultin_copy(bad - 1000, good, 2000, &fault);
    faultin_fill(bad - 1000, 'a', 2000, &fault);
    faultin_copy_in_iov(buffer, 20, &list, 1, &fault);
    faultin_copy_out_iov(&list, 1, buffer, 20, &fault);
    faultin_kernel_copy_in(buffer, bad - 10, 20, &fault);
    faultin_kernel_copy_out(bad - 10, buffer, 20, &fault);
    /* A needle that is found in part again and again. */
    memset(buffer, 'a', sizeof buffer);
    buffer[FAULTIN_NEEDLE_MAX - 1] = 'b';
    faultin_fill(good, 'a', file->fails_at, &fault);
    faultin_find(good, file->fails_at + 1, buffer, FAULTIN_NEEDLE_MAX, &at, &fault);
    CHECK(at == file->fails_at);
    faultin_find_byte(good, file->len, 'b', &at, &fault);
    faultin_count_byte(good, file->len, 'a', &at, &fault);
    faultin_compare(good, good + 1, file->len - 1, &at, &fault);
    faultin_strnlen(good, file->len, &at, &fault);
    faultin_strncpy(buffer, good, sizeof buffer, &at, &fault);
    faultin_load_u64(&value, bad - 4, &fault);
    faultin_store_u64(bad - 4, 1, &fault);
    faultin_atomic_fetch_add_u64(bad - 8, 1, &value, FAULTIN_ORDER_SEQ_CST, &fault);
    faultin_atomic_fetch_add_u64(bad, 1, &value, FAULTIN_ORDER_SEQ_CST, &fault);
    faultin_fault_print(&fault, buffer, sizeof buffer);
    CHECK(errno == 12345);
    CHECK(allocations == before);
}

int main(void)
{
    struct sigaction before[65];
    sigset_t mask_before, mask;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    memset(before, 0, sizeof before);
    for (int signo = 1; signo < 65; signo++) {
        sigaction(signo, NULL, &before[signo]);
    }
    sigprocmask(SIG_BLOCK, NULL, &mask_before);

    struct faultin_test_file file;
    make_failing(&file, 8 * page, 4 * page, FAULTIN_TEST_FAIL_PROTECTED);
    accesses(&file);
    struct faultin_map *map;
    struct faultin_guard guard;
    CHECK(faultin_shared_create(&map, "quiet", page, NULL) == 0);
    CHECK(faultin_guard_begin(map, 0, page, &guard, NULL) == 0 && faultin_guard_end(&guard, NULL) == 0);
    CHECK(faultin_map_close(map) == 0 && faultin_map_open(&map, "/proc/self/exe", NULL, NULL) == 0);
    CHECK(faultin_map_close(map) == 0);
    struct faultin_status status;
    status.size = sizeof status;
    faultin_status(&status);
    CHECK(status.mode == FAULTIN_MODE_KERNEL);
    same_handlers(before);
    CHECK(sigprocmask(SIG_BLOCK, NULL, &mask) == 0 && memcmp(&mask, &mask_before, 8) == 0);

    CHECK(faultin_install() == 0);
    accesses(&file);
    faultin_test_file_close(&file);
    return 0;
}
