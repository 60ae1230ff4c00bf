/* The library loaded by dlopen() and closed, once or in two copies. */
#define _GNU_SOURCE
#include <faultin.h>

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct library {
    void *handle;
    size_t (*copy_in)(void *, const void *, size_t, struct faultin_fault *);
    int (*install)(void);
    int (*explain_install)(void);
    int (*create)(struct faultin_map **, const char *, size_t, struct faultin_fault *);
    int (*close)(struct faultin_map *);
};

static void *symbol(void *handle, const char *name)
{
    void *found = dlsym(handle, name);
    CHECK(found != NULL);
    return found;
}

static struct library load(const char *name)
{
    char path[4096];
    struct library library;
    CHECK((size_t)snprintf(path, sizeof path, "%s/%s", getenv("FAULTIN_LIBRARIES"), name) < sizeof path);
    library.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library.handle == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    /* The only way to a function that ISO C has no pointer conversion for. */
    *(void **)&library.copy_in = symbol(library.handle, "faultin_copy_in");
    *(void **)&library.install = symbol(library.handle, "faultin_install");
    *(void **)&library.explain_install = symbol(library.handle, "faultin_explain_install");
    *(void **)&library.create = symbol(library.handle, "faultin_shared_create");
    *(void **)&library.close = symbol(library.handle, "faultin_map_close");
    return library;
}

/* Whether a file of this name is mapped. */
static int is_mapped(const char *name)
{
    char line[4096];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        found |= strstr(line, name) != NULL;
    }
    fclose(maps);
    return found;
}

static void uses(struct library library, const char *bad)
{
    char byte;
    struct faultin_map *map;
    CHECK(library.copy_in(&byte, bad, 1, NULL) == 0);
    CHECK(library.create(&map, "loaded", 4096, NULL) == 0 && library.close(map) == 0);
}

int main(int argc, char **argv)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *bad = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(argc == 2 && bad != MAP_FAILED);
    struct library first = load("libfaultin.so.0");
    uses(first, bad);
    if (strcmp(argv[1], "quiet") == 0) {
        CHECK(dlclose(first.handle) == 0 && !is_mapped("libfaultin.so.0"));
        first = load("libfaultin.so.0");
        uses(first, bad);
    } else if (strcmp(argv[1], "installed") == 0) {
        CHECK(first.install() == 0);
        uses(first, bad);
        CHECK(dlclose(first.handle) == 0 && is_mapped("libfaultin.so.0"));
        uses(first, bad);
    } else if (strcmp(argv[1], "explain") == 0) {
        CHECK(first.explain_install() == 0);
        CHECK(dlclose(first.handle) == 0 && is_mapped("libfaultin.so.0"));
        first = load("libfaultin.so.0");
        CHECK(first.install() == 0);
        uses(first, bad);
    } else {
        struct library second = load("libsecond.so");
        struct sigaction before, after;
        CHECK(first.handle != second.handle && first.install != second.install);
        uses(second, bad);
        CHECK(first.install() == 0 && sigaction(SIGSEGV, NULL, &before) == 0);
        uses(second, bad);
        /* One handler serves both. */
        CHECK(second.install() == 0 && sigaction(SIGSEGV, NULL, &after) == 0);
        CHECK(before.sa_sigaction == after.sa_sigaction);
        uses(first, bad);
        uses(second, bad);
        CHECK(dlclose(first.handle) == 0);
        uses(second, bad);
        CHECK(dlclose(second.handle) == 0);
        uses(first, bad);
    }
    return 0;
}
