/*
 * Every access, in each mode (kernel, installed, host), against each kind of failing memory. `naive KIND` is the twin that
 * uses memcpy() or memset(): it dies.
 */
#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static size_t page;

static void on_signal(int signo, siginfo_t *info, void *context)
{
    if (!faultin_try_handle(signo, info, context)) {
        _exit(3);
    }
}

static void own_handler(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
}

/* Whether the kernel says of a page without rights that nothing is mapped there, as emulators do. */
static int hides_protected_pages(const void *address)
{
    unsigned char resident;
    return mincore((void *)(uintptr_t)address, page, &resident) != 0;
}

/* The cause that a copy reports for each kind of file, by a signal or by the kernel. */
static void check_cause(const struct faultin_fault *fault, int how, unsigned access, const void *at)
{
    unsigned expected = how == FAULTIN_TEST_FAIL_PROTECTED ? FAULTIN_CAUSE_PROTECTION : FAULTIN_CAUSE_BACKING;
    CHECK(fault->access == access && fault->error == EFAULT);
    if (fault->signal != 0) {
        CHECK(fault->cause == expected);
        CHECK(fault->signal == (how == FAULTIN_TEST_FAIL_PROTECTED ? SIGSEGV : SIGBUS));
    } else {
        /* Before Linux 6.12 the kernel does not say which. A userfaultfd is no file to it. */
        CHECK(fault->cause == expected || fault->cause == FAULTIN_CAUSE_OTHER ||
              (fault->cause == FAULTIN_CAUSE_UNMAPPED && hides_protected_pages(at)));
    }
}

static void copies(struct faultin_test_file *file)
{
    unsigned char *bytes = file->data, *buffer = malloc(file->len), *other = malloc(file->len);
    size_t end = file->fails_at;
    static const size_t ahead[] = {0, 1, 7, 63, 64, 65, 300, 4095};
    struct faultin_fault fault;
    CHECK(buffer != NULL && other != NULL);
    for (size_t i = 0; i < sizeof ahead / sizeof *ahead; i++) {
        size_t from = end - ahead[i], ask = ahead[i] + 100;
        memset(buffer, 0xee, file->len);
        CHECK(faultin_copy_in(buffer, bytes + from, ask, &fault) == ahead[i]);
        CHECK(fault.done == ahead[i] && fault.flags == FAULTIN_ADDRESS_KNOWN);
        CHECK(fault.address == (uint64_t)(uintptr_t)(bytes + end));
        check_cause(&fault, (int)file->how, FAULTIN_ACCESS_READ, bytes + end);
        for (size_t at = 0; at < ahead[i] + 100; at++) {
            unsigned char expected = at < ahead[i] ? pattern(from + at) : 0xee;
            /* A truncated file ends within its last page, and reads as zeros from there. */
            CHECK(buffer[at] == expected || (file->how == FAULTIN_TEST_FAIL_TRUNCATED && buffer[at] == 0));
        }
        CHECK(faultin_copy_in(buffer, bytes + from, ahead[i], NULL) == ahead[i]);
        CHECK(faultin_kernel_copy_in(buffer, bytes + from, ask, &fault) == ahead[i] && fault.signal == 0);

        memset(other, 0x5a, file->len);
        CHECK(faultin_copy_out(bytes + from, other, ask, &fault) == ahead[i]);
        check_cause(&fault, (int)file->how, FAULTIN_ACCESS_WRITE, bytes + end);
        CHECK(ahead[i] == 0 || memcmp(bytes + from, other, ahead[i]) == 0);
        CHECK(faultin_kernel_copy_out(bytes + from, other, ask, NULL) == ahead[i]);
        CHECK(faultin_fill(bytes + from, 0x77, ask, &fault) == ahead[i]);
        check_cause(&fault, (int)file->how, FAULTIN_ACCESS_WRITE, bytes + end);
        for (size_t at = 0; at < ahead[i]; at++) {
            CHECK(bytes[from + at] == 0x77);
        }
        /* Both sides may fault; the source fails here, and then the destination. */
        CHECK(faultin_copy(buffer, bytes + from, ask, &fault) == ahead[i]);
        CHECK(fault.access == FAULTIN_ACCESS_READ);
        CHECK(faultin_copy(bytes + from, buffer, ask, &fault) == ahead[i]);
        CHECK(fault.access == FAULTIN_ACCESS_WRITE);
        for (size_t at = from; at < end; at++) {
            bytes[at] = pattern(at);
        }
    }
    CHECK(faultin_copy(bytes + 1, bytes, 10, &fault) == 0 && fault.cause == FAULTIN_CAUSE_OVERLAP);
    CHECK(fault.error == EINVAL);
    CHECK(faultin_copy_in(buffer, NULL, 8, &fault) == 0 && fault.address == 0);
    CHECK(fault.cause == FAULTIN_CAUSE_UNMAPPED || fault.cause == FAULTIN_CAUSE_PROTECTION);
    CHECK(faultin_copy_in(NULL, NULL, 0, NULL) == 0);
    /* An address of the kernel, and a range that wraps around. */
    CHECK(faultin_copy_in(buffer, (const void *)(uintptr_t)0xffff800000000000U, 8, NULL) == 0);
    CHECK(faultin_copy_in(buffer, (const void *)(uintptr_t)(0 - (size_t)4), 8, NULL) == 0);
    free(buffer);
    free(other);
}

