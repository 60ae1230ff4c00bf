/* What the test programs share. */
#ifndef CHECK_H
#define CHECK_H

#include <faultin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* The status of a program that this machine cannot run, as automake has it. */
#define SKIP 77

/* ThreadSanitizer puts a handler of its own above each one that a program installs. */
#ifdef __SANITIZE_THREAD__
#define HAS_HANDLER_ABOVE 1
#else
#define HAS_HANDLER_ABOVE 0
#endif

static inline unsigned char pattern(size_t at)
{
    return (unsigned char)(at % 251);
}

/* Makes a test file; ends the program with SKIP where this system has none. */
static inline void make_failing(struct faultin_test_file *file, size_t bytes, size_t fails_at, int how)
{
    struct faultin_fault fault;
    int error = faultin_test_file(file, bytes, fails_at, how, &fault);
    if (error != 0 && fault.cause == FAULTIN_CAUSE_UNSUPPORTED) {
        printf("faultin_test_file(%d): %s\n", how, strerror(error));
        exit(SKIP);
    }
    CHECK(error == 0);
}

#endif
