/* What the files of this example share. */
#ifndef WL_SHM_H
#define WL_SHM_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct wl_display;
struct wl_resource;

/* Reads the bytes of a buffer, which may change meanwhile. */
typedef void shm_reader(const volatile uint8_t *bytes, size_t len, void *to);

/* Adds the global wl_shm to a display. Returns 0, or -1. */
int shm_init(struct wl_display *display);

/*
 * Runs `read` over the bytes of a wl_buffer. Returns 0 if they were all the client's; otherwise the client has been sent a
 * protocol error, and what `read` has made of them is worth nothing.
 */
int shm_read(struct wl_resource *buffer, shm_reader *read, void *to);

/* A client on a connected socket: a frame, and a second one, before which it truncates its pool if it is hostile. */
int client(int socket, int is_hostile);

#endif
