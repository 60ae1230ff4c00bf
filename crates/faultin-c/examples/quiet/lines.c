/*
 * A library that reads memory that may fault in any host. It installs no handler, changes no mask and starts no thread: the
 * kernel copies, and reports a fault as a short count. If the host calls faultin_install(), the same copies become plain ones.
 *
 *     cc -shared -fPIC lines.c $(pkg-config --cflags --libs faultin) -o liblines.so
 *
 * With -DNAIVE it reads the mapping itself.
 */
#include "lines.h"

#ifdef NAIVE
int lines_count(const void *mapping, size_t len, size_t *lines, size_t *done)
{
    const char *bytes = mapping;
    *lines = 0;
    for (*done = 0; *done < len; ++*done) {
        *lines += bytes[*done] == '\n';
    }
    return 0;
}
#else
#include <faultin.h>

int lines_count(const void *mapping, size_t len, size_t *lines, size_t *done)
{
    char buffer[16 * 1024];
    struct faultin_fault fault;
    *lines = *done = 0;
    while (*done < len) {
        size_t chunk = len - *done < sizeof buffer ? len - *done : sizeof buffer;
        size_t copied = faultin_copy_in(buffer, (const char *)mapping + *done, chunk, &fault);
        for (size_t at = 0; at < copied; at++) {
            *lines += buffer[at] == '\n';
        }
        *done += copied;
        if (copied < chunk) {
            return fault.error;
        }
    }
    return 0;
}
#endif