static void lists(struct faultin_test_file *file)
{
    unsigned char *bytes = file->data;
    size_t end = file->fails_at;
    unsigned char buffer[400], other[400];
    struct faultin_fault fault;
    struct iovec list[1100];
    memset(buffer, 0, sizeof buffer);
    list[0].iov_base = bytes + end - 300;
    list[0].iov_len = 100;
    list[1].iov_base = NULL;
    list[1].iov_len = 0;
    list[2].iov_base = bytes + end - 50;
    list[2].iov_len = 200;
    CHECK(faultin_copy_in_iov(buffer, 150, list, 3, NULL) == 150);
    CHECK(memcmp(buffer, bytes + end - 300, 100) == 0 && memcmp(buffer + 100, bytes + end - 50, 50) == 0);
    CHECK(faultin_copy_in_iov(buffer, 300, list, 3, &fault) == 150 && fault.done == 150);
    CHECK(fault.address == (uint64_t)(uintptr_t)(bytes + end));
    memset(other, 0x21, sizeof other);
    CHECK(faultin_copy_out_iov(list, 3, other, 300, &fault) == 150 && fault.done == 150);
    CHECK(memcmp(bytes + end - 300, other, 100) == 0 && memcmp(bytes + end - 50, other, 50) == 0);
    CHECK(faultin_copy_in_iov(buffer, 101, list, 2, &fault) == 100 && fault.cause == FAULTIN_CAUSE_OUT_OF_RANGE);
    /* The limits of readv(2). */
    for (int i = 0; i < 1100; i++) {
        list[i].iov_base = bytes;
        list[i].iov_len = 0;
    }
    list[1023].iov_len = 8;
    CHECK(faultin_copy_in_iov(buffer, 8, list, FAULTIN_IOV_MAX, NULL) == 8);
    CHECK(faultin_copy_in_iov(buffer, 8, list, FAULTIN_IOV_MAX + 1, &fault) == 0 && fault.error == EINVAL);
    CHECK(faultin_copy_in_iov(buffer, 8, list, -1, &fault) == 0 && fault.error == EINVAL);
    list[0].iov_len = SIZE_MAX / 2;
    CHECK(faultin_copy_in_iov(buffer, 8, list, FAULTIN_IOV_MAX, &fault) == 0 && fault.error == EINVAL);
    CHECK(faultin_copy_in_iov(NULL, 0, NULL, 0, NULL) == 0);
}

