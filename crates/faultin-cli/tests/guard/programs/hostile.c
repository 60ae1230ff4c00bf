/* Programs that make life hard for a guard. hostile WHAT ARGUMENTS */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE ((size_t)4 << 20)

/* A new file with nothing in it, mapped. */
static volatile unsigned char *sparse(const char *name, size_t size) {
    int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, (off_t)size)) perror(name), exit(3);
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) perror("mmap"), exit(4);
    return map;
}

static void fill(volatile unsigned char *map, size_t size) {
    for (size_t i = 0; i < size; i += 4096) map[i] = 1;
}

/* So long that a guard has seen a fault meanwhile, also on a slow machine. */
static void nap(void) {
    const char *patience = getenv("FAULTIN_PATIENCE");
    for (int i = patience ? atoi(patience) : 1; i > 0; i--) usleep(400000);
}

static void say(int signal, siginfo_t *info, void *context) {
    (void)context;
    printf("signal %d code %d address %p\n", signal, info->si_code, info->si_code > 0 ? info->si_addr : NULL);
    fflush(stdout);
    _exit(0);
}

/* Sends itself SIGBUS; forged ones have the code and the address of a fault. */
static int sends(int count, char **words) {
    if (count > 3 && !strcmp(words[3], "handler")) {
        struct sigaction action = {.sa_sigaction = say, .sa_flags = SA_SIGINFO};
        sigaction(SIGBUS, &action, NULL);
    }
    siginfo_t info = {.si_signo = SIGBUS, .si_code = 2};
    info.si_addr = (void *)&count;
    if (!strcmp(words[2], "kill")) kill(getpid(), SIGBUS);
    if (!strcmp(words[2], "tgkill")) syscall(SYS_tgkill, getpid(), getpid(), SIGBUS);
    if (!strcmp(words[2], "queue")) sigqueue(getpid(), SIGBUS, (union sigval){.sival_int = 5});
    if (!strcmp(words[2], "forged")) syscall(SYS_rt_sigqueueinfo, getpid(), SIGBUS, &info);
    if (!strcmp(words[2], "abort")) raise(SIGBUS);
    puts("it lives");
    return 0;
}

static void *execs(void *unused) {
    (void)unused;
    nap();
    execl("/bin/echo", "echo", "the other program", NULL);
    return NULL;
}

/* Makes a process that has itself traced, as a debugger does. */
static int debugs(void) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        int traced = ptrace(PTRACE_TRACEME, 0, 0, 0) == 0;
        printf("traceme: %s\n", traced ? "ok" : strerror(errno));
        fflush(stdout);
        _exit(!traced);
    }
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

/* Changes the user of all threads, for which each of them has to take a signal. */
static void *changes(void *word) {
    nap();
    int failed = setuid((uid_t)atoi(word));
    fprintf(stderr, "setuid: %s\n", failed ? strerror(errno) : "ok");
    return NULL;
}

static int forks(char **words) {
    int died = 0, count = atoi(words[3]);
    volatile unsigned char *map = sparse(words[2], SIZE);
    fill(map, 65536);
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child < 0) return 5;
        if (child == 0) {
            if (fork() == 0) _exit(0);
            fill(map, SIZE);
            _exit(0);
        }
    }
    int status;
    while (wait(&status) > 0) died += WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS;
    printf("%d died\n", died);
    return 0;
}

static int filters(char **words) {
    unsigned result = !strcmp(words[3], "errno") ? SECCOMP_RET_ERRNO | EPERM
                      : !strcmp(words[3], "trap") ? SECCOMP_RET_TRAP
                                                  : SECCOMP_RET_KILL_PROCESS;
    volatile unsigned char *map = sparse(words[2], SIZE);
    if (truncate(words[2], 0)) return 3;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, result),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    static char out[4096];
    setvbuf(stdout, out, _IOFBF, sizeof out);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 4;
    unsigned sum = 0;
    for (size_t i = 0; i < SIZE; i++) sum += map[i];
    printf("sum=%u\n", sum);
    return 0;
}

