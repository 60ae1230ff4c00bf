/* Stores to every page of a new sparse file through a shared mapping, in threads, and verifies every byte afterwards.
 * writer FILE BYTES THREADS [handler] [block] [ignore] [unlink] */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile unsigned char *map;
static size_t size, threads;

static unsigned char at(size_t i) { return (unsigned char)(i * 7 + i / 4096 + 1); }

static void *part(void *number) {
    size_t first = size / threads * (size_t)number;
    size_t last = (size_t)number == threads - 1 ? size : first + size / threads;
    for (size_t i = first; i < last; i++) map[i] = at(i);
    return NULL;
}

static void handler(int signal) {
    static const char text[] = "handler\n";
    if (write(2, text, sizeof text - 1) < 0) _exit(9);
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signal, &action, NULL);
}

int main(int count, char **words) {
    if (count < 4) return 2;
    size = strtoul(words[2], NULL, 10);
    threads = strtoul(words[3], NULL, 10);
    for (int i = 4; i < count; i++) {
        struct sigaction action = {0};
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGBUS);
        if (!strcmp(words[i], "handler")) action.sa_handler = handler, sigaction(SIGBUS, &action, NULL);
        if (!strcmp(words[i], "ignore")) action.sa_handler = SIG_IGN, sigaction(SIGBUS, &action, NULL);
        if (!strcmp(words[i], "block")) sigprocmask(SIG_BLOCK, &set, NULL);
    }
    int file = open(words[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, (off_t)size)) return perror(words[1]), 3;
    for (int i = 4; i < count; i++) if (!strcmp(words[i], "unlink")) unlink(words[1]);
    map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) return perror("mmap"), 4;
    pthread_t ids[64];
    for (size_t i = 1; i < threads; i++) pthread_create(&ids[i], NULL, part, (void *)i);
    part((void *)0);
    for (size_t i = 1; i < threads; i++) pthread_join(ids[i], NULL);
    size_t bad = 0;
    for (size_t i = 0; i < size; i++) bad += map[i] != at(i);
    printf("bad=%zu\n", bad);
    return bad != 0;
}