static void searches(struct faultin_test_file *file)
{
    unsigned char *bytes = file->data;
    size_t end = file->fails_at, at, from = end - 1000;
    struct faultin_fault fault;
    memset(bytes + from, 'a', 1000);
    memcpy(bytes + from + 500, "needle", 6);
    memcpy(bytes + end - 4, "need", 4);
    CHECK(faultin_find(bytes + from, 1100, "needle", 6, &at, NULL) == 0 && at == 500);
    CHECK(faultin_find(bytes + from, 1000, "needles", 7, &at, NULL) == 0 && at == FAULTIN_NOT_FOUND);
    CHECK(faultin_find(bytes + from, 1100, "needles", 7, &at, &fault) == EFAULT && at == 1000 && fault.done == 1000);
    CHECK(faultin_find(bytes + from, 10, "", 0, &at, NULL) == 0 && at == 0);
    char *needle = malloc(FAULTIN_NEEDLE_MAX + 1);
    CHECK(needle != NULL);
    memset(needle, 'a', FAULTIN_NEEDLE_MAX + 1);
    CHECK(faultin_find(bytes + from, 1000, needle, FAULTIN_NEEDLE_MAX + 1, &at, &fault) == EINVAL);
    CHECK(faultin_find(bytes + from, 1000, needle, 499, &at, NULL) == 0 && at == 0);
    needle[400] = 'b';
    CHECK(faultin_find(bytes + from, 1000, needle, 401, &at, NULL) == 0 && at == FAULTIN_NOT_FOUND);
    free(needle);
    CHECK(faultin_find_byte(bytes + from, 1100, 'n', &at, NULL) == 0 && at == 500);
    CHECK(faultin_find_byte(bytes + from, 1100, 'z', &at, &fault) == EFAULT && at == 1000);
    CHECK(faultin_count_byte(bytes + from, 1000, 'e', &at, NULL) == 0 && at == 5);
    CHECK(faultin_count_byte(bytes + from, 1001, 'e', &at, &fault) == EFAULT && fault.done == 1000);
    CHECK(faultin_compare(bytes + from, bytes + from + 250, 200, &at, NULL) == 0 && at == FAULTIN_NOT_FOUND);
    CHECK(faultin_compare(bytes + from, bytes + from + 250, 300, &at, NULL) == 0 && at == 250);
    CHECK(faultin_compare(bytes + end - 104, bytes + end - 204, 105, &at, NULL) == 0 && at == 100);
    memset(bytes + from, 'a', 1000);
    CHECK(faultin_compare(bytes + from, bytes + from + 1, 1000, &at, &fault) == EFAULT && at == 999);
    CHECK(fault.access == FAULTIN_ACCESS_READ);

    char text[64];
    memcpy(bytes + end - 6, "hello", 6);
    CHECK(faultin_strnlen((char *)bytes + end - 6, 100, &at, NULL) == 0 && at == 5);
    CHECK(faultin_strnlen((char *)bytes + end - 6, 3, &at, NULL) == 0 && at == 3);
    CHECK(faultin_strncpy(text, (char *)bytes + end - 6, sizeof text, &at, NULL) == 0 && at == 5);
    CHECK(strcmp(text, "hello") == 0);
    bytes[end - 1] = '!';
    CHECK(faultin_strnlen((char *)bytes + end - 6, 100, &at, &fault) == EFAULT && at == 6);
    CHECK(faultin_strncpy(text, (char *)bytes + end - 6, sizeof text, &at, &fault) == EFAULT && at == 6);
    CHECK(memcmp(text, "hello!", 6) == 0);
}

