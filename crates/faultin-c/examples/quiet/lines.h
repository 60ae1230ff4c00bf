/* A small library: it counts lines in memory that its caller has mapped. */
#ifndef LINES_H
#define LINES_H

#include <stddef.h>

/*
 * Counts the lines of a mapping. Returns 0, or an error number: then the mapping could not be read to its end, `*done` bytes
 * were read, and `*lines` lines are in them.
 */
int lines_count(const void *mapping, size_t len, size_t *lines, size_t *done);

#endif
