// boxmix: two images mixed by boxes. Equation: native/ops/boxmix.h. A thread has a voxel: it looks for the last box that
// holds it, from the last on. A level that is none is a fault, also of a box that holds nothing: the threads share out the
// boxes first.
#include "../ops/boxmix.h"

#include "launch.h"
#include "rows.h"

namespace macl {
namespace gpu {
namespace {

constexpr int kThreads = 256;

__device__ inline bool box_holds(const i32* box, int axis, i64 at) {
  return at >= box[axis] && at < static_cast<i64>(box[axis]) + box[3 + axis];
}

__global__ void boxmix_fwd_voxels_kernel(F32View f, F32View b, const i32* boxes, i64 rows, i64 count, F32View x,
                                         View<i32> labels, Grid3 grid, i64 total, i64 channels, i64 levels, u32* fault,
                                         i32 instruction) {
  const i64 thread = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  const i64 threads = static_cast<i64>(gridDim.x) * blockDim.x;
  for (i64 i = thread; i < rows; i += threads) {
    const i32 level = boxes[i * kBoxWords + 6];
    if (level < 0 || level > levels) set_fault(fault, instruction, kBadLabel);
  }
  for (i64 v = thread; v < total; v += threads) {
    const Place3 p(v, grid);
    const i32* own = boxes + p.n * count * kBoxWords;
    i64 level = 0;
    for (i64 i = count - 1; i >= 0; --i) {
      const i32* box = own + i * kBoxWords;
      if (!box_holds(box, 0, p.d) || !box_holds(box, 1, p.h) || !box_holds(box, 2, p.w)) continue;
      level = box[6];
      break;
    }
    labels.data[v * labels.ld] = static_cast<i32>(level);
    const f32 alpha = static_cast<f32>(static_cast<f64>(level) / static_cast<f64>(levels));
    for (i64 c = 0; c < channels; ++c) {
      const f32 first = f.data[v * f.ld + c], second = b.data[v * b.ld + c];
      x.data[v * x.ld + c] = level == 0 ? second : level == levels ? first : first * alpha + second * (1 - alpha);
    }
  }
}

void launch_boxmix_fwd(const Args& a, const Launch& l) {
  const Tensor& x = a.t[BoxmixFwd::x];
  const i64 count = a.t[BoxmixFwd::boxes].s[1];
  const i64 total = voxels(x), wanted = ceil_div(total, kThreads), most = i64(l.processors) * 16;
  launch({dim3(static_cast<unsigned>(wanted < most ? wanted : most)), dim3(kThreads), 0, l.stream},
         boxmix_fwd_voxels_kernel, view(a, BoxmixFwd::f), view(a, BoxmixFwd::b), pointer<i32>(a, BoxmixFwd::boxes),
         x.s[0] * count, count, view(a, BoxmixFwd::x), view<i32>(a, BoxmixFwd::labels), grid_of(x), total, x.s[4],
         attrs_of<BoxmixAttrs>(a).levels, l.fault, l.instruction);
}

}  // namespace

extern const GpuKernel boxmix_gpu[] = {MACL_GPU_KERNEL(boxmix_fwd, BoxmixAttrs, launch_boxmix_fwd, nullptr), {}};

}  // namespace gpu
}  // namespace macl