/* One thread loads from a truncated file, another puts memory of its own in the same place and looks whether it stays. */
static volatile unsigned char *place;
static volatile int over;
static __thread sigjmp_buf back;

static void jump(int signal) { (void)signal; siglongjmp(back, 1); }

static void *loads(void *unused) {
    volatile unsigned char sink;
    while (!over) {
        if (!sigsetjmp(back, 1)) for (size_t i = 0; i < 65536; i += 4096) sink = place[i];
    }
    (void)sink;
    return unused;
}

static int remaps(char **words) {
    int file = open(words[2], O_RDWR | O_CREAT | O_TRUNC, 0600), lost = 0;
    struct sigaction action = {.sa_handler = jump};
    sigaction(SIGSEGV, &action, NULL);
    place = mmap(NULL, 65536, PROT_READ, MAP_SHARED, file, 0);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, loads, NULL);
    for (int round = 0; round < atoi(words[3]); round++) {
        mmap((void *)place, 65536, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0);
        if (round % 16 == 0) usleep(4000);
        for (volatile int spin = 0; spin < round * 37 % 20000; spin++);
        mmap((void *)place, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        memset((void *)place, 0x5a, 65536);
        for (volatile int spin = 0; spin < 30000; spin++);
        for (size_t i = 0; i < 65536; i++) lost += place[i] != 0x5a;
    }
    over = 1;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    printf("lost=%d\n", lost);
    return 0;
}

/* Threads sum a file that the first one truncates, under a timer; each byte is what was written, or 0. */
static unsigned char *text;
static volatile int ticks;
static void tick(int signal) { (void)signal; ticks++; }

static void *sums(void *result) {
    size_t wrong = 0;
#ifdef __x86_64__
    long double x = 1; /* In the registers of the x87. */
#else
    double x = 1;
#endif
    for (size_t i = 0; i < SIZE; i++) {
        unsigned char byte = ((volatile unsigned char *)text)[i];
        x = x * 1.0000001 + byte / 97;
        wrong += byte != 'a' && byte != 0;
    }
    *(size_t *)result = wrong + (x < 0);
    return NULL;
}

static int truncates(char **words) {
    int file = open(words[2], O_RDWR | O_CREAT | O_TRUNC, 0600);
    text = malloc(SIZE);
    memset(text, 'a', SIZE);
    if (write(file, text, SIZE) != (ssize_t)SIZE) return 3;
    text = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, file, 0);
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    pthread_t threads[4];
    size_t wrong[4] = {0}, all = 0;
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, sums, &wrong[i]);
    usleep((unsigned)atoi(words[3]));
    if (ftruncate(file, 100000)) return 4;
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL), all += wrong[i];
    printf("wrong=%zu\n", all);
    return all != 0;
}

/* A new file that was mapped and is empty now: what is lost. */
static volatile unsigned char *lost(const char *name) {
    volatile unsigned char *map = sparse(name, SIZE);
    if (truncate(name, 0)) perror(name), exit(3);
    return map;
}

/* Threads load what is lost at the same moment, each elsewhere. */
static pthread_barrier_t gate;
static void *meets(void *number) {
    size_t all = 0;
    for (int round = 0; round < 100; round++) {
        pthread_barrier_wait(&gate);
        all += ((volatile unsigned char *)text)[(size_t)number * 65536];
        pthread_barrier_wait(&gate);
    }
    return (void *)all;
}

static int crowd(char **words) {
    pthread_t threads[4];
    size_t all = 0;
    pthread_barrier_init(&gate, NULL, 5);
    for (size_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, meets, (void *)i);
    for (int round = 0; round < 100; round++) {
        text = (unsigned char *)lost(words[2]);
        pthread_barrier_wait(&gate);
        pthread_barrier_wait(&gate);
        munmap(text, SIZE);
    }
    for (int i = 0; i < 4; i++) {
        void *sum;
        pthread_join(threads[i], &sum), all += (size_t)sum;
    }
    printf("sum=%zu\n", all);
    return 0;
}

