/* One instruction of each kind at a page that is gone. The handler prints what the CPU says the access was. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static char other[65536] __attribute__((aligned(64)));

#define KIND(NAME, ...)                                                                                        \
    static void NAME(char *p) { (void)p; __VA_ARGS__; }
#if defined __x86_64__
#include "kinds_x86_64.h"
#elif defined __aarch64__
#include "kinds_aarch64.h"
#endif

static sigjmp_buf back;
static volatile long error, trap, address;

static void handler(int signal, siginfo_t *info, void *context) {
    (void)signal;
    ucontext_t *c = context;
    error = (long)ERROR(c);
    trap = (long)TRAP(c);
    address = (long)info->si_addr;
    siglongjmp(back, 1);
}

int main(int count, char **words) {
    if (count < 2) return 2;
    int file = open(words[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, 4096)) return 3;
    static char stack[65536];
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaction(SIGBUS, &action, NULL);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!has(kinds[i].needs)) continue;
        /* One page that is there, and one that is not; a place of its own for each. */
        char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (map == MAP_FAILED) return 4;
        error = trap = -1;
        if (!sigsetjmp(back, 1)) kinds[i].run(map + 4096);
        printf("%s %ld %ld %#lx\n", kinds[i].name, error, trap, address);
    }
    return 0;
}
