// upconv3d on the device (kernel = stride). Equation: native/ops/upconv3d.h. Nothing is saved for the backward pass but x.
#include "../ops/upconv3d.h"
#include "conv3d.h"

namespace macl {
namespace gpu {
namespace {

struct UpShape {
  i64 n, d, h, w, i;  // x
  i64 o;
  i64 sd, sh, sw;
};

inline UpShape up_shape(const Tensor& x, const Tensor& y, const Upconv3dAttrs& a) {
  return {x.s[0], x.s[1], x.s[2], x.s[3], x.s[4], y.s[4], a.sd, a.sh, a.sw};
}
inline i64 up_taps(const UpShape& s) { return s.sd * s.sh * s.sw; }
inline i64 up_voxels(const UpShape& s) { return s.n * s.d * s.h * s.w; }

// y's voxel of x's voxel v and a tap.
__device__ inline i64 up_voxel(const UpShape& s, i64 v, i64 tap) {
  const i64 w = v % s.w, h = v / s.w % s.h, d = v / s.w / s.h % s.d, n = v / s.w / s.h / s.d;
  const i64 c = tap % s.sw, b = tap / s.sw % s.sh, a = tap / s.sw / s.sh;
  return ((n * s.d * s.sd + d * s.sd + a) * s.h * s.sh + h * s.sh + b) * s.w * s.sw + w * s.sw + c;
}

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

// upconv3d_pack: w [I, O, taps].
void launch_upconv3d_pack(const Args& a, const Launch& l) {
  const Tensor& w = a.t[0];
  const i64 I = w.s[0], O = w.s[1], taps = w.s[2] * w.s[3] * w.s[4];
  if (attrs_of<Upconv3dPackAttrs>(a).mode == 0)
    launch_pack<false>(l, pointer<const f32>(a, 0), pointer<f32>(a, 1), O, I, taps, taps, O * taps, false);
  else
    launch_pack<false>(l, pointer<const f32>(a, 0), pointer<f32>(a, 1), I, O, taps, O * taps, taps, false);
}

i64 upconv3d_pack_bytes(const Args& a, i32) {
  const i64 I = a.t[0].s[0], O = a.t[0].s[1], taps = a.t[0].s[2] * a.t[0].s[3] * a.t[0].s[4];
  const bool forward = attrs_of<Upconv3dPackAttrs>(a).mode == 0;
  return padded_channels(forward ? O : I) * (forward ? I : O) * taps * i64(sizeof(f32));
}

// upconv3d_fwd: writes y.
void launch_upconv3d_fwd(const Args& a, const Launch& l) {
  const UpShape s = up_shape(a.t[0], a.t[3], attrs_of<Upconv3dAttrs>(a));
  launch({blocks_for(elements(a.t[3]), 256), 256, 0, l.stream}, upconv3d_fwd_plain_kernel, s, pointer<const f32>(a, 0),
         a.t[0].ld, pointer<const f32>(a, 1), given(a, 2) ? pointer<const f32>(a, 2) : nullptr, pointer<f32>(a, 3),
         a.t[3].ld);
}

// upconv3d_bwd_x: writes dx, or adds where accumulate = 1.
void launch_upconv3d_bwd_x(const Args& a, const Launch& l) {
  const auto& at = attrs_of<Upconv3dAttrs>(a);
  const UpShape s = up_shape(a.t[2], a.t[0], at);
  launch({blocks_for(elements(a.t[2]), 256), 256, 0, l.stream}, upconv3d_bwd_x_plain_kernel, s, pointer<const f32>(a, 0),
         a.t[0].ld, pointer<const f32>(a, 1), pointer<f32>(a, 2), a.t[2].ld, at.accumulate != 0);
}

i64 no_bytes(const Args&, i32) { return 0; }

// upconv3d_bwd_w: writes dw and db, or adds where accumulate = 1. ws: partial sums of db, then of dw.
void launch_upconv3d_bwd_w(const Args& a, const Launch& l) {
  const auto& at = attrs_of<Upconv3dAttrs>(a);
  const Tensor &x = a.t[0], &dy = a.t[1];
  const UpShape s = up_shape(x, dy, at);
  const i64 taps = up_taps(s), total = taps * s.i * s.o;
  const UpChunks chunks = up_chunks(s);
  f32* partial = dw_partials(pointer<void>(a, 4), voxels(dy), s.o);
  if (given(a, 3)) launch_bias(l, dy, pointer<f64>(a, 4), pointer<f32>(a, 3), at.accumulate != 0);
  launch({dim3(blocks_for(total, 128), unsigned(chunks.count)), 128, 0, l.stream}, upconv3d_bwd_w_plain_kernel, s,
         pointer<const f32>(a, 0), x.ld, pointer<const f32>(a, 1), dy.ld, chunks.voxels, partial);
  launch_dw_combine(l, partial, chunks.count, s.i, s.o, taps, taps, s.o * taps, pointer<f32>(a, 2), at.accumulate != 0);
}

i64 upconv3d_bwd_w_bytes(const Args& a, i32) {
  const UpShape s = up_shape(a.t[0], a.t[1], attrs_of<Upconv3dAttrs>(a));
  return dw_bytes(voxels(a.t[1]), s.o, up_taps(s) * s.i * s.o, up_chunks(s).count);
}

}  // namespace

extern const GpuKernel upconv3d_gpu[] = {
    {"upconv3d_pack", launch_upconv3d_pack, upconv3d_pack_bytes},
    {"upconv3d_fwd", launch_upconv3d_fwd, no_bytes},
    {"upconv3d_bwd_x", launch_upconv3d_bwd_x, no_bytes},
    {"upconv3d_bwd_w", launch_upconv3d_bwd_w, upconv3d_bwd_w_bytes},
    {nullptr, nullptr, nullptr},
};

}  // namespace gpu
}  // namespace macl
