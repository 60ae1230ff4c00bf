/*
 * Follows a log as `tail -F` does: prints what is appended, reads a truncated log from its start, and opens a rotated one
 * again. It reads a mapping, and no change of the file ends it. Messages about the file go to standard error.
 *
 *     cc follow.c $(pkg-config --cflags --libs faultin) -o follow && ./follow /var/log/syslog
 *
 * SIGINT and SIGTERM end it. With -DNAIVE it reads the mapping with plain loads: a log that is truncated while it prints
 * kills it with SIGBUS.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t has_to_end;

static void end(int signo)
{
    (void)signo;
    has_to_end = 1;
}

static void print(const char *bytes, size_t len)
{
    if (fwrite(bytes, 1, len, stdout) != len || fflush(stdout) != 0) {
        exit(EXIT_FAILURE); /* The reader has hung up. */
    }
}

static void wait_a_little(void)
{
    struct timespec pause = {0, 50 * 1000 * 1000};
    nanosleep(&pause, NULL);
}

#ifdef NAIVE
static int follow(const char *path)
{
    size_t position = 0;
    while (!has_to_end) {
        struct stat now;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &now) != 0) {
            return EXIT_FAILURE;
        }
        size_t size = (size_t)now.st_size;
        if (size > position) {
            const char *log = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
            if (log == MAP_FAILED) {
                return EXIT_FAILURE;
            }
            while (position < size) { /* Line by line: the search loads what may not be there any more. */
                const char *line = log + position, *newline = memchr(line, '\n', size - position);
                size_t len = newline != NULL ? (size_t)(newline - line) + 1 : size - position;
                print(line, len);
                position += len;
            }
            munmap((void *)log, size);
        } else if (size < position) {
            position = 0;
        }
        close(fd);
        wait_a_little();
    }
    return EXIT_SUCCESS;
}
#else
#include <faultin.h>

/* What is followed, and how much of it has been printed. */
struct log {
    const char *path;
    struct faultin_map *map;
    uint64_t position;
};

static int open_log(struct log *log)
{
    struct faultin_map_options options = {.size = sizeof options, .watch = FAULTIN_MAP_WATCH_APPENDING};
    struct faultin_map *map;
    int error = faultin_map_open(&map, log->path, &options, NULL);
    if (error == 0) {
        faultin_map_close(log->map);
        log->map = map;
        log->position = 0;
    }
    return error;
}

/* Prints what the log has from the position on. */
static int print_new(struct log *log)
{
    char buffer[16 * 1024];
    uint64_t size_before = faultin_map_size(log->map);
    struct faultin_fault fault;
    uint32_t change;
    int error = faultin_map_refresh(log->map, &change, &fault);
    if (error != 0) {
        return error;
    }
    if (change == FAULTIN_CAUSE_SHRUNK || change == FAULTIN_CAUSE_REWRITTEN) {
        fprintf(stderr, "-- %s was %s: %ju bytes, then %ju; printed %ju of it\n", log->path,
                change == FAULTIN_CAUSE_SHRUNK ? "cut" : "rewritten", (uintmax_t)size_before,
                (uintmax_t)faultin_map_size(log->map), (uintmax_t)log->position);
        log->position = 0;
    }
    for (;;) {
        size_t done = faultin_map_read_at(log->map, buffer, sizeof buffer, log->position, &fault);
        print(buffer, done); /* These are the file's, whatever comes next. */
        log->position += done;
        if (done == sizeof buffer) {
            continue;
        }
        if (fault.cause == FAULTIN_CAUSE_NONE) {
            return 0; /* The end, for now. */
        }
        if (fault.cause != FAULTIN_CAUSE_SHRUNK && fault.cause != FAULTIN_CAUSE_REWRITTEN) {
            return fault.error; /* A failing disk, for example. */
        }
        /* Cut while we read: the next look reports it, and starts anew. */
        return 0;
    }
}

static int follow(const char *path)
{
    struct log log = {path, NULL, 0};
    struct faultin_fault fault;
    int error = open_log(&log);
    while (error == 0 && !has_to_end) {
        error = print_new(&log);
        if (error == 0 && faultin_map_verify(log.map, &fault) != 0 && fault.cause == FAULTIN_CAUSE_REPLACED) {
            /* Renamed before this look at the end of the old log, which is printed to its end. */
            error = print_new(&log);
            if (error == 0 && open_log(&log) == 0) {
                fprintf(stderr, "-- %s is another file now\n", path);
                continue;
            }
        }
        wait_a_little();
    }
    faultin_map_close(log.map);
    if (error != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(error));
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
#endif

int main(int argc, char **argv)
{
    struct sigaction action;
    if (argc != 2) {
        fprintf(stderr, "usage: follow LOG\n");
        return 2;
    }
    memset(&action, 0, sizeof action);
    action.sa_handler = end;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
#ifndef NAIVE
    /* This is an application, so it may install the handler. If that fails, the map reads with pread(). */
    if (faultin_install() != 0) {
        fprintf(stderr, "-- without a handler\n");
    }
#endif
    return follow(argv[1]);
}
