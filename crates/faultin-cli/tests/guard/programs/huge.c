/* Touches four huge pages of 2 MiB, more than were reserved. huge memfd|private */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int count, char **words) {
    size_t size = 8 << 20, sum = 0;
    char *map;
    if (count > 1 && !strcmp(words[1], "memfd")) {
        int file = memfd_create("huge", MFD_HUGETLB);
        if (file < 0 || ftruncate(file, (off_t)size)) return perror("memfd"), 3;
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    } else {
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
    }
    if (map == MAP_FAILED) return perror("mmap"), 4;
    for (size_t i = 0; i < size; i += 2 << 20) map[i] = 1;
    for (size_t i = 0; i < size; i += 2 << 20) sum += (size_t)map[i];
    printf("sum=%zu\n", sum);
    return 0;
}
