/* One instruction of each kind at a page that is gone. The handler prints what the CPU says the access was. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <immintrin.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile long error, trap, address;

static void handler(int signal, siginfo_t *info, void *context) {
    (void)signal;
    ucontext_t *c = context;
    error = c->uc_mcontext.gregs[REG_ERR];
    trap = c->uc_mcontext.gregs[REG_TRAPNO];
    address = (long)info->si_addr;
    siglongjmp(back, 1);
}

static char other[65536] __attribute__((aligned(64)));

#define KIND(NAME, ...)                                                                                        \
    static void NAME(char *p) { (void)p; __VA_ARGS__; }
#define ASM(NAME, TEXT) KIND(NAME, __asm__ volatile(TEXT : : "r"(p), "r"(other) : "memory", "cc", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "xmm0", "xmm1"))
/* %0 is the page that is gone, %1 memory that is there. */
ASM(load1, "movb (%0), %%al")
ASM(load8, "movq (%0), %%rax")
ASM(load_scaled, "movq $8, %%rcx\n movq -64(%0,%%rcx,8), %%rax")
ASM(load_extended, "movzbl 3(%0), %%eax")
ASM(load_sse, "movaps (%0), %%xmm0")
ASM(load_compare, "pcmpeqb (%0), %%xmm0")
ASM(load_across, "movq -4(%0), %%rax")
ASM(load_cmov, "cmpq %%rax, %%rax\n cmovneq (%0), %%rax")
ASM(load_test, "testb $1, (%0)")
ASM(load_cmp, "cmpq %%rax, (%0)")
ASM(load_bt, "movl $9, %%eax\n btl %%eax, (%0)")
ASM(load_x87, "fldt (%0)")
ASM(load_fxrstor, "fxrstor (%0)")
ASM(load_xlat, "movq %0, %%rbx\n movb $5, %%al\n xlatb")
ASM(load_movbe, "movbe (%0), %%rax")
ASM(store1, "movb %%al, (%0)")
ASM(store8, "movq %%rax, 8(%0)")
ASM(store_immediate, "movl $7, 64(%0)")
ASM(store_sse, "movups %%xmm0, 1(%0)")
ASM(store_across, "movq %%rax, -4(%0)")
ASM(store_nt, "movnti %%rax, (%0)")
ASM(store_sete, "sete (%0)")
ASM(store_x87, "fnstcw (%0)")
ASM(store_fxsave, "fxsave (%0)")
ASM(store_fnstenv, "fnstenv (%0)\n fldenv (%1)")
ASM(store_movbe, "movbe %%rax, (%0)")
ASM(store_maskmov, "pcmpeqb %%xmm1, %%xmm1\n movq %0, %%rdi\n maskmovdqu %%xmm1, %%xmm0")
ASM(both_add, "addq %%rax, (%0)")
ASM(both_inc, "incb (%0)")
ASM(both_lock, "lock addl $1, (%0)")
ASM(both_xchg, "xchgq %%rax, (%0)")
ASM(both_xadd, "lock xaddq %%rax, (%0)")
ASM(both_cmpxchg, "lock cmpxchgq %%rcx, (%0)")
ASM(both_cmpxchg16b, "lock cmpxchg16b (%0)")
ASM(both_not, "notq (%0)")
ASM(both_bts, "movl $3, %%eax\n lock btsl %%eax, (%0)")
ASM(string_lods, "movq %0, %%rsi\n lodsq")
ASM(string_stos, "movq %0, %%rdi\n stosq")
ASM(string_movs_from, "movq %0, %%rsi\n movq %1, %%rdi\n movsq")
ASM(string_movs_to, "movq %1, %%rsi\n movq %0, %%rdi\n movsq")
ASM(rep_movs_from, "leaq -100(%0), %%rsi\n movq %1, %%rdi\n movq $5000, %%rcx\n rep movsb")
ASM(rep_movs_to, "movq %1, %%rsi\n leaq -100(%0), %%rdi\n movq $5000, %%rcx\n rep movsb")
ASM(rep_movsq_to, "movq %1, %%rsi\n leaq -64(%0), %%rdi\n movq $500, %%rcx\n rep movsq")
ASM(rep_stos, "leaq -100(%0), %%rdi\n movq $5000, %%rcx\n rep stosb")
ASM(rep_stosq, "leaq -60(%0), %%rdi\n movq $500, %%rcx\n rep stosq")
ASM(rep_cmps, "movq %1, %%rsi\n movq %0, %%rdi\n movq $5000, %%rcx\n cmpb %%al, %%al\n repe cmpsb")
ASM(rep_cmps_other, "movq %0, %%rsi\n movq %1, %%rdi\n movq $5000, %%rcx\n cmpb %%al, %%al\n repe cmpsb")
ASM(rep_scas, "movq %0, %%rdi\n movq $5000, %%rcx\n movb $1, %%al\n cmpb $2, %%al\n repne scasb")
ASM(rep_back_from, "leaq 4095(%0), %%rsi\n leaq 5000(%1), %%rdi\n movq $4000, %%rcx\n std\n rep movsb\n cld")
ASM(rep_back_to, "leaq 5000(%1), %%rsi\n leaq 4095(%0), %%rdi\n movq $4000, %%rcx\n std\n rep movsb\n cld")
ASM(stack_push, "movq %%rsp, %%rbx\n leaq 64(%0), %%rsp\n pushq %%rax\n movq %%rbx, %%rsp")
ASM(stack_pushf, "movq %%rsp, %%rbx\n leaq 64(%0), %%rsp\n pushfq\n movq %%rbx, %%rsp")
ASM(stack_pop, "movq %%rsp, %%rbx\n leaq 64(%0), %%rsp\n popq %%rax\n movq %%rbx, %%rsp")
ASM(stack_push_memory, "movq %%rsp, %%rbx\n pushq (%0)\n movq %%rbx, %%rsp")
ASM(stack_call, "movq %%rsp, %%rbx\n leaq 64(%0), %%rsp\n call 1f\n 1: movq %%rbx, %%rsp")
ASM(stack_ret, "movq %%rsp, %%rbx\n leaq 64(%0), %%rsp\n ret\n movq %%rbx, %%rsp")
ASM(jump_through, "jmpq *(%0)")
ASM(store_xsave, "movl $7, %%eax\n xorl %%edx, %%edx\n xsave (%0)")
ASM(load_xrstor, "movl $7, %%eax\n xorl %%edx, %%edx\n xrstor (%0)")
ASM(load_gs, "movq %%rax, %%rax\n movq %%fs:0, %%rcx\n movq %0, %%rax\n subq %%rcx, %%rax\n movq %%fs:(%%rax), %%rcx")
__attribute__((target("avx2"))) KIND(avx_load, *(volatile __m256i *)other = _mm256_loadu_si256((__m256i *)p))
__attribute__((target("avx2"))) KIND(avx_store, _mm256_storeu_si256((__m256i *)p, _mm256_set1_epi8(1)))
__attribute__((target("avx2"))) KIND(avx_mask_load, *(volatile __m256i *)other = _mm256_maskload_epi32((int *)p, _mm256_set1_epi32(-1)))
__attribute__((target("avx2"))) KIND(avx_mask_store, _mm256_maskstore_epi32((int *)p, _mm256_set1_epi32(-1), _mm256_set1_epi32(1)))
__attribute__((target("avx2"))) KIND(avx_gather, *(volatile __m256i *)other = _mm256_i32gather_epi32((int *)p, _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8), 4))
__attribute__((target("avx512f"))) KIND(avx512_scatter, _mm512_i32scatter_epi32((int *)p, _mm512_set1_epi32(2), _mm512_set1_epi32(1), 4))
__attribute__((target("avx512f"))) KIND(avx512_mask_store, _mm512_mask_storeu_epi32((int *)p - 8, 0xff00, _mm512_set1_epi32(1)))
__attribute__((target("avx512f"))) KIND(avx512_mask_load, *(volatile __m512i *)other = _mm512_maskz_loadu_epi32(0xff00, (int *)p - 8))

