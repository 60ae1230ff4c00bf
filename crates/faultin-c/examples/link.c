/*
 * Writes a file through a mapping, as linkers do: a header with the place of each input, and the inputs, each at a page of its
 * own. When the disk is full, it ends with a message and leaves nothing behind: neither half of a file nor a damaged old one.
 *
 *     cc link.c $(pkg-config --cflags --libs faultin) -o link && ./link OUTPUT INPUT...
 *
 * With -DNAIVE it stores to the mapping with memcpy(): on a full disk SIGBUS kills it, and half of a file is left.
 *
 * Space for the whole output could be reserved with faultin_map_allocate(); then an output with holes takes all of its size,
 * and on file systems that copy on write a store can find the disk full all the same.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#ifndef NAIVE
#include <faultin.h>
#endif

enum { MAX_INPUTS = 100 };

struct header {
    char magic[8];
    uint64_t inputs;
    struct {
        uint64_t at, len;
    } input[MAX_INPUTS];
};

/* The output while it is written. */
struct output {
    uint64_t size;
    int fd;
#ifdef NAIVE
    char *map;
#else
    struct faultin_map *map;
#endif
};

#ifdef NAIVE
static int map_output(struct output *output)
{
    output->map = mmap(NULL, output->size, PROT_READ | PROT_WRITE, MAP_SHARED, output->fd, 0);
    return output->map == MAP_FAILED ? errno : 0;
}

static int put(struct output *output, const void *bytes, size_t len, uint64_t at)
{
    memcpy(output->map + at, bytes, len);
    return 0;
}

static int finish(struct output *output)
{
    return msync(output->map, output->size, MS_SYNC) != 0 ? errno : 0;
}
#else
static int map_output(struct output *output)
{
    struct faultin_map_options options = {.size = sizeof options, .flags = FAULTIN_MAP_WRITE};
    return faultin_map_from_fd(&output->map, output->fd, &options, NULL);
}

static int put(struct output *output, const void *bytes, size_t len, uint64_t at)
{
    struct faultin_fault fault;
    if (faultin_map_write_at(output->map, bytes, len, at, &fault) == len) {
        return 0;
    }
    char why[FAULTIN_FAULT_PRINT_SIZE];
    faultin_fault_print(&fault, why, sizeof why);
    fprintf(stderr, "link: %s\n", why);
    return fault.error;
}

static int finish(struct output *output)
{
    int error = faultin_map_flush(output->map, 0, output->size, NULL);
    faultin_map_close(output->map);
    return error;
}
#endif

/* Copies an input to its place. Its length was taken before: if it has become shorter, that is an error. */
static int copy(struct output *output, int input, uint64_t at, uint64_t len)
{
    char buffer[64 * 1024];
    while (len > 0) {
        size_t chunk = len < sizeof buffer ? (size_t)len : sizeof buffer;
        ssize_t done = read(input, buffer, chunk);
        if (done <= 0) {
            return done < 0 ? errno : ESTALE;
        }
        int error = put(output, buffer, (size_t)done, at);
        if (error != 0) {
            return error;
        }
        at += (uint64_t)done;
        len -= (uint64_t)done;
    }
    return 0;
}

static int write_output(struct output *output, struct header *header, const int *inputs)
{
    int error = ftruncate(output->fd, (off_t)output->size) != 0 ? errno : map_output(output);
    if (error != 0) {
        return error;
    }
    for (uint64_t i = 0; i < header->inputs && error == 0; i++) {
        error = copy(output, inputs[i], header->input[i].at, header->input[i].len);
    }
    if (error == 0) {
        error = put(output, header, sizeof *header, 0);
    }
    int finished = finish(output);
    return error != 0 ? error : finished;
}

int main(int argc, char **argv)
{
    struct header header = {.magic = "linked\n"};
    struct output output = {.size = sizeof header};
    int inputs[MAX_INPUTS];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    char temporary[4096];
    if (argc < 3 || argc - 2 > MAX_INPUTS) {
        fprintf(stderr, "usage: link OUTPUT INPUT... (at most %d)\n", MAX_INPUTS);
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        struct stat status;
        int fd = open(argv[i], O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &status) != 0) {
            fprintf(stderr, "link: %s: %s\n", argv[i], strerror(errno));
            return EXIT_FAILURE;
        }
        inputs[header.inputs] = fd;
        header.input[header.inputs].at = (output.size + page - 1) / page * page;
        header.input[header.inputs].len = (uint64_t)status.st_size;
        output.size = header.input[header.inputs].at + (uint64_t)status.st_size;
        header.inputs++;
    }
#ifndef NAIVE
    /* An application may; if it cannot, the map writes with pwrite(). */
    (void)faultin_install();
#endif
    /* A new file, which takes the place of the old one when it is complete. */
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.XXXXXX", argv[1]) >= sizeof temporary) {
        fprintf(stderr, "link: %s: %s\n", argv[1], strerror(ENAMETOOLONG));
        return EXIT_FAILURE;
    }
    output.fd = mkostemp(temporary, O_CLOEXEC);
    if (output.fd < 0) {
        fprintf(stderr, "link: %s: %s\n", temporary, strerror(errno));
        return EXIT_FAILURE;
    }
    mode_t mask = umask(0);
    umask(mask);
    int error = write_output(&output, &header, inputs);
    if (error == 0 && (fchmod(output.fd, 0777 & ~mask) != 0 || rename(temporary, argv[1]) != 0)) {
        error = errno;
    }
    if (error != 0) {
        unlink(temporary);
        fprintf(stderr, "link: %s: %s; nothing was written\n", argv[1], strerror(error));
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
