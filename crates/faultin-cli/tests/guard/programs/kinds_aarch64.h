/* The instructions of aarch64. %0 is the page that is gone, %1 memory that is there. */
#include <sys/auxv.h>

/* The syndrome of the fault, which the kernel puts among the records of the frame. */
static unsigned long syndrome(ucontext_t *c) {
    unsigned char *record = (unsigned char *)c->uc_mcontext.__reserved;
    for (;;) {
        uint32_t head[2];
        memcpy(head, record, sizeof head);
        if (head[0] == 0 || head[1] == 0) return 0;
        if (head[0] == 0x45535201) {
            uint64_t value;
            memcpy(&value, record + 8, sizeof value);
            return value;
        }
        record += head[1];
    }
}

#define ERROR(C) syndrome(C)
/* The class of the exception. */
#define TRAP(C) (syndrome(C) >> 26)

#define ASM(NAME, TEXT) KIND(NAME, __asm__ volatile(".arch armv8.5-a+sve+memtag\n" TEXT : : "r"(p), "r"(other) : "memory", "cc", "x9", "x10", "x11", "x12", "x13", "x14", "v0", "v1", "v2", "v3"))
ASM(load1, "ldrb w9, [%0]")
ASM(load8, "ldr x9, [%0]")
ASM(load_offset, "ldr w9, [%0, #64]")
ASM(load_unscaled, "ldurh w9, [%0, #3]")
ASM(load_across, "ldur x9, [%0, #-4]")
ASM(load_register, "mov x10, #1\n ldr x9, [%0, x10, lsl #3]")
ASM(load_before, "mov x10, %0\n ldr x9, [x10, #8]!")
ASM(load_after, "mov x10, %0\n ldr x9, [x10], #8")
ASM(load_signed, "ldrsw x9, [%0]")
ASM(load_signed1, "ldrsb w9, [%0]")
ASM(load_unprivileged, "ldtr x9, [%0]")
ASM(load_pair, "ldp x9, x10, [%0]")
ASM(load_pair_signed, "ldpsw x9, x10, [%0, #8]")
ASM(load_pair_across, "ldp x9, x10, [%0, #-8]")
ASM(load_pair_nt, "ldnp x9, x10, [%0]")
ASM(load_acquire, "ldar x9, [%0]")
ASM(load_exclusive, "ldxr x9, [%0]")
ASM(load_exclusive_acquire, "ldaxrb w9, [%0]")
ASM(load_exclusive_pair, "ldxp x9, x10, [%0]")
ASM(load_simd, "ldr q0, [%0]")
ASM(load_simd1, "ldr b0, [%0, #5]")
ASM(load_simd_unscaled, "ldur d0, [%0, #1]")
ASM(load_simd_pair, "ldp q0, q1, [%0]")
ASM(load_structures, "ld1 {v0.16b}, [%0]")
ASM(load_structures2, "ld2 {v0.4s, v1.4s}, [%0]")
ASM(load_structures4, "mov x10, %0\n ld4 {v0.8b, v1.8b, v2.8b, v3.8b}, [x10], #32")
ASM(load_lane, "ld1 {v0.s}[1], [%0]")
ASM(load_replicated, "ld1r {v0.2d}, [%0]")
ASM(store1, "strb w9, [%0]")
ASM(store8, "str x9, [%0, #8]")
ASM(store_zero, "str xzr, [%0]")
ASM(store_unscaled, "sturh w9, [%0, #3]")
ASM(store_across, "stur x9, [%0, #-4]")
ASM(store_register, "mov x10, #1\n str x9, [%0, x10, lsl #3]")
ASM(store_before, "mov x10, %0\n str x9, [x10, #8]!")
ASM(store_after, "mov x10, %0\n str w9, [x10], #8")
ASM(store_unprivileged, "sttr x9, [%0]")
ASM(store_pair, "stp x9, x10, [%0]")
ASM(store_pair_nt, "stnp x9, x10, [%0]")
ASM(store_release, "stlr x9, [%0]")
ASM(store_simd, "str q0, [%0]")
ASM(store_simd1, "str b0, [%0, #5]")
ASM(store_simd_pair, "stp q0, q1, [%0]")
ASM(store_structures, "st1 {v0.16b}, [%0]")
ASM(store_structures3, "st3 {v0.4s, v1.4s, v2.4s}, [%0]")
ASM(store_lane, "mov x10, %0\n st1 {v0.d}[1], [x10], #8")
ASM(store_zeros, "dc zva, %0")
ASM(both_ldadd, "ldadd x9, x10, [%0]")
ASM(both_ldclral, "ldclralb w9, w10, [%0]")
ASM(both_stset, "stset w9, [%0]")
ASM(both_ldsmax, "ldsmaxh w9, w10, [%0]")
ASM(both_ldumin, "ldumina x9, x10, [%0]")
ASM(both_swp, "swpal x9, x10, [%0]")
ASM(both_cas, "cas x9, x10, [%0]")
ASM(both_casal, "casalb w9, w10, [%0]")
ASM(both_casp, "casp x10, x11, x12, x13, [%0]")
ASM(load_rcpc, "ldapr x9, [%0]")
ASM(load_rcpc_unscaled, "ldapursw x9, [%0, #4]")
ASM(store_rcpc_unscaled, "stlur x9, [%0, #8]")
ASM(load_authenticated, "mov x10, %0\n pacdza x10\n ldraa x9, [x10]")
ASM(load_authenticated_before, "mov x10, %0\n pacdzb x10\n ldrab x9, [x10, #8]!")
ASM(sve_load, "ptrue p0.b\n ld1b {z0.b}, p0/z, [%0]")
ASM(sve_load_signed, "ptrue p0.b\n ld1sh {z0.d}, p0/z, [%0]")
ASM(sve_load_nt, "ptrue p0.b\n ldnt1w {z0.s}, p0/z, [%0]")
ASM(sve_load_first, "ptrue p0.b\n ldff1b {z0.b}, p0/z, [%0, xzr]")
ASM(sve_load_replicated, "ptrue p0.b\n ld1rw {z0.s}, p0/z, [%0]")
ASM(sve_load_quadword, "ptrue p0.b\n ld1rqb {z0.b}, p0/z, [%0]")
ASM(sve_load_structures, "ptrue p0.b\n ld3w {z0.s, z1.s, z2.s}, p0/z, [%0]")
ASM(sve_load_register, "ldr z0, [%0]")
ASM(sve_load_predicate, "ldr p1, [%0]")
ASM(sve_gather, "ptrue p0.b\n dup z1.s, #8\n ld1w {z0.s}, p0/z, [%0, z1.s, uxtw]")
ASM(sve_gather_vector, "ptrue p0.b\n dup z1.d, %0\n ld1d {z0.d}, p0/z, [z1.d]")
ASM(sve_store, "ptrue p0.b\n st1b {z0.b}, p0, [%0]")
ASM(sve_store_nt, "ptrue p0.b\n stnt1d {z0.d}, p0, [%0]")
ASM(sve_store_structures, "ptrue p0.b\n st2b {z0.b, z1.b}, p0, [%0]")
ASM(sve_store_register, "str z0, [%0]")
ASM(sve_store_predicate, "str p1, [%0]")
ASM(sve_scatter, "ptrue p0.b\n dup z1.s, #8\n st1w {z0.s}, p0, [%0, z1.s, uxtw]")
ASM(sve_scatter_vector, "ptrue p0.b\n dup z1.d, %0\n st1d {z0.d}, p0, [z1.d]")

