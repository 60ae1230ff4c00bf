/*
 * A Wayland server on libwayland-server, and two clients on libwayland-client. The first client truncates its pool after a
 * frame: it gets a protocol error, and the second one is served as if nothing had happened.
 *
 *     cc *.c $(pkg-config --cflags --libs faultin wayland-server wayland-client) -o wl_shm && ./wl_shm [install]
 *
 * With the argument `install` it calls faultin_install(), as an application may. With -DNAIVE SIGBUS kills it.
 */
#define _GNU_SOURCE
#include "wl_shm.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wayland-server.h>
#ifndef NAIVE
#include <faultin.h>
#endif

static int frames, errors;

/* The drawing of this server is a sum. */
static void add(const volatile uint8_t *bytes, size_t len, void *to)
{
    uint32_t sum = 0;
    for (size_t at = 0; at < len; at++) {
        sum += bytes[at];
    }
    *(uint32_t *)to = sum;
}

static void destroy(struct wl_client *client, struct wl_resource *resource)
{
    (void)client;
    wl_resource_destroy(resource);
}

/* A surface is the number of its buffer, because the client may destroy the buffer at any time. */
static void attach(struct wl_client *client, struct wl_resource *surface, struct wl_resource *buffer, int32_t x, int32_t y)
{
    uint32_t id = buffer != NULL ? wl_resource_get_id(buffer) : 0;
    (void)client, (void)x, (void)y;
    wl_resource_set_user_data(surface, (void *)(uintptr_t)id);
}

static void commit(struct wl_client *client, struct wl_resource *surface)
{
    uint32_t id = (uint32_t)(uintptr_t)wl_resource_get_user_data(surface), sum;
    struct wl_resource *buffer = id != 0 ? wl_client_get_object(client, id) : NULL;
    if (buffer == NULL) {
        return;
    }
    if (shm_read(buffer, add, &sum) != 0) {
        errors++;
        return;
    }
    frames++;
    printf("server: frame %d, sum %u\n", frames, sum);
    wl_buffer_send_release(buffer);
}

static void damage(struct wl_client *client, struct wl_resource *surface, int32_t x, int32_t y, int32_t w, int32_t h)
{
    (void)client, (void)surface, (void)x, (void)y, (void)w, (void)h;
}

static void frame(struct wl_client *client, struct wl_resource *surface, uint32_t id)
{
    struct wl_resource *callback = wl_resource_create(client, &wl_callback_interface, 1, id);
    (void)surface;
    if (callback != NULL) {
        wl_callback_send_done(callback, 0);
        wl_resource_destroy(callback);
    }
}

static void set_region(struct wl_client *client, struct wl_resource *surface, struct wl_resource *region)
{
    (void)client, (void)surface, (void)region;
}

/* (Those of version 1.) */
static const struct wl_surface_interface surface_requests = {
    .destroy = destroy,
    .attach = attach,
    .damage = damage,
    .frame = frame,
    .set_opaque_region = set_region,
    .set_input_region = set_region,
    .commit = commit,
};
static const struct wl_region_interface region_requests = {.destroy = destroy, .add = damage, .subtract = damage};

static void make(struct wl_client *client, const struct wl_interface *interface, const void *requests, uint32_t id)
{
    struct wl_resource *made = wl_resource_create(client, interface, 1, id);
    if (made == NULL) {
        wl_client_post_no_memory(client);
        return;
    }
    wl_resource_set_implementation(made, requests, NULL, NULL);
}

static void create_surface(struct wl_client *client, struct wl_resource *compositor, uint32_t id)
{
    (void)compositor;
    make(client, &wl_surface_interface, &surface_requests, id);
}

static void create_region(struct wl_client *client, struct wl_resource *compositor, uint32_t id)
{
    (void)compositor;
    make(client, &wl_region_interface, &region_requests, id);
}

static const struct wl_compositor_interface compositor_requests = {create_surface, create_region};

static void bind_compositor(struct wl_client *client, void *data, uint32_t version, uint32_t id)
{
    (void)data, (void)version;
    make(client, &wl_compositor_interface, &compositor_requests, id);
}

struct connection {
    struct wl_listener listener; /* The first member. */
    int is_closed;
};

static void closed(struct wl_listener *listener, void *data)
{
    (void)data;
    ((struct connection *)listener)->is_closed = 1;
}

/* Serves one client, a child process, until it hangs up. Returns the child's status. */
static int serve(struct wl_display *display, int is_hostile)
{
    int sockets[2], status = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) {
        return -1;
    }
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        close(sockets[0]);
        exit(client(sockets[1], is_hostile));
    }
    close(sockets[1]);
    struct wl_client *peer = child > 0 ? wl_client_create(display, sockets[0]) : NULL;
    struct connection connection = {{.notify = closed}, 0};
    if (peer == NULL) {
        return -1;
    }
    wl_client_add_destroy_listener(peer, &connection.listener);
    while (!connection.is_closed) {
        wl_display_flush_clients(display);
        wl_event_loop_dispatch(wl_display_get_event_loop(display), -1);
    }
    waitpid(child, &status, 0);
    return status;
}

int main(int argc, char **argv)
{
    struct wl_display *display = wl_display_create();
#ifdef NAIVE
    (void)argc, (void)argv;
#else
    if (argc > 1 && strcmp(argv[1], "install") == 0 && faultin_install() != 0) {
        return EXIT_FAILURE;
    }
#endif
    if (display == NULL || shm_init(display) != 0
        || wl_global_create(display, &wl_compositor_interface, 1, NULL, bind_compositor) == NULL) {
        return EXIT_FAILURE;
    }
    int first = serve(display, 1), second = serve(display, 0);
    printf("server: %d frames, %d protocol errors, still alive\n", frames, errors);
    wl_display_destroy(display);
    return first == 0 && second == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