/* What it does of SIGTRAP is the same after the zeros as before. */
static volatile int trapped;
static void trap(int signal) { (void)signal; trapped++; }

static int traps(char **words) {
    struct sigaction action = {.sa_handler = !strcmp(words[3], "ignore") ? SIG_IGN : trap};
    sigaction(SIGTRAP, &action, NULL);
    unsigned sum = lost(words[2])[4096];
    raise(SIGTRAP);
    printf("sum=%u trapped=%d\n", sum, trapped);
    return 0;
}

#ifdef __x86_64__
/* 32-bit code loads what is lost, or stores there. */
static int narrow(char **words) {
    unsigned char code[] = {0x8a, 0x03, 0x0f, 0x0b}; /* mov (%ebx), %al; ud2 */
    if (!strcmp(words[3], "store")) code[0] = 0x88;
    int file = open(words[2], O_RDWR | O_CREAT | O_TRUNC, 0600);
    char *map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_32BIT, file, 0);
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (map == MAP_FAILED || page == MAP_FAILED) return perror("mmap"), 4;
    memcpy(page, code, sizeof code);
    __asm__ volatile("movl $0x2b, %%eax\n movl %%eax, %%ds\n pushq $0x23\n pushq %1\n lretq"
                     : : "b"(map + 8192), "r"(page) : "rax", "memory");
    return 0;
}
#endif

#ifdef __aarch64__
/* A pointer with a tag in its highest byte. */
static int tagged(char **words) {
    int stores = !strcmp(words[3], "store");
    volatile unsigned char *map = stores ? sparse(words[2], SIZE) : lost(words[2]);
    map = (volatile unsigned char *)((uintptr_t)map | (uintptr_t)0x5a << 56);
    unsigned sum = 0;
    if (stores) fill(map, SIZE);
    for (size_t i = 0; i < SIZE; i += 4096) sum += map[i];
    printf("sum=%u\n", sum);
    return 0;
}

/* The target of an indirect branch is a load of what is lost. The code that the guard finds in the program may not be one. */
__asm__(".text\ntarget: ldrb w0, [x0]\n ret\n");
unsigned char target(volatile unsigned char *);

static int branches(char **words) {
    const int PROT_BTI_ = 0x10;
    void *vdso = (void *)getauxval(AT_SYSINFO_EHDR);
    if (getauxval(AT_HWCAP2) & 1 << 17 && mprotect(vdso, 4096, PROT_READ | PROT_EXEC | PROT_BTI_)) return perror("BTI"), 5;
    unsigned char (*volatile pointer)(volatile unsigned char *) = target;
    printf("byte=%u\n", pointer(lost(words[2]) + 4096));
    return 0;
}

/* Registers of SVE, of the usual mode or of the streaming one, hold what they held. */
#define VECTORS(BEGIN, END)                                                                                            \
    __asm__ volatile(".arch armv9-a+sve+sme\n" BEGIN                                                                   \
                     "\n ptrue p3.h\n mov z5.b, #7\n ldrb w9, [%2]\n ptrue p2.b\n"                                \
                     "cmpne p1.b, p2/z, z5.b, #7\n mov %0, #0\n incp %0, p1.b\n mov %1, #0\n incp %1, p3.b\n"     \
                     "dech %1\n" END                                                                                 \
                     : "=&r"(bytes), "=&r"(predicate) : "r"(map) : "memory", "cc", "x9",                               \
                     "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14",    \
                     "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", \
                     "v29", "v30", "v31")

