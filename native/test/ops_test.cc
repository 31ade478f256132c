// Every kernel table of this processor against the float64 reference (ops_cases.h). Prints "N passed, N failed".
#include "ops_cases.h"

#define TABLES(X) X(ref64) X(plain) X(baseline) X(avx2) X(avx512)
#define DECLARE(isa) extern "C" __attribute__((weak)) const macl::KernelTable macl_kernels_##isa;
TABLES(DECLARE)

using namespace macl;
using namespace macl::testing;

int main() {
  const auto add = [](const KernelTable* t, bool runs) {
    if (t && runs) tables.push_back(t);
  };
  add(&macl_kernels_ref64, true);
  add(&macl_kernels_plain, true);
  add(&macl_kernels_baseline, true);
#if defined(__x86_64__)
  add(&macl_kernels_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
  add(&macl_kernels_avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"));
#endif
  all_cases();
  test_linear(3, 5, 7, 1), test_linear(4, 33, 18, 2);
  // More channels, and more numbers in a row, than some kernels take at a time.
  test_normact({2, 1, 2, 3, 520}, true, 3);
  test_pool_and_resize({1, 2, 3, 300, 33}, 4), test_pool_and_resize({1, 1, 2, 20, 600}, 5);
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