#define NEEDS(BIT, NAME) {#NAME, NAME, BIT},
#define ALWAYS(NAME) NEEDS(0, NAME)
/* Bits of AT_HWCAP: atomic operations, LDAPR, SVE, LDAPUR, pointer authentication. */
#define LSE(NAME) NEEDS(1 << 8, NAME)
#define SVE(NAME) NEEDS(1 << 22, NAME)
static const struct { const char *name; void (*run)(char *); unsigned needs; } kinds[] = {
    ALWAYS(load1) ALWAYS(load8) ALWAYS(load_offset) ALWAYS(load_unscaled) ALWAYS(load_across) ALWAYS(load_register)
    ALWAYS(load_before) ALWAYS(load_after) ALWAYS(load_signed) ALWAYS(load_signed1) ALWAYS(load_unprivileged)
    ALWAYS(load_pair) ALWAYS(load_pair_signed) ALWAYS(load_pair_across) ALWAYS(load_pair_nt) ALWAYS(load_acquire)
    ALWAYS(load_exclusive) ALWAYS(load_exclusive_acquire) ALWAYS(load_exclusive_pair) ALWAYS(load_simd)
    ALWAYS(load_simd1) ALWAYS(load_simd_unscaled) ALWAYS(load_simd_pair) ALWAYS(load_structures)
    ALWAYS(load_structures2) ALWAYS(load_structures4) ALWAYS(load_lane) ALWAYS(load_replicated)
    ALWAYS(store1) ALWAYS(store8) ALWAYS(store_zero) ALWAYS(store_unscaled) ALWAYS(store_across) ALWAYS(store_register)
    ALWAYS(store_before) ALWAYS(store_after) ALWAYS(store_unprivileged) ALWAYS(store_pair) ALWAYS(store_pair_nt)
    ALWAYS(store_release) ALWAYS(store_simd) ALWAYS(store_simd1) ALWAYS(store_simd_pair) ALWAYS(store_structures)
    ALWAYS(store_structures3) ALWAYS(store_lane) ALWAYS(store_zeros)
    LSE(both_ldadd) LSE(both_ldclral) LSE(both_stset) LSE(both_ldsmax) LSE(both_ldumin) LSE(both_swp) LSE(both_cas)
    LSE(both_casal) LSE(both_casp)
    NEEDS(1 << 15, load_rcpc) NEEDS(1 << 26, load_rcpc_unscaled) NEEDS(1 << 26, store_rcpc_unscaled)
    NEEDS(1u << 30, load_authenticated) NEEDS(1u << 30, load_authenticated_before)
    SVE(sve_load) SVE(sve_load_signed) SVE(sve_load_nt) SVE(sve_load_first) SVE(sve_load_replicated)
    SVE(sve_load_quadword) SVE(sve_load_structures) SVE(sve_load_register) SVE(sve_load_predicate) SVE(sve_gather)
    SVE(sve_gather_vector) SVE(sve_store) SVE(sve_store_nt) SVE(sve_store_structures) SVE(sve_store_register)
    SVE(sve_store_predicate) SVE(sve_scatter) SVE(sve_scatter_vector)
};

static int has(unsigned needs) { return (getauxval(AT_HWCAP) & needs) == needs; }
