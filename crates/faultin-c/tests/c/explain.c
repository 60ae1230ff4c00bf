/* Dies by a fault of each kind, with an explanation. The test reads it, and sees the signal. */
#define _GNU_SOURCE
#include "check.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

static char stack[8 << 10];

static void on_signal(int signo, siginfo_t *info, void *context)
{
    faultin_explain(info, context, STDOUT_FILENO);
    _exit(signo == SIGSEGV ? 0 : 1);
}

static void small_stack(void)
{
    stack_t alternate;
    memset(&alternate, 0, sizeof alternate);
    alternate.ss_sp = stack;
    alternate.ss_size = sizeof stack;
    /* Some machines need more for the registers alone. */
    if (sigaltstack(&alternate, NULL) != 0) {
        printf("8 KiB are no signal stack here\n");
        exit(SKIP);
    }
}

int main(int argc, char **argv)
{
    CHECK(argc >= 2);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct faultin_test_file file;
    small_stack();
    if (strcmp(argv[1], "segv") == 0) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigemptyset(&action.sa_mask);
        CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
        make_failing(&file, 4 * page, 2 * page, FAULTIN_TEST_FAIL_PROTECTED);
        ((volatile char *)file.data)[2 * page + 3] = 1;
        return 1;
    }
    CHECK(faultin_explain_install() == 0 && faultin_explain_install() == 0);
    if (strcmp(argv[1], "sent") == 0) {
        raise(SIGBUS);
        return 1;
    }
    if (strcmp(argv[1], "recovered") == 0) {
        /* What is recovered is not explained, whichever handler is installed first. */
        CHECK(faultin_install() == 0);
        make_failing(&file, 4 * page, 2 * page, FAULTIN_TEST_FAIL_TRUNCATED);
        char byte;
        CHECK(faultin_copy_in(&byte, (char *)file.data + 3 * page, 1, NULL) == 0);
        CHECK(faultin_raise_to_top() == 0);
        CHECK(faultin_copy_in(&byte, (char *)file.data + 3 * page, 1, NULL) == 0);
        return 0;
    }
    if (strcmp(argv[1], "path") == 0) {
        CHECK(argc == 3);
        int fd = open(argv[2], O_RDWR);
        CHECK(fd >= 0);
        volatile char *bytes = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(bytes != MAP_FAILED && close(fd) == 0);
        return bytes[2 * page + 1];
    }
    if (strcmp(argv[1], "truncated") == 0) {
        make_failing(&file, 4 * page, page + 10, FAULTIN_TEST_FAIL_TRUNCATED);
    } else {
        make_failing(&file, 4 * page, 2 * page, FAULTIN_TEST_FAIL_NO_SPACE);
    }
    ((volatile char *)file.data)[2 * page + 3] = 1;
    return 1;
}
