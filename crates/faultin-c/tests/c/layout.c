/* The layout that programs were compiled with. It is C99 and C++, and a change here is a change of the ABI. */
#include <faultin.h>

#define HAS_SIZE(type, size) typedef char size_of_##type[sizeof(struct type) == (size) ? 1 : -1]
#define IS_AT(type, member, offset) \
    typedef char offset_of_##type##_##member[offsetof(struct type, member) == (offset) ? 1 : -1]

HAS_SIZE(faultin_fault, 112);
IS_AT(faultin_fault, error, 8);
IS_AT(faultin_fault, address, 24);
IS_AT(faultin_fault, done, 40);
IS_AT(faultin_fault, reserved, 72);
HAS_SIZE(faultin_status, 128);
IS_AT(faultin_status, segv_above, 32);
IS_AT(faultin_status, reserved, 88);
HAS_SIZE(faultin_map_options, 64);
IS_AT(faultin_map_options, offset, 16);
HAS_SIZE(faultin_range, 16);
HAS_SIZE(faultin_damage, 288);
IS_AT(faultin_damage, first_bad, 112);
IS_AT(faultin_damage, range, 128);
#if UINTPTR_MAX == UINT64_MAX
HAS_SIZE(faultin_guard, 344);
IS_AT(faultin_guard, len, 8);
IS_AT(faultin_guard, state, 24);
HAS_SIZE(faultin_test_file, 64);
IS_AT(faultin_test_file, fails_at, 24);
#endif

int main(void)
{
    struct faultin_fault fault;
    char byte = 1, copy = 0;
    return faultin_copy_in(&copy, &byte, 1, &fault) == 1 && copy == 1 ? 0 : 1;
}
