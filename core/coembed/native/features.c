/* Which of this library's kernels the machine can run. */
#define _GNU_SOURCE
#include "native.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux gives a process the eight kilobytes of tile state only when asked (Documentation/arch/x86/xstate.rst). */
static int tiles_allowed(void) {
    enum { REQUEST = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

/* Bit 0: AVX-512 with products of bytes; bit 1: matrix tiles of bytes and bfloat16. */
EXPORT int ce_features(void) {
    unsigned a, b, c, d;
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx512vnni") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return 0;
    int tiles = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) && (d >> 24 & 1) && (d >> 25 & 1);
    return 1 | (tiles && tiles_allowed() ? 2 : 0);
}
