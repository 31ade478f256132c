// The fp32 multiply-add ceiling of one core, measured: independent FMA chains in inline assembly, so that no compiler
// can spill or reorder them. 0 where the instruction set is not there.
#pragma once
#include <chrono>

namespace macl::bench {

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

#if defined(__x86_64__)
#define MACL_CHAIN(op, reg, i) op " %%" reg "14, %%" reg "15, %%" reg #i "\n\t"
#define MACL_CHAINS12(op, reg)                                                                                     \
  MACL_CHAIN(op, reg, 0) MACL_CHAIN(op, reg, 1) MACL_CHAIN(op, reg, 2) MACL_CHAIN(op, reg, 3) MACL_CHAIN(op, reg, 4) \
  MACL_CHAIN(op, reg, 5) MACL_CHAIN(op, reg, 6) MACL_CHAIN(op, reg, 7) MACL_CHAIN(op, reg, 8) MACL_CHAIN(op, reg, 9) \
  MACL_CHAIN(op, reg, 10) MACL_CHAIN(op, reg, 11)
#define MACL_ZERO(reg, i) "vpxor %%xmm" #i ", %%xmm" #i ", %%xmm" #i "\n\t"
#define MACL_ZEROS                                                                                            \
  MACL_ZERO(x, 0) MACL_ZERO(x, 1) MACL_ZERO(x, 2) MACL_ZERO(x, 3) MACL_ZERO(x, 4) MACL_ZERO(x, 5) MACL_ZERO(x, 6) \
  MACL_ZERO(x, 7) MACL_ZERO(x, 8) MACL_ZERO(x, 9) MACL_ZERO(x, 10) MACL_ZERO(x, 11) MACL_ZERO(x, 14) MACL_ZERO(x, 15)
#define MACL_CEILING(name, reg, lanes)                                                                           \
  __attribute__((noinline)) inline double name() {                                                               \
    double best = 0;                                                                                             \
    for (int round = 0; round < 5; ++round) {                                                                    \
      long n = 400000;                                                                                           \
      const double t = seconds();                                                                                \
      asm volatile(MACL_ZEROS "1:\n\t" MACL_CHAINS12("vfmadd231ps", reg) MACL_CHAINS12("vfmadd231ps", reg)       \
                   "dec %0\n\tjnz 1b\n\tvzeroupper"                                                              \
                   : "+r"(n)                                                                                     \
                   :                                                                                             \
                   : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",    \
                     "xmm11", "xmm14", "xmm15", "cc");                                                           \
      const double rate = 400000. * 24 * lanes * 2 / (seconds() - t) * 1e-9;                                     \
      best = rate > best ? rate : best;                                                                          \
    }                                                                                                            \
    return best;                                                                                                 \
  }
MACL_CEILING(ceiling_zmm, "zmm", 16)
MACL_CEILING(ceiling_ymm, "ymm", 8)
MACL_CEILING(ceiling_xmm, "xmm", 4)

// GFLOP/s of one core with vectors of `bits`.
inline double ceiling(int bits) {
  if (!__builtin_cpu_supports("fma")) return 0;
  if (bits == 512) return __builtin_cpu_supports("avx512f") ? ceiling_zmm() : 0;
  return bits == 256 ? ceiling_ymm() : ceiling_xmm();
}
#else
inline double ceiling(int) { return 0; }
#endif

}  // namespace macl::bench
