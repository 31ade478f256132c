// Convolutions of every kernel table of this processor (conv_cases.h).
// Usage: conv_test [isa …]; prints "N passed, N failed".
#include "conv_cases.h"

#define TABLES(X) X(ref64) X(plain) X(baseline) X(avx2) X(avx512) X(avx512bf16) X(amx)
#define DECLARE(isa) extern "C" __attribute__((weak)) const macl::KernelTable macl_kernels_##isa;
TABLES(DECLARE)

using namespace macl;
using namespace macl::testing;

int main(int argc, char** argv) {
  const KernelTable* tables[] = {
#define ADDRESS(isa) &macl_kernels_##isa,
      TABLES(ADDRESS)};
  for (const KernelTable* t : tables) {
    if (!t) continue;
    const bool amx = !std::strcmp(t->isa, "amx");  // its tiles are emulated here
    if ((amx || !std::strcmp(t->isa, "avx512")) && !__builtin_cpu_supports("avx512bw")) continue;
    if (!std::strcmp(t->isa, "avx2") && !__builtin_cpu_supports("avx2")) continue;
    if (!std::strcmp(t->isa, "avx512bf16") && !(__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512bf16"))) continue;
    bool wanted = argc == 1;
    for (int i = 1; i < argc; ++i) wanted |= !std::strcmp(argv[i], t->isa);
    if (!wanted) continue;
    for (const bool bf16 : {false, true}) {
      if (bf16 && !has_winograd(*t)) continue;  // plain tables have neither
      for (Case c : conv_cases) c.bf16 = bf16, conv_case(*t, c);
      // Winograd's are those of avx512.
      if (has_winograd(*t) && !amx && std::strcmp(t->isa, "avx512bf16"))
        for (Case c : winograd_cases)
          for (const i64 variant : winograd_variants) {
            c.variant = variant;
            c.bf16 = bf16;
            if ((variant < 200) == (c.kd == 1)) conv_case(*t, c);
          }
      for (Case c : upconv_cases) c.bf16 = bf16, upconv_case(*t, c);
    }
    refusals(*t);
    linear_case(*t, 3, 5, 7, 0, 0), linear_case(*t, 4, 33, 18, 2, 1);
    std::printf("%s: %d passed, %d failed so far\n", t->isa, passed, failed);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
