// The device's convolutions on the host executor, against sums written straight from the equations (conv_cases.h), in
// three orders of threads. Usage: cuda_conv_test [table …]; prints "N passed, N failed". For a device:
//   g++ -c -O2 -std=c++20 -DMACL_ISA=plain -DMACL_ISA_PLAIN -o plain.o native/kernels/table.cc
//   nvcc -x cu -O3 -std=c++20 -gencode arch=compute_90a,code=sm_90a -o cuda_conv_test native/test/cuda_conv_test.cc
//     native/cuda/{conv3d,upconv3d,linear}.cu -x none plain.o
#include "conv_cases.h"
#include "gpu_call.h"

extern "C" const macl::KernelTable macl_kernels_plain;

using namespace macl;
using namespace macl::testing;

int main(int argc, char** argv) {
  using namespace macl::gpu;
  const KernelTable tables[] = {
      gpu_table("cuda-plain", macl_kernels_plain, {conv3d_plain_gpu, upconv3d_plain_gpu, linear_gpu}),
      gpu_table("cuda", macl_kernels_plain, {conv3d_gpu, upconv3d_gpu}),
      gpu_table("cuda-tf32", macl_kernels_plain, {conv3d_tf32_gpu}),
  };
#if !defined(__CUDACC__)
  before_way = [](int way) { host::set_order(way == 0 ? host::kForward : way == 3 ? host::kBackward : host::kShuffled); };
#endif
  for (const KernelTable& t : tables) {
    bool wanted = argc == 1;
    for (int i = 1; i < argc; ++i) wanted |= !std::strcmp(argv[i], t.isa);
    if (!wanted) continue;
    tolerance = std::strcmp(t.isa, "cuda-tf32") ? 4e-6 : 1e-3;
    for (const Case& c : conv_cases)
      if (std::strcmp(t.isa, "cuda-tf32") || (c.i >= 16 && c.o >= 16)) conv_case(t, c);  // the rest is "cuda"'s
    if (std::strcmp(t.isa, "cuda-tf32"))
      for (const Case& c : upconv_cases) upconv_case(t, c);
    if (!std::strcmp(t.isa, "cuda-plain")) linear_case(t, 3, 5, 7, 0, 0), linear_case(t, 4, 33, 18, 2, 1);
    refusals(t);
    std::printf("%s: %d passed, %d failed so far\n", t.isa, passed, failed);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
