/* The clients: an honest one, and one that truncates the pool that it shares with the server. */
#define _GNU_SOURCE
#include "wl_shm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <wayland-client.h>

enum { WIDTH = 256, HEIGHT = 64, STRIDE = 4 * WIDTH, POOL = STRIDE * HEIGHT };

struct globals {
    struct wl_compositor *compositor;
    struct wl_shm *shm;
};

static void global(void *data, struct wl_registry *registry, uint32_t name, const char *interface, uint32_t version)
{
    struct globals *globals = data;
    (void)version;
    if (strcmp(interface, wl_compositor_interface.name) == 0) {
        globals->compositor = wl_registry_bind(registry, name, &wl_compositor_interface, 1);
    } else if (strcmp(interface, wl_shm_interface.name) == 0) {
        globals->shm = wl_registry_bind(registry, name, &wl_shm_interface, 1);
    }
}

static void global_remove(void *data, struct wl_registry *registry, uint32_t name)
{
    (void)data, (void)registry, (void)name;
}

static const struct wl_registry_listener listener = {global, global_remove};

int client(int socket, int is_hostile)
{
    struct globals globals = {NULL, NULL};
    struct wl_display *display = wl_display_connect_to_fd(socket);
    if (display == NULL) {
        return 1;
    }
    wl_registry_add_listener(wl_display_get_registry(display), &listener, &globals);
    if (wl_display_roundtrip(display) < 0 || globals.compositor == NULL || globals.shm == NULL) {
        return 1;
    }
    int fd = memfd_create("pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, POOL) != 0 || pwrite(fd, "pixels", 6, POOL - 6) != 6) {
        return 1;
    }
    struct wl_shm_pool *pool = wl_shm_create_pool(globals.shm, fd, POOL);
    struct wl_buffer *buffer = wl_shm_pool_create_buffer(pool, 0, WIDTH, HEIGHT, STRIDE, WL_SHM_FORMAT_XRGB8888);
    struct wl_surface *surface = wl_compositor_create_surface(globals.compositor);
    wl_surface_attach(surface, buffer, 0, 0);
    wl_surface_commit(surface);
    if (wl_display_roundtrip(display) < 0) {
        return 1;
    }
    if (is_hostile && ftruncate(fd, STRIDE) != 0) {
        return 1;
    }
    wl_surface_commit(surface);
    int has_failed = wl_display_roundtrip(display) < 0;
    if (has_failed && wl_display_get_error(display) == EPROTO) {
        const struct wl_interface *interface = NULL;
        uint32_t id, code = wl_display_get_protocol_error(display, &interface, &id);
        printf("client: protocol error %u of %s\n", code, interface != NULL ? interface->name : "?");
        fflush(stdout);
    }
    wl_display_disconnect(display);
    close(fd);
    return has_failed == is_hostile ? 0 : 1;
}
