/*
 * A program that owns the handler of SIGSEGV and SIGBUS, with three runtimes in the same process: Rust (a plugin that has the
 * crate faultin in it), Go (cgo) and a JVM. Each recovers its own faults, and faultin recovers its own in the threads of
 * all of them, whatever the order in which they are installed:
 *
 *     cargo rustc --release -p faultin-c --example rust --crate-type cdylib --target-dir build     (in the repository)
 *     cp build/release/examples/librust.so .
 *     GO111MODULE=off go build -buildmode=c-shared -o libgo.so faults.go
 *     javac -d . Faults.java
 *     cc host.c $(pkg-config --cflags --libs faultin) -I$JAVA_HOME/include -I$JAVA_HOME/include/linux -lpthread -ldl -o host
 *     LIBJVM=$JAVA_HOME/lib/server/libjvm.so ./host ORDER FOLDER
 *
 * ORDER is a letter each: h the host's handler, r Rust, g Go, j the JVM. FOLDER has librust.so, libgo.so and Faults.class; only
 * what ORDER names is needed.
 *
 * With -DNAIVE the handler does not call faultin_try_handle(): the first fault of faultin kills the program.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <faultin.h>
#include <jni.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct sigaction before_segv, before_bus;
static const char *folder;
static void *missing; /* A page that its file no longer has. */
static int has_handler, has_failed;

/* Ours: faultin first, then the handler that was there before. */
static void handler(int signo, siginfo_t *info, void *context)
{
    const struct sigaction *before = signo == SIGSEGV ? &before_segv : &before_bus;
#ifndef NAIVE
    if (faultin_try_handle(signo, info, context)) {
        return;
    }
#endif
    if ((before->sa_flags & SA_SIGINFO) != 0) {
        before->sa_sigaction(signo, info, context);
    } else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
        before->sa_handler(signo);
    } else {
        signal(signo, SIG_DFL); /* The access is repeated, and kills. */
    }
}

static void install_handler(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    /* Handlers of other signals do not run on top of this one, on the same alternate stack. */
    sigfillset(&action.sa_mask);
    sigdelset(&action.sa_mask, SIGSEGV);
    sigdelset(&action.sa_mask, SIGBUS);
    if (faultin_host_owns_handler() != 0 || sigaction(SIGSEGV, &action, &before_segv) != 0
        || sigaction(SIGBUS, &action, &before_bus) != 0) {
        exit(EXIT_FAILURE);
    }
    has_handler = 1;
}

/*
 * Goroutines have small stacks, so Go needs SA_ONSTACK for every handler. The JVM installs its handlers without it; Go adds
 * the flag to those that it finds, and the host to those that come later.
 */
static void run_on_alternate_stacks(int signo)
{
    struct sigaction action;
    if (sigaction(signo, NULL, &action) == 0 && action.sa_handler != SIG_DFL && (action.sa_flags & SA_ONSTACK) == 0) {
        action.sa_flags |= SA_ONSTACK;
        sigaction(signo, &action, NULL);
    }
}

static void check(const char *what, int holds)
{
    printf("  %s: %s\n", what, holds ? "recovered" : "LOST");
    has_failed |= !holds;
}

/* ---- faultin's own, called by C ---- */

static void *copies(void *result)
{
    char byte;
    struct faultin_fault fault;
    *(int *)result = faultin_copy_in(&byte, missing, 1, &fault) == 0 && fault.cause == FAULTIN_CAUSE_BACKING;
    return NULL;
}

static void check_host(void)
{
    int here = 0, there = 0;
    pthread_t thread;
    copies(&here);
    check("faultin, called by C", here);
    if (pthread_create(&thread, NULL, copies, &there) == 0) {
        pthread_join(thread, NULL);
    }
    check("faultin, called by C in another thread", there);
}

/* ---- Rust and Go: shared libraries ---- */

typedef int recovers(void *);