/* `SCALARS(64)` checks the loads, stores and atomic operations of that size. */
#define SCALARS(bits)                                                                                              \
    static void scalars_##bits(struct faultin_test_file *file, int atomics)                                        \
    {                                                                                                              \
        typedef uint##bits##_t value_t;                                                                            \
        unsigned char *bad = (unsigned char *)file->data + file->fails_at;                                         \
        value_t *good = (value_t *)(void *)(bad - sizeof(value_t)), got = 0, want = (value_t)0x8182838485868788U;  \
        struct faultin_fault fault;                                                                                \
        int exchanged = -1, order = FAULTIN_ORDER_SEQ_CST;                                                         \
        CHECK(faultin_store_u##bits(good, want, NULL) == 0 && *good == want);                                      \
        CHECK(faultin_load_u##bits(&got, good, NULL) == 0 && got == want);                                         \
        CHECK(faultin_load_u##bits(&got, bad, &fault) == EFAULT && fault.access == FAULTIN_ACCESS_READ);           \
        CHECK(faultin_store_u##bits(bad, want, &fault) == EFAULT && fault.access == FAULTIN_ACCESS_WRITE);         \
        if (!atomics) {                                                                                            \
            CHECK(faultin_atomic_load_u##bits(&got, good, order, &fault) == ENOSYS);                               \
            CHECK(fault.cause == FAULTIN_CAUSE_UNSUPPORTED && fault.access == FAULTIN_ACCESS_READ);                \
            CHECK(faultin_atomic_store_u##bits(good, 1, order, &fault) == ENOSYS && *good == want);                \
            CHECK(faultin_atomic_exchange_u##bits(good, 1, &got, &fault) == ENOSYS && *good == want);              \
            CHECK(faultin_atomic_compare_exchange_u##bits(good, &want, 1, order, NULL, &fault) == ENOSYS);         \
            CHECK(faultin_atomic_fetch_add_u##bits(good, 1, &got, order, &fault) == ENOSYS && *good == want);      \
            return;                                                                                                \
        }                                                                                                          \
        CHECK(faultin_atomic_load_u##bits(&got, good, FAULTIN_ORDER_ACQUIRE, NULL) == 0 && got == want);           \
        CHECK(faultin_atomic_load_u##bits(&got, good, FAULTIN_ORDER_RELEASE, &fault) == ENOSYS);                   \
        CHECK(faultin_atomic_load_u##bits(&got, good, 99, &fault) == ENOSYS);                                      \
        CHECK(faultin_atomic_load_u##bits(&got, bad, order, &fault) == EFAULT);                                    \
        CHECK(faultin_atomic_store_u##bits(good, 40, FAULTIN_ORDER_RELEASE, NULL) == 0 && *good == 40);            \
        CHECK(faultin_atomic_store_u##bits(bad, 40, order, &fault) == EFAULT);                                     \
        CHECK(faultin_atomic_exchange_u##bits(good, 41, &got, NULL) == 0 && got == 40 && *good == 41);             \
        CHECK(faultin_atomic_exchange_u##bits(bad, 41, &got, &fault) == EFAULT);                                   \
        got = 7;                                                                                                   \
        CHECK(faultin_atomic_compare_exchange_u##bits(good, &got, 1, order, &exchanged, NULL) == 0);               \
        CHECK(exchanged == 0 && got == 41 && *good == 41);                                                         \
        CHECK(faultin_atomic_compare_exchange_u##bits(good, &got, 50, FAULTIN_ORDER_RELEASE, &exchanged, NULL) == 0); \
        CHECK(exchanged == 1 && got == 41 && *good == 50);                                                         \
        CHECK(faultin_atomic_compare_exchange_u##bits(bad, &got, 1, order, &exchanged, &fault) == EFAULT);         \
        CHECK(faultin_atomic_fetch_add_u##bits(good, 5, &got, FAULTIN_ORDER_RELAXED, NULL) == 0);                  \
        CHECK(got == 50 && *good == 55);                                                                           \
        CHECK(faultin_atomic_fetch_sub_u##bits(good, 3, NULL, FAULTIN_ORDER_ACQ_REL, NULL) == 0 && *good == 52);   \
        CHECK(faultin_atomic_fetch_and_u##bits(good, 0x30, &got, order, NULL) == 0 && *good == 0x30);              \
        CHECK(faultin_atomic_fetch_or_u##bits(good, 0x0f, &got, order, NULL) == 0 && *good == 0x3f);               \
        CHECK(faultin_atomic_fetch_xor_u##bits(good, 0x11, &got, order, NULL) == 0 && *good == 0x2e);              \
        CHECK(faultin_atomic_fetch_add_u##bits(bad, 1, &got, order, &fault) == EFAULT);                            \
        CHECK(fault.access == FAULTIN_ACCESS_WRITE);                                                               \
        if (bits > 8) {                                                                                            \
            void *odd = (unsigned char *)good - 1;                                                                 \
            CHECK(faultin_atomic_fetch_add_u##bits(odd, 1, &got, order, &fault) == EINVAL);                        \
            CHECK(fault.cause == FAULTIN_CAUSE_ALIGNMENT);                                                         \
        }                                                                                                          \
    }

SCALARS(8)
SCALARS(16)
SCALARS(32)
SCALARS(64)

static void touches(struct faultin_test_file *file)
{
    unsigned char *bytes = file->data;
    size_t end = file->fails_at;
    struct faultin_fault fault;
    static const int sides[] = {FAULTIN_ACCESS_READ, FAULTIN_ACCESS_WRITE};
    for (int i = 0; i < 2; i++) {
        CHECK(faultin_fault_in(bytes, end + page, sides[i], NULL) == end);
        CHECK(faultin_fault_in(bytes + end - 5, 100, sides[i], NULL) == 5);
        CHECK(faultin_fault_in(bytes + end, 1, sides[i], &fault) == 0 && fault.error == EFAULT);
        CHECK(faultin_probe(bytes + 3, end - 3, sides[i], FAULTIN_UNIT_PAGE, NULL) == end - 3);
        CHECK(faultin_probe(bytes, end + 1, sides[i], FAULTIN_UNIT_PAGE, &fault) == end && fault.error == EFAULT);
        CHECK(faultin_probe(bytes, end + 1, sides[i], FAULTIN_UNIT_LINE, &fault) == end);
    }
    CHECK(faultin_fault_in(bytes, 1, 0, &fault) == 0 && fault.error == EINVAL);
    CHECK(faultin_probe(bytes, 1, FAULTIN_ACCESS_READ, 9, &fault) == 0 && fault.error == EINVAL);
    CHECK(faultin_fault_in(bytes, 0, FAULTIN_ACCESS_READ, NULL) == 0);
}

static void status(const char *mode)
{
    struct faultin_status now;
    memset(&now, 0x55, sizeof now);
    now.size = sizeof now;
    faultin_status(&now);
    CHECK(now.size == sizeof now && now.reserved[0] == 0);
    CHECK(now.covered == 1 || HAS_HANDLER_ABOVE);
    CHECK(now.segv_blocked == 0 && now.bus_blocked == 0 && now.kernel != FAULTIN_KERNEL_NONE);
    if (strcmp(mode, "kernel") == 0) {
        CHECK(now.mode == FAULTIN_MODE_KERNEL && now.segv == FAULTIN_POSITION_ABSENT);
    } else if (strcmp(mode, "installed") == 0) {
        unsigned expected = HAS_HANDLER_ABOVE ? FAULTIN_POSITION_BELOW : FAULTIN_POSITION_DIRECT;
        CHECK(now.mode == FAULTIN_MODE_INSTALLED && now.segv == expected && now.bus == expected);
        CHECK(now.recovered > 0 && (now.segv_above != 0) == HAS_HANDLER_ABOVE);
    } else {
        CHECK(now.mode == FAULTIN_MODE_HOST && now.bus == FAULTIN_POSITION_HOST && now.recovered > 0);
    }
    /* A caller with an older and shorter structure. */
    memset(&now, 0x55, sizeof now);
    now.size = 8;
    faultin_status(&now);
    CHECK(now.segv == 0x55555555);
}

static int kind_of(const char *name)
{
    static const char *const names[] = {"truncated", "unreadable", "no-space", "protected"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, names[i]) == 0) {
            return i;
        }
    }
    exit(2);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    page = (size_t)sysconf(_SC_PAGESIZE);
    int how = kind_of(argv[2]);
    struct faultin_test_file file;
    make_failing(&file, 4 * page, how == FAULTIN_TEST_FAIL_TRUNCATED ? 2 * page - 10 : 2 * page, how);
    CHECK(file.fails_at == 2 * page && file.len == 4 * page && file.how == (unsigned)how);

    if (strcmp(argv[1], "naive") == 0) {
        memset((char *)file.data + page, 1, 2 * page);
        return 0;
    }
    if (strcmp(argv[1], "installed") == 0) {
        CHECK(faultin_install() == 0 && faultin_install() == 0);
    } else if (strcmp(argv[1], "host") == 0) {
        own_handler();
        CHECK(faultin_host_owns_handler() == 0);
        CHECK(faultin_install() == EBUSY);
    }
    copies(&file);
    lists(&file);
    searches(&file);
    touches(&file);
    int atomics = strcmp(argv[1], "kernel") != 0;
    scalars_8(&file, atomics);
    scalars_16(&file, atomics);
    scalars_32(&file, atomics);
    scalars_64(&file, atomics);
    status(argv[1]);
    char text[FAULTIN_FAULT_PRINT_SIZE];
    struct faultin_fault fault;
    CHECK(faultin_copy_in(text, (char *)file.data + file.fails_at - 3, 10, &fault) == 3);
    CHECK(faultin_fault_print(&fault, text, sizeof text) == strlen(text));
    CHECK(strncmp(text, "load failed after 3 bytes: ", 27) == 0);
    faultin_test_file_close(&file);
    return 0;
}
