/*
 * wl_shm for a Wayland server: the memory belongs to its clients, and they may truncate it at any time.
 *
 * libwayland has a wl_shm of its own (wl_display_init_shm()). There, wl_shm_buffer_begin_access() installs a handler of SIGBUS for
 * the whole process and for good. It replaces the whole pool by zeros, and for any other SIGBUS it puts back the action that
 * it found. This one, like those of wlroots and KWin, is the server's own, and it installs nothing: a guard is a copy that the
 * kernel makes, or, in a program that has called faultin_install(), the pool itself.
 *
 * With -DNAIVE it maps the pool and reads it: SIGBUS kills the server.
 */
#define _GNU_SOURCE
#include "wl_shm.h"

#include <stdlib.h>
#include <unistd.h>
#include <wayland-server.h>
#ifdef NAIVE
#include <sys/mman.h>
#else
#include <faultin.h>
#endif

/* Bytes of a buffer: a guard that is a copy takes no more memory than this for a client. */
enum { LARGEST = 256 << 20 };

struct pool {
#ifdef NAIVE
    const uint8_t *naive;
#else
    struct faultin_map *map;
#endif
    int32_t size;
    int users; /* Its own resource, and its buffers. */
};

struct buffer {
    struct pool *pool;
    size_t offset, len;
};

#ifdef NAIVE
static int map_pool(struct pool *pool, int fd)
{
    pool->naive = mmap(NULL, (size_t)pool->size, PROT_READ, MAP_SHARED, fd, 0);
    return pool->naive == MAP_FAILED;
}

static int resize(struct pool *pool, int32_t size)
{
    const void *map = mremap((void *)pool->naive, (size_t)pool->size, (size_t)size, MREMAP_MAYMOVE);
    pool->naive = map != MAP_FAILED ? map : pool->naive;
    return map == MAP_FAILED;
}

static void unmap_pool(struct pool *pool)
{
    munmap((void *)pool->naive, (size_t)pool->size);
}

static int read_buffer(const struct buffer *buffer, shm_reader *read, void *to, char *why, size_t why_size)
{
    (void)why, (void)why_size;
    read(buffer->pool->naive + buffer->offset, buffer->len, to);
    return 0;
}
#else
static int map_pool(struct pool *pool, int fd)
{
    return faultin_shared_from_fd(&pool->map, fd, 0, (size_t)pool->size, 0, NULL);
}

static int resize(struct pool *pool, int32_t size)
{
    return faultin_shared_resize(pool->map, (size_t)size, NULL);
}

static void unmap_pool(struct pool *pool)
{
    faultin_map_close(pool->map);
}

static int read_buffer(const struct buffer *buffer, shm_reader *read, void *to, char *why, size_t why_size)
{
    struct faultin_guard guard;
    struct faultin_damage damage;
    int error = faultin_guard_begin(buffer->pool->map, buffer->offset, buffer->len, &guard, &damage.fault);
    if (error == 0) {
        read(guard.data, guard.len, to);
        error = faultin_guard_end(&guard, &damage);
    }
    if (error != 0) {
        damage.fault.flags = 0; /* The client is not told where our memory is. */
        faultin_fault_print(&damage.fault, why, why_size);
    }
    return error;
}
#endif

static void destroy(struct wl_client *client, struct wl_resource *resource)
{
    (void)client;
    wl_resource_destroy(resource);
}

static void unref(struct pool *pool)
{
    if (--pool->users == 0) {
        unmap_pool(pool);
        free(pool);
    }
}

static void destroyed_pool(struct wl_resource *resource)
{
    unref(wl_resource_get_user_data(resource));
}

static void destroyed_buffer(struct wl_resource *resource)
{
    struct buffer *buffer = wl_resource_get_user_data(resource);
    unref(buffer->pool);
    free(buffer);
}

static const struct wl_buffer_interface buffer_requests = {destroy};

static void create_buffer(struct wl_client *client, struct wl_resource *resource, uint32_t id, int32_t offset,
                          int32_t width, int32_t height, int32_t stride, uint32_t format)
{
    struct pool *pool = wl_resource_get_user_data(resource);
    (void)format;
    int64_t len = (int64_t)stride * height, room = (int64_t)pool->size - offset;
    if (offset < 0 || width <= 0 || height <= 0 || stride / 4 < width || len > room || len > LARGEST) {
        wl_resource_post_error(resource, WL_SHM_ERROR_INVALID_STRIDE, "the buffer is not within its pool, or too large");
        return;
    }
    struct buffer *buffer = malloc(sizeof *buffer);
    struct wl_resource *made = buffer != NULL ? wl_resource_create(client, &wl_buffer_interface, 1, id) : NULL;
    if (made == NULL) {
        free(buffer);
        wl_client_post_no_memory(client);
        return;
    }
    *buffer = (struct buffer){pool, (size_t)offset, (size_t)len};
    pool->users++;
    wl_resource_set_implementation(made, &buffer_requests, buffer, destroyed_buffer);
}

static void resize_pool(struct wl_client *client, struct wl_resource *resource, int32_t size)
{
    struct pool *pool = wl_resource_get_user_data(resource);
    (void)client;
    if (size < pool->size || resize(pool, size) != 0) {
        wl_resource_post_error(resource, WL_SHM_ERROR_INVALID_FD, "%d bytes cannot become %d", pool->size, size);
        return;
    }
    pool->size = size;
}

static const struct wl_shm_pool_interface pool_requests = {create_buffer, destroy, resize_pool};

static void create_pool(struct wl_client *client, struct wl_resource *resource, uint32_t id, int fd, int32_t size)
{
    struct pool *pool = calloc(1, sizeof *pool);
    struct wl_resource *made = pool != NULL ? wl_resource_create(client, &wl_shm_pool_interface, 1, id) : NULL;
    if (made == NULL) {
        wl_client_post_no_memory(client);
        free(pool);
    } else if (pool->size = size, pool->users = 1, size <= 0 || map_pool(pool, fd) != 0) {
        wl_resource_post_error(resource, WL_SHM_ERROR_INVALID_FD, "there are no %d bytes", size);
        free(pool);
    } else {
        wl_resource_set_implementation(made, &pool_requests, pool, destroyed_pool);
    }
    close(fd);
}

int shm_read(struct wl_resource *buffer, shm_reader *read, void *to)
{
    char why[256] = "";
    if (!wl_resource_instance_of(buffer, &wl_buffer_interface, &buffer_requests)) {
        return -1;
    }
    int error = read_buffer(wl_resource_get_user_data(buffer), read, to, why, sizeof why);
    if (error != 0) {
        printf("server: %s\n", why);
        wl_resource_post_error(buffer, WL_SHM_ERROR_INVALID_FD, "the memory of the buffer: %s", why);
    }
    return error;
}

static const struct wl_shm_interface shm_requests = {create_pool};

static void bind_shm(struct wl_client *client, void *data, uint32_t version, uint32_t id)
{
    struct wl_resource *shm = wl_resource_create(client, &wl_shm_interface, (int)version, id);
    (void)data;
    if (shm == NULL) {
        wl_client_post_no_memory(client);
        return;
    }
    wl_resource_set_implementation(shm, &shm_requests, NULL, NULL);
    wl_shm_send_format(shm, WL_SHM_FORMAT_ARGB8888);
    wl_shm_send_format(shm, WL_SHM_FORMAT_XRGB8888);
}

int shm_init(struct wl_display *display)
{
    return wl_global_create(display, &wl_shm_interface, 1, NULL, bind_shm) != NULL ? 0 : -1;
}
