// upconv3d on the device for any shape: a thread an output element (channels fastest).
#pragma once
#include "upconv3d.h"

namespace macl {
namespace gpu {
namespace {

// A thread an element of y.
__global__ void upconv3d_fwd_plain_kernel(UpShape s, const f32* __restrict__ x, i64 ldx, const f32* __restrict__ wp,
                                          const f32* __restrict__ b, f32* __restrict__ y, i64 ldy) {
  const i64 padded = padded_channels(s.o), taps = s.sd * s.sh * s.sw, total = s.n * s.d * s.h * s.w * taps * s.o;
  for (i64 e = blockIdx.x * i64(blockDim.x) + threadIdx.x; e < total; e += i64(gridDim.x) * blockDim.x) {
    const i64 o = e % s.o, tap = e / s.o % taps, v = e / s.o / taps;
    const f32 *xv = x + v * ldx, *wk = wp + tap * s.i * padded + o;
    f32 sum = b ? b[o] : 0;
    for (i64 i = 0; i < s.i; ++i) sum += xv[i] * wk[i * padded];
    y[up_voxel(s, v, tap) * ldy + o] = sum;
  }
}

// A thread an element of dx.
__global__ void upconv3d_bwd_x_plain_kernel(UpShape s, const f32* __restrict__ dy, i64 ldy, const f32* __restrict__ wp,
                                            f32* __restrict__ dx, i64 ldx, i32 accumulate) {
  const i64 padded = padded_channels(s.i), taps = s.sd * s.sh * s.sw, total = s.n * s.d * s.h * s.w * s.i;
  for (i64 e = blockIdx.x * i64(blockDim.x) + threadIdx.x; e < total; e += i64(gridDim.x) * blockDim.x) {
    const i64 i = e % s.i, v = e / s.i;
    f32 sum = 0;
    for (i64 tap = 0; tap < taps; ++tap) {
      const f32 *g = dy + up_voxel(s, v, tap) * ldy, *wk = wp + tap * s.o * padded + i;
      for (i64 o = 0; o < s.o; ++o) sum += g[o] * wk[o * padded];
    }
    f32* p = dx + v * ldx + i;
    *p = accumulate ? *p + sum : sum;
  }
}

// dw: a thread an element [tap][i][o] and a chunk of x's voxels; fp32 over kUpInner of them, float64 beyond.
constexpr i64 kUpInner = 64;
constexpr i64 kUpThreads = 1 << 18;  // about so many

struct UpChunks {
  i64 count, voxels;
};
inline UpChunks up_chunks(const UpShape& s) {
  i64 chunks = ceil_div(kUpThreads, up_taps(s) * s.i * s.o);
  if (chunks > ceil_div(up_voxels(s), kUpInner)) chunks = ceil_div(up_voxels(s), kUpInner);
  if (chunks > 1024) chunks = 1024;
  const i64 per = ceil_div(ceil_div(up_voxels(s), chunks), kUpInner) * kUpInner;
  return {ceil_div(up_voxels(s), per), per};
}

__global__ void upconv3d_bwd_w_plain_kernel(UpShape s, const f32* __restrict__ x, i64 ldx, const f32* __restrict__ dy, i64 ldy,
                                            i64 chunk, f32* __restrict__ partial) {
  const i64 total = s.sd * s.sh * s.sw * s.i * s.o, e = blockIdx.x * i64(blockDim.x) + threadIdx.x;
  if (e >= total) return;
  const i64 o = e % s.o, i = e / s.o % s.i, tap = e / s.o / s.i, count = s.n * s.d * s.h * s.w;
  const i64 begin = blockIdx.y * chunk, end = begin + chunk < count ? begin + chunk : count;
  f64 sum = 0;
  for (i64 v0 = begin; v0 < end; v0 += kUpInner) {
    f32 part = 0;
    for (i64 v = v0; v < v0 + kUpInner && v < end; ++v) part += x[v * ldx + i] * dy[up_voxel(s, v, tap) * ldy + o];
    sum += part;
  }
  partial[blockIdx.y * total + e] = f32(sum);
}

}  // namespace
}  // namespace gpu
}  // namespace macl
