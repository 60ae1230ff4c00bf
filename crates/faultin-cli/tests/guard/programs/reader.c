/* Maps a file, truncates it, and sums what was mapped. reader FILE TRUNCATED_TO [handler] */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static sigjmp_buf back;
static void handler(int signal) { (void)signal; siglongjmp(back, 1); }

int main(int count, char **words) {
    if (count < 3) return 2;
    int file = open(words[1], O_RDWR);
    struct stat state;
    if (file < 0 || fstat(file, &state)) return perror(words[1]), 3;
    volatile unsigned char *map = mmap(NULL, (size_t)state.st_size, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) return perror("mmap"), 4;
    if (ftruncate(file, strtol(words[2], NULL, 10))) return perror("ftruncate"), 5;
    if (count > 3 && !strcmp(words[3], "handler")) {
        struct sigaction action = {.sa_handler = handler};
        sigaction(SIGBUS, &action, NULL);
        if (sigsetjmp(back, 1)) return puts("caught"), 0;
    }
    unsigned long sum = 0;
    for (off_t i = 0; i < state.st_size; i++) sum += map[i];
    printf("sum=%lu\n", sum);
    return 0;
}
