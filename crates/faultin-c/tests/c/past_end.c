/*
 * Passes memory past the end of a file to a system call, without the library: the call fails with EFAULT.
 *
 * QEMU 7.2 in user mode dies: it reads sets of signals itself, after a look at the page's rights alone
 * ("cpu-exec.c:954:cpu_exec: assertion failed: (cpu == current_cpu)").
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    FILE *file = tmpfile();
    if (file == NULL || ftruncate(fileno(file), (off_t)(2 * page)) != 0) {
        return 1;
    }
    char *bytes = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, fileno(file), 0);
    if (bytes == MAP_FAILED || ftruncate(fileno(file), (off_t)page) != 0) {
        return 1;
    }
    /* An invalid operation: the set is read, and not used. */
    long result = syscall(SYS_rt_sigprocmask, INT_MAX, bytes + page, NULL, 8);
    if (result != -1 || errno != EFAULT) {
        fprintf(stderr, "rt_sigprocmask: %ld, errno %d\n", result, errno);
        return 1;
    }
    return 0;
}