#define ALWAYS(NAME) {#NAME, NAME, 0},
static const struct { const char *name; void (*run)(char *); int needs; } kinds[] = {
    ALWAYS(load1) ALWAYS(load8) ALWAYS(load_scaled) ALWAYS(load_extended) ALWAYS(load_sse) ALWAYS(load_compare)
    ALWAYS(load_across) ALWAYS(load_cmov) ALWAYS(load_test) ALWAYS(load_cmp) ALWAYS(load_bt) ALWAYS(load_x87)
    ALWAYS(load_fxrstor) ALWAYS(load_xlat) ALWAYS(store1) ALWAYS(store8) ALWAYS(store_immediate)
    ALWAYS(store_sse) ALWAYS(store_across) ALWAYS(store_nt) ALWAYS(store_sete) ALWAYS(store_x87) ALWAYS(store_fxsave)
    ALWAYS(store_fnstenv) ALWAYS(store_maskmov) ALWAYS(both_add) ALWAYS(both_inc) ALWAYS(both_lock)
    ALWAYS(both_xchg) ALWAYS(both_xadd) ALWAYS(both_cmpxchg) ALWAYS(both_cmpxchg16b) ALWAYS(both_not) ALWAYS(both_bts)
    ALWAYS(string_lods) ALWAYS(string_stos) ALWAYS(string_movs_from) ALWAYS(string_movs_to) ALWAYS(rep_movs_from)
    ALWAYS(rep_movs_to) ALWAYS(rep_movsq_to) ALWAYS(rep_stos) ALWAYS(rep_stosq) ALWAYS(rep_cmps) ALWAYS(rep_cmps_other)
    ALWAYS(rep_scas) ALWAYS(rep_back_from) ALWAYS(rep_back_to) ALWAYS(stack_push) ALWAYS(stack_pushf) ALWAYS(stack_pop)
    ALWAYS(stack_push_memory) ALWAYS(stack_call) ALWAYS(stack_ret) ALWAYS(jump_through) ALWAYS(store_xsave)
    ALWAYS(load_xrstor) ALWAYS(load_gs)
    {"load_movbe", load_movbe, 1}, {"store_movbe", store_movbe, 1}, {"avx_load", avx_load, 1}, {"avx_store", avx_store, 1}, {"avx_mask_load", avx_mask_load, 1},
    {"avx_mask_store", avx_mask_store, 1}, {"avx_gather", avx_gather, 1}, {"avx512_scatter", avx512_scatter, 2},
    {"avx512_mask_store", avx512_mask_store, 2}, {"avx512_mask_load", avx512_mask_load, 2},
};

int main(int count, char **words) {
    if (count < 2) return 2;
    int file = open(words[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, 4096)) return 3;
    static char stack[65536];
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaction(SIGBUS, &action, NULL);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (kinds[i].needs == 1 && !__builtin_cpu_supports("avx2")) continue;
        if (kinds[i].needs == 2 && !__builtin_cpu_supports("avx512f")) continue;
        /* One page that is there, and one that is not; a place of its own for each. */
        char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (map == MAP_FAILED) return 4;
        error = trap = -1;
        if (!sigsetjmp(back, 1)) kinds[i].run(map + 4096);
        printf("%s %ld %ld %#lx\n", kinds[i].name, error, trap, address);
    }
    return 0;
}