static recovers *load(const char *library, const char *function)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, library);
    void *loaded = dlopen(path, RTLD_NOW | RTLD_LOCAL), *symbol = loaded != NULL ? dlsym(loaded, function) : NULL;
    recovers *found = NULL;
    if (symbol == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(EXIT_FAILURE);
    }
    memcpy(&found, &symbol, sizeof found);
    return found;
}

static recovers *rust, *go, *go_copies;

/* ---- The JVM ---- */

static JNIEnv *java;
static jclass faults;

static jlong JNICALL copy(JNIEnv *env, jclass class, jlong address)
{
    char byte;
    (void)env, (void)class;
    return (jlong)faultin_copy_in(&byte, (const void *)(uintptr_t)address, 1, NULL);
}

static void install_jvm(void)
{
    char path[4096];
    JavaVM *jvm;
    JavaVMOption options[] = {{.optionString = path}, {.optionString = "-Xmx64m"}, {.optionString = "-XX:+UseSerialGC"}};
    JavaVMInitArgs arguments = {.version = JNI_VERSION_1_8, .nOptions = 3, .options = options};
    JNINativeMethod method = {"copy", "(J)J", NULL};
    jlong JNICALL (*const function)(JNIEnv *, jclass, jlong) = copy;
    jint (*create)(JavaVM **, void **, void *) = NULL;
    void *env, *loaded = dlopen(getenv("LIBJVM"), RTLD_NOW | RTLD_GLOBAL);
    void *symbol = loaded != NULL ? dlsym(loaded, "JNI_CreateJavaVM") : NULL;
    if (symbol == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(EXIT_FAILURE);
    }
    memcpy(&create, &symbol, sizeof create);
    memcpy(&method.fnPtr, &function, sizeof function);
    snprintf(path, sizeof path, "-Djava.class.path=%s", folder);
    if (create(&jvm, &env, &arguments) != JNI_OK) {
        exit(EXIT_FAILURE);
    }
    java = env;
    faults = (*java)->FindClass(java, "Faults");
    if (faults == NULL || (*java)->RegisterNatives(java, faults, &method, 1) != 0) {
        exit(EXIT_FAILURE);
    }
}

static void check_jvm(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/java-%ld", folder, (long)getpid());
    jmethodID recovers = (*java)->GetStaticMethodID(java, faults, "recovers", "(Ljava/lang/String;)Z");
    jmethodID copies = (*java)->GetStaticMethodID(java, faults, "copies", "(J)Z");
    jstring argument = (*java)->NewStringUTF(java, path);
    check("Java", (*java)->CallStaticBooleanMethod(java, faults, recovers, argument));
    check("faultin, called by Java", (*java)->CallStaticBooleanMethod(java, faults, copies, (jlong)(uintptr_t)missing));
    unlink(path);
}

static void check_all(void)
{
    if (has_handler) {
        check_host();
    }
    if (rust != NULL) {
        check("Rust", rust(missing));
    }
    if (go != NULL) {
        check("Go", go(missing));
        check("faultin, called by Go", go_copies(missing));
    }
    if (java != NULL) {
        check_jvm();
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int fd = memfd_create("missing", MFD_CLOEXEC);
    missing = fd >= 0 ? mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED; /* (It is empty.) */
    if (argc != 3 || missing == MAP_FAILED) {
        return 2;
    }
    folder = argv[2];
    for (const char *letter = argv[1]; *letter != '\0'; letter++) {
        printf("%c is installed\n", *letter);
        fflush(stdout);
        switch (*letter) {
        case 'h': install_handler(); break;
        case 'r': rust = load("librust.so", "rust_recovers"); break;
        case 'g': go = load("libgo.so", "go_recovers"), go_copies = load("libgo.so", "go_copies"); break;
        case 'j': install_jvm(); break;
        default: return 2;
        }
        run_on_alternate_stacks(SIGSEGV);
        run_on_alternate_stacks(SIGBUS);
        check_all();
    }
    return has_failed;
}
