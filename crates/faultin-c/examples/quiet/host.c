/*
 * A host that uses SIGBUS for itself: it has a handler, which recovers its own faults. The library `lines` reads a mapping
 * that was truncated, and the host checks that its handler, every other signal action, the mask and the alternate stack are as
 * they were, and that its handler was never called for the library.
 *
 *     cc host.c -L. -llines -o host && LD_LIBRARY_PATH=. ./host
 *
 * If the library was made with -DNAIVE, its fault reaches the host's handler, which does not know it: SIGBUS kills the host.
 */
#define _GNU_SOURCE
#include "lines.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIGNALS = 64 };

/* All that a library can change of the signals. */
struct signals {
    struct sigaction action[SIGNALS + 1];
    sigset_t mask;
    stack_t stack;
};

static sigjmp_buf recovery;
static volatile sig_atomic_t is_recoverable, calls;

static void handler(int signo, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    calls++;
    if (is_recoverable) {
        siglongjmp(recovery, 1);
    }
    static const char message[] = "host: a SIGBUS that is not mine\n";
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
    (void)ignored;
    signal(signo, SIG_DFL); /* The access is repeated, and kills. */
}

/* The host's own use of the signal. Returns whether the byte can be read. */
static int is_readable(const volatile char *byte)
{
    int is_good = 0;
    if (sigsetjmp(recovery, 1) == 0) {
        is_recoverable = 1;
        (void)*byte;
        is_good = 1;
    }
    is_recoverable = 0;
    return is_good;
}

static void look(struct signals *signals)
{
    memset(signals, 0, sizeof *signals);
    for (int signo = 1; signo <= SIGNALS; signo++) {
        sigaction(signo, NULL, &signals->action[signo]); /* (Fails for those of the C library.) */
    }
    sigprocmask(SIG_BLOCK, NULL, &signals->mask);
    sigaltstack(NULL, &signals->stack);
}

static int is_same(const struct signals *a, const struct signals *b)
{
    for (int signo = 1; signo <= SIGNALS; signo++) {
        const struct sigaction *x = &a->action[signo], *y = &b->action[signo];
        if (x->sa_sigaction != y->sa_sigaction || x->sa_flags != y->sa_flags) {
            return 0;
        }
        for (int other = 1; other <= SIGNALS; other++) {
            if (sigismember(&x->sa_mask, other) != sigismember(&y->sa_mask, other)) {
                return 0;
            }
        }
    }
    for (int signo = 1; signo <= SIGNALS; signo++) {
        if (sigismember(&a->mask, signo) != sigismember(&b->mask, signo)) {
            return 0;
        }
    }
    return a->stack.ss_sp == b->stack.ss_sp && a->stack.ss_flags == b->stack.ss_flags;
}

int main(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), lines, done;
    struct signals before, after;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);

    int fd = memfd_create("log", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)(4 * page)) != 0 || pwrite(fd, "one\ntwo\n", 8, 0) != 8) {
        return EXIT_FAILURE;
    }
    const char *log = mmap(NULL, 4 * page, PROT_READ, MAP_SHARED, fd, 0);
    if (log == MAP_FAILED || ftruncate(fd, (off_t)page) != 0) { /* Another program could do this. */
        return EXIT_FAILURE;
    }

    look(&before);
    int error = lines_count(log, 4 * page, &lines, &done);
    look(&after);
    printf("library: %zu lines in %zu of 4 pages, %s\n", lines, done / page, error != 0 ? strerror(error) : "no error");
    printf("host: signals are %s, its handler was called %d times\n", is_same(&before, &after) ? "unchanged" : "CHANGED",
           (int)calls);
    int is_quiet = error != 0 && lines == 2 && done == page && is_same(&before, &after) && calls == 0;

    int reads = is_readable(log), fails = !is_readable(log + page) && calls == 1;
    printf("host: its own faults are %s\n", reads && fails ? "still recovered" : "LOST");
    return is_quiet && reads && fails ? EXIT_SUCCESS : EXIT_FAILURE;
}
