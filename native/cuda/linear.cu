// linear on the device: its matrices are small (one row a sample), so a warp or a thread an element does. Sums in float64.
// Equation and shapes: native/ops/linear.h. Nothing is saved for the backward pass but x.
#include "../ops/linear.h"
#include "launch.h"
#include "reduce.h"

namespace macl {
namespace gpu {
namespace {

// A warp an element of y: the lanes share its row of x and of w.
__global__ void linear_fwd_warp_kernel(const f32* __restrict__ x, i64 ldx, const f32* __restrict__ w,
                                       const f32* __restrict__ b, f32* __restrict__ y, i64 ldy, i64 rows, i64 inputs,
                                       i64 outputs) {
  const i64 lane = threadIdx.x % kWarp, warps = i64(gridDim.x) * (blockDim.x / kWarp);
  for (i64 e = (blockIdx.x * i64(blockDim.x) + threadIdx.x) / kWarp; e < rows * outputs; e += warps) {
    const i64 n = e / outputs, o = e % outputs;
    f64 sum = 0;
    for (i64 i = lane; i < inputs; i += kWarp) sum += f64(x[n * ldx + i]) * w[o * inputs + i];
    sum = warp_sum(sum);
    if (lane == 0) y[n * ldy + o] = f32(b ? sum + b[o] : sum);
  }
}

// A thread an element of dx.
__global__ void linear_bwd_x_kernel(const f32* __restrict__ dy, i64 ldy, const f32* __restrict__ w, f32* __restrict__ dx,
                                    i64 ldx, i64 rows, i64 inputs, i64 outputs, i32 accumulate) {
  for (i64 e = blockIdx.x * i64(blockDim.x) + threadIdx.x; e < rows * inputs; e += i64(gridDim.x) * blockDim.x) {
    const i64 n = e / inputs, i = e % inputs;
    f64 sum = 0;
    for (i64 o = 0; o < outputs; ++o) sum += f64(dy[n * ldy + o]) * w[o * inputs + i];
    f32* p = dx + n * ldx + i;
    *p = accumulate ? *p + f32(sum) : f32(sum);
  }
}

// A thread an element of dw, or, where i = inputs, of db.
__global__ void linear_bwd_w_kernel(const f32* __restrict__ x, i64 ldx, const f32* __restrict__ dy, i64 ldy,
                                    f32* __restrict__ dw, f32* __restrict__ db, i64 rows, i64 inputs, i64 outputs,
                                    i32 accumulate) {
  const i64 per = inputs + 1;
  for (i64 e = blockIdx.x * i64(blockDim.x) + threadIdx.x; e < outputs * per; e += i64(gridDim.x) * blockDim.x) {
    const i64 o = e / per, i = e % per;
    const bool bias = i == inputs;
    if (bias && !db) continue;
    f64 sum = 0;
    for (i64 n = 0; n < rows; ++n) sum += f64(dy[n * ldy + o]) * (bias ? 1.0f : x[n * ldx + i]);
    f32* p = bias ? db + o : dw + o * inputs + i;
    *p = accumulate ? *p + f32(sum) : f32(sum);
  }
}

void launch_linear_fwd(const Args& a, const Launch& l) {
  using T = LinearFwd;
  const Tensor &x = a.t[T::x], &y = a.t[T::y];
  launch({blocks_for(elements(y) * kWarp, 256), 256, 0, l.stream}, linear_fwd_warp_kernel, pointer<const f32>(a, T::x), x.ld,
         pointer<const f32>(a, T::w), given(a, T::b) ? pointer<const f32>(a, T::b) : nullptr, pointer<f32>(a, T::y), y.ld, voxels(x),
         x.s[4], y.s[4]);
}

void launch_linear_bwd_x(const Args& a, const Launch& l) {
  using T = LinearBwdX;
  const Tensor &dy = a.t[T::dy], &dx = a.t[T::dx];
  launch({blocks_for(elements(dx), 128), 128, 0, l.stream}, linear_bwd_x_kernel, pointer<const f32>(a, T::dy), dy.ld,
         pointer<const f32>(a, T::w), pointer<f32>(a, T::dx), dx.ld, voxels(dx), dx.s[4], dy.s[4],
         attrs_of<LinearAttrs>(a).accumulate != 0);
}

void launch_linear_bwd_w(const Args& a, const Launch& l) {
  using T = LinearBwdW;
  const Tensor &x = a.t[T::x], &dy = a.t[T::dy];
  launch({blocks_for(dy.s[4] * (x.s[4] + 1), 128), 128, 0, l.stream}, linear_bwd_w_kernel, pointer<const f32>(a, T::x), x.ld,
         pointer<const f32>(a, T::dy), dy.ld, pointer<f32>(a, T::dw), given(a, T::db) ? pointer<f32>(a, T::db) : nullptr, voxels(x),
         x.s[4], dy.s[4], attrs_of<LinearAttrs>(a).accumulate != 0);
}

}  // namespace

extern const GpuKernel linear_gpu[] = {
    MACL_GPU_KERNEL(linear_fwd, LinearAttrs, launch_linear_fwd, nullptr),
    MACL_GPU_KERNEL(linear_bwd_x, LinearAttrs, launch_linear_bwd_x, nullptr),
    MACL_GPU_KERNEL(linear_bwd_w, LinearAttrs, launch_linear_bwd_w, nullptr),
    {},
};

}  // namespace gpu
}  // namespace macl