static int vectors(char **words) {
    volatile unsigned char *map = lost(words[2]) + 4096;
    long bytes = -1, predicate = -1;
    int streams = !strcmp(words[3], "streaming");
    if (streams ? !(getauxval(AT_HWCAP2) & 1 << 23) : !(getauxval(AT_HWCAP) & 1 << 22)) return puts("none"), 0;
    if (streams) VECTORS("smstart sm", "smstop sm");
    else VECTORS("", "");
    printf("wrong bytes=%ld, bits=%ld\n", bytes, predicate);
    return 0;
}
#endif

int main(int count, char **words) {
    if (count < 3) return 2;
    const char *what = words[1];
    if (!strcmp(what, "sends")) return sends(count, words);
    if (!strcmp(what, "forks")) return forks(words);
    if (!strcmp(what, "filters")) return filters(words);
    if (!strcmp(what, "remaps")) return remaps(words);
    if (!strcmp(what, "truncates")) return truncates(words);
    if (!strcmp(what, "crowd")) return crowd(words);
    if (!strcmp(what, "traps")) return traps(words);
#ifdef __x86_64__
    if (!strcmp(what, "narrow")) return narrow(words);
#endif
#ifdef __aarch64__
    if (!strcmp(what, "tagged")) return tagged(words);
    if (!strcmp(what, "branches")) return branches(words);
    if (!strcmp(what, "vectors")) return vectors(words);
#endif
    if (!strcmp(what, "execs")) {
        pthread_t thread;
        volatile unsigned char *map = sparse(words[2], SIZE);
        pthread_create(&thread, NULL, execs, NULL);
        fill(map, SIZE);
        return 6;
    }
    if (!strcmp(what, "debugs")) return debugs();
    if (!strcmp(what, "changes")) {
        pthread_t thread;
        volatile unsigned char *map = sparse(words[2], SIZE);
        pthread_create(&thread, NULL, changes, words[3]);
        fill(map, SIZE);
        pthread_join(thread, NULL);
        puts("filled");
    }
    if (!strcmp(what, "traces")) {
        printf("traceme: %s\n", ptrace(PTRACE_TRACEME, 0, 0, 0) ? strerror(errno) : "ok");
        fflush(stdout);
        fill(sparse(words[2], SIZE), SIZE);
    }
    if (!strcmp(what, "closes")) {
        volatile unsigned char *map = sparse(words[2], SIZE);
        for (int i = 0; i < 1024; i++) close(i);
        fill(map, SIZE);
    }
    if (!strcmp(what, "hides")) {
        volatile unsigned char *map = sparse(words[2], SIZE);
        prctl(PR_SET_DUMPABLE, 0);
        fill(map, SIZE);
    }
    if (!strcmp(what, "daemon")) {
        volatile unsigned char *map = sparse(words[2], SIZE);
        if (fork() == 0) fill(map, SIZE), puts("never"), exit(0);
        nap();
        return 3;
    }
    if (!strcmp(what, "zeros")) {
        /* Loads what is lost, then stores there. */
        volatile unsigned char *map = sparse(words[2], SIZE);
        if (truncate(words[2], 0)) return 3;
        unsigned sum = map[4096];
        printf("sum=%u\n", sum);
        fflush(stdout);
        map[8192] = 1;
        puts("stored");
    }
    if (!strcmp(what, "short")) {
        /* Stores to a new file that never was as long as its mapping. */
        int file = open(words[2], O_RDWR | O_CREAT | O_TRUNC, 0600);
        volatile unsigned char *map = mmap(NULL, 32768, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (map == MAP_FAILED) return perror("mmap"), 4;
        map[0] = 1;
        puts("stored");
    }
    if (!strcmp(what, "code")) {
        /* Runs code of a file that is truncated. */
        int file = open(words[2], O_RDWR | O_CREAT | O_TRUNC, 0700);
        if (ftruncate(file, 8192)) return 3;
        void *map = mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
        if (map == MAP_FAILED || ftruncate(file, 0)) return perror("mmap"), 4;
        ((void (*)(void))(void *)((char *)map + 4096))();
    }
    return 0;
}
