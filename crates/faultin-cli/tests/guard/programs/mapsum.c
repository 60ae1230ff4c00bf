/* Sums a mapped file, page by page. mapsum FILE */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

int main(int count, char **words) {
    struct stat state;
    int file = count > 1 ? open(words[1], O_RDONLY) : -1;
    if (file < 0 || fstat(file, &state)) return perror("open"), 3;
    volatile unsigned char *map = mmap(NULL, (size_t)state.st_size, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) return perror("mmap"), 4;
    unsigned long sum = 0;
    for (off_t i = 0; i < state.st_size; i++) sum += map[i];
    printf("sum=%lu\n", sum);
    return 0;
}
