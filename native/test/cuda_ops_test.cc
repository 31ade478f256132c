// The device's kernels other than convolutions on the host executor, against the float64 reference (ops_cases.h): in three
// orders of threads, with tensors that cannot be read four channels at a time, dense ones, and slices that can; sums over
// many chunks, more channels than a block has threads, similarities that do not fit shared memory. Prints "N passed, N
// failed". For a device:
//   g++ -c -O2 -std=c++20 -DMACL_ISA=plain -DMACL_ISA_PLAIN -o plain.o native/kernels/table.cc   (and ref64)
//   nvcc -x cu -O3 -std=c++20 -gencode arch=compute_90a,code=sm_90a -o cuda_ops_test native/test/cuda_ops_test.cc
//     native/cuda/{normact,pool,resize3d,supcon,losses,elementwise,warp3d,boxmix,optim}.cu -x none plain.o ref64.o
#include "gpu_call.h"
#include "ops_cases.h"

extern "C" const macl::KernelTable macl_kernels_plain, macl_kernels_ref64;

using namespace macl;
using namespace macl::testing;

namespace {

void large_cases() {
  unsigned seed = 100;
  for (const bool each : {false, true}) {
    test_normact({2, 9, 20, 33, 4}, each, seed++);
    test_normact({1, 1, 2, 3, 300}, each, seed++);
    test_normact({2, 1, 2, 3, 1100}, each, seed++);
  }
  test_pool_and_resize({1, 4, 20, 33, 8}, seed++);
  test_losses({2, 3, 20, 33, 3}, seed++);
  test_losses({1, 1, 9, 17, 37}, seed++);
  test_losses({1, 1, 5, 29, 128}, seed++);
  test_supcon({32, 1, 1, 2, 24}, 2, seed++);
  test_supcon({70, 1, 2, 1, 40}, 3, seed++);
  test_supcon({130, 1, 1, 1, 9}, 1, seed++);
}

// Where the guard is set, nothing is committed.
void test_skip(const KernelTable& device) {
  const i32 set = 1;
  const i64 n = 70;
  Random r(5);
  const auto kept = [&](const char* name, const auto& attrs, const std::vector<Port>& ports) {
    gpu_skip = &set;
    const Result skipped = run(device, name, attrs, ports);
    gpu_skip = nullptr;
    const Result done = run(device, name, attrs, ports);
    size_t i = 0;
    for (const Port& p : ports) {
      if (p.role != Role::kInOut) continue;
      expect(skipped.outputs[i] == p.values && done.outputs[i] != p.values, std::string("skipped ") + name);
      ++i;
    }
    expect(i > 0, "something to commit");
  };
  const auto state = [&]() { return port(Role::kInOut, {1, 1, 1, 1, n}, r.values(n, 0.1f, 1), -1, false); };
  const Port g = flat(r.values(n)), lr = flat({0.01}, kF64), clip = flat({0.5}, kF64);
  kept("sgd_step", SgdAttrs{0.9, 0.01}, {g, lr, clip, state(), state()});
  kept("adam_step", AdamAttrs{0.9, 0.999, 1e-8, 0.01, 0},
       {g, lr, clip, state(), state(), state(), port(Role::kInOut, {1, 1, 1, 1, 1}, {3}, kF64, false)});
  kept("running_step", RunningStepAttrs{0.1, 1},
       {flat(r.values(n)), flat({0, 1, 0, double(n / 2), 0, 50}, kF64), state()});
}

}  // namespace

int main() {
  const KernelTable device = gpu_table("cuda", macl_kernels_plain,
                                       {gpu::normact_gpu, gpu::pool_gpu, gpu::resize3d_gpu, gpu::supcon_gpu, gpu::losses_gpu,
                                        gpu::elementwise_gpu, gpu::warp3d_gpu, gpu::optim_gpu, gpu::boxmix_gpu});
  tables = {&macl_kernels_ref64, &device};
#if !defined(__CUDACC__)
  using namespace macl::gpu::host;
  before_way = [](int way) { set_order(way == 0 ? kForward : way == 3 ? kBackward : kShuffled); };
#endif
  const i64 slices[][2] = {{1, 2}, {0, 0}, {4, 8}};
  for (const auto& s : slices) {
    slice_before = s[0];
    slice_after = s[1];
    all_cases();
    if (slice_before != 4) large_cases();
    std::printf("slices within %lld and %lld channels: %d passed, %d failed so far\n", s[0], s[1], passed, failed);
  }
  test_skip(device);
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
