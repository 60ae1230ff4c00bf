/* What a guard costs.
 * cost faults FILE          faults of its own that it recovers from, each timed, with 1,000 mappings
 * cost pairs N WORDS… -- CMD…   runs CMD with WORDS before it and without, N times in turn; prints medians of the ratios */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static sigjmp_buf back;
static void handler(int signal) { (void)signal; siglongjmp(back, 1); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

static int faults(const char *name) {
    enum { REPEATS = 3000, MAPPINGS = 1000 };
    static double times[REPEATS];
    int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, 4096)) return 3;
    for (int i = 0; i < MAPPINGS; i++) mmap(NULL, 4096, i % 2 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    volatile char *map = mmap(NULL, 65536, PROT_READ, MAP_SHARED, file, 0);
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGBUS, &action, NULL);
    for (int i = 0; i < REPEATS; i++) {
        double begun = now();
        if (!sigsetjmp(back, 1)) (void)map[8192];
        times[i] = now() - begun;
    }
    double first = times[0];
    printf("first %.0f us, repeats %.1f us (median of %d)\n", first, median(times + 100, REPEATS - 100), REPEATS - 100);
    return 0;
}

static void run(char **words, double *cpu, double *wall) {
    double begun = now();
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        execvp(words[0], words);
        _exit(127);
    }
    struct rusage usage;
    int status;
    wait4(child, &status, 0, &usage);
    if (status) fprintf(stderr, "%s: status %d\n", words[0], status), exit(5);
    *wall = now() - begun;
    *cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

int main(int count, char **words) {
    if (count > 2 && !strcmp(words[1], "faults")) return faults(words[2]);
    if (count < 5 || strcmp(words[1], "pairs")) return 2;
    int pairs = atoi(words[2]);
    char **guard = words + 3, **plain = guard;
    while (*plain && strcmp(*plain, "--")) plain++;
    if (!*plain || pairs < 1 || pairs > 99) return 2;
    plain++;
    double cpu[99], wall[99], seconds = 0;
    for (int i = 0; i < pairs; i++) {
        double c[2], w[2];
        /* Either goes first, in turn. */
        for (int turn = 0; turn < 2; turn++) {
            int guarded = (i + turn) % 2;
            run(guarded ? guard : plain, &c[guarded], &w[guarded]);
        }
        cpu[i] = c[1] / c[0], wall[i] = w[1] / w[0], seconds += c[0] / 1e6 / pairs;
    }
    printf("cpu %.2f wall %.2f (medians of %d pairs; %.2f s of CPU without)\n", median(cpu, pairs), median(wall, pairs), pairs, seconds);
    return 0;
}
