#include "tables.h"

#include <cstdlib>
#include <cstring>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

extern "C" {
#if defined(__x86_64__) || defined(_M_X64)
extern const macl::KernelTable macl_kernels_amx;
extern const macl::KernelTable macl_kernels_avx512bf16;
extern const macl::KernelTable macl_kernels_avx512;
extern const macl::KernelTable macl_kernels_avx2;
#endif
extern const macl::KernelTable macl_kernels_baseline;
extern const macl::KernelTable macl_kernels_plain;
extern const macl::KernelTable macl_kernels_ref64;
}

namespace macl {

namespace {

// AMX's registers are large: a process asks the system before it uses them. Only where MACL_AMX=1 says so: no machine has run these
// kernels yet.
#if defined(__x86_64__) && defined(__linux__)
bool amx_allowed() {
  constexpr long kAskForState = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  const char* wanted = std::getenv("MACL_AMX");
  u32 a = 7, b = 0, c = 0, d = 0;
  asm("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  const bool has = (d >> 22 & 1) != 0 && (d >> 24 & 1) != 0;  // AMX-BF16, AMX-TILE
  return wanted && std::strcmp(wanted, "1") == 0 && has && syscall(SYS_arch_prctl, kAskForState, kTileData) == 0;
}
#else
[[maybe_unused]] bool amx_allowed() { return false; }
#endif

}  // namespace

const TableEntry* kernel_tables(i32& count) {
#if defined(__x86_64__) || defined(_M_X64)
  // __builtin_cpu_supports asks the operating system too (XGETBV), so a kernel that does not save the wide registers
  // counts as a processor without them.
  static const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  static const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  static const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  static const bool amx = bf16 && amx_allowed();
  static const TableEntry entries[] = {
      {&macl_kernels_amx, amx, "AVX-512 with BF16, AMX with BF16, and MACL_AMX=1, as it is untried"},
      {&macl_kernels_avx512bf16, bf16, "AVX-512 F, VL, DQ, BW, BF16"},
      {&macl_kernels_avx512, avx512, "AVX-512 F, VL, DQ, BW"},
      {&macl_kernels_avx2, avx2, "AVX2, FMA, F16C"},
      {&macl_kernels_baseline, true, "nothing"},
      {&macl_kernels_plain, true, "nothing"},
      {&macl_kernels_ref64, true, "nothing"},
  };
#else
  static const TableEntry entries[] = {
      {&macl_kernels_baseline, true, "nothing"},
      {&macl_kernels_plain, true, "nothing"},
      {&macl_kernels_ref64, true, "nothing"},
  };
#endif
  count = sizeof(entries) / sizeof(entries[0]);
  return entries;
}

const KernelTable* find_table(const char* isa) {
  i32 count = 0;
  const TableEntry* entries = kernel_tables(count);
  for (i32 i = 0; i < count; ++i)
    if (entries[i].supported && std::strcmp(entries[i].table->isa, isa) == 0) return entries[i].table;
  return nullptr;
}

}  // namespace macl
