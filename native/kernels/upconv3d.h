// upconv3d: pack, forward, dx, dw. The plain kernels (over `real`) stand here, the tuned fp32 ones in upconv3d_fast.h.
// Equation and shapes: native/ops/upconv3d.h. Nothing is saved for the backward pass but x.
#pragma once
#include "conv3d.h"
#include "upconv3d_shape.h"
#if MACL_PLAIN

namespace macl {
namespace {

// upconv3d_fwd: one task a row of x, which is sD·sH rows of y. Writes.
inline i64 upconv3d_fwd_tasks(const Args& a, i32) { return voxels(a.t[Upconv3dFwd::x]) / a.t[Upconv3dFwd::x].s[3]; }

inline i32 upconv3d_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  using T = Upconv3dFwd;
  const UpShape s = upconv3d_shape(a.t[T::x], a.t[T::y], attrs<Upconv3dAttrs>(a));
  const real *wp = ptr<const real>(a, T::wp), *b = optional_ptr<const real>(a, T::b);
  const i64 blocks = cdiv(s.o, kPackLanes);
  for (i64 row = begin; row < end; ++row)
    for (i64 tap = 0; tap < s.taps(); ++tap)
      for (i64 w = 0; w < s.w; ++w)
        for (i64 ob = 0; ob < blocks; ++ob) {
          const i64 o = ob * kPackLanes, lanes = imin(kPackLanes, s.o - o);
          const real* x = ptr<const real>(a, T::x) + (row * s.w + w) * a.t[T::x].ld;
          const real* wk = wp + (tap * blocks + ob) * s.i * kPackLanes;
          f64 sum[kPackLanes];
          for (i64 l = 0; l < kPackLanes; ++l) sum[l] = b && l < lanes ? b[o + l] : 0;
          for (i64 i = 0; i < s.i; ++i)
            for (i64 l = 0; l < kPackLanes; ++l) sum[l] += f64(x[i]) * wk[i * kPackLanes + l];
          const i64 voxel = s.y_row(row, tap / (s.sh * s.sw), tap / s.sw % s.sh) + w * s.sw + tap % s.sw;
          real* y = ptr<real>(a, T::y) + voxel * a.t[T::y].ld + o;
          for (i64 l = 0; l < lanes; ++l) y[l] = real(sum[l]);
        }
  return kOk;
}

// upconv3d_bwd_x: one task a row of dx; writes, or adds where accumulate = 1.
inline i64 upconv3d_bwd_x_tasks(const Args& a, i32) { return voxels(a.t[Upconv3dBwdX::dx]) / a.t[Upconv3dBwdX::dx].s[3]; }

inline i32 upconv3d_bwd_x_run(const Args& a, i32, i64 begin, i64 end) {
  using T = Upconv3dBwdX;
  const auto& at = attrs<Upconv3dAttrs>(a);
  const UpShape s = upconv3d_shape(a.t[T::dx], a.t[T::dy], at);
  const real* wp = ptr<const real>(a, T::wp);
  for (i64 row = begin; row < end; ++row)
    for (i64 w = 0; w < s.w; ++w)
      for (i64 ib = 0; ib < s.i; ib += kPackLanes) {
        f64 sum[kPackLanes] = {};
        const real* wk = wp + ib * s.taps() * s.o;
        for (i64 tap = 0; tap < s.taps(); ++tap) {
          const i64 voxel = s.y_row(row, tap / (s.sh * s.sw), tap / s.sw % s.sh) + w * s.sw + tap % s.sw;
          const real* dy = ptr<const real>(a, T::dy) + voxel * a.t[T::dy].ld;
          for (i64 o = 0; o < s.o; ++o, wk += kPackLanes)
            for (i64 l = 0; l < kPackLanes; ++l) sum[l] += f64(dy[o]) * wk[l];
        }
        real* dx = ptr<real>(a, T::dx) + (row * s.w + w) * a.t[T::dx].ld + ib;
        for (i64 l = 0, lanes = imin(kPackLanes, s.i - ib); l < lanes; ++l)
          dx[l] = at.accumulate != 0 ? dx[l] + real(sum[l]) : real(sum[l]);
      }
  return kOk;
}

// upconv3d_bwd_w: one task a (block of 16 outputs, input channel, tap), then one a block of db; writes, or adds where
// accumulate = 1. Sums in float64 in the order of voxels.
inline i64 upconv3d_bwd_w_tasks(const Args& a, i32) {
  using T = Upconv3dBwdW;
  const Tensor& dw = a.t[T::dw];
  return cdiv(dw.s[1], kPackLanes) * (dw.s[0] * dw.s[2] * dw.s[3] * dw.s[4] + 1);
}

inline i32 upconv3d_bwd_w_run(const Args& a, i32, i64 begin, i64 end) {
  using T = Upconv3dBwdW;
  const auto& at = attrs<Upconv3dAttrs>(a);
  const UpShape s = upconv3d_shape(a.t[T::x], a.t[T::dy], at);
  const i64 per = s.i * s.taps() + 1;
  for (i64 t = begin; t < end; ++t) {
    const i64 ob = t / per * kPackLanes, k = t % per, lanes = imin(kPackLanes, s.o - ob);
    f64 sum[kPackLanes] = {};
    const bool bias = k == per - 1;
    real* out = bias ? optional_ptr<real>(a, T::db) : ptr<real>(a, T::dw);
    if (!out) continue;
    const i64 i = k / s.taps(), tap = k % s.taps();
    if (bias) {
      plain_sum_channels(a.t[T::dy], ob, lanes, sum);
    } else {
      for (i64 row = 0; row < s.rows(); ++row) {
        const i64 voxel = s.y_row(row, tap / (s.sh * s.sw), tap / s.sw % s.sh) + tap % s.sw;
        for (i64 w = 0; w < s.w; ++w) {
          const f64 x = ptr<const real>(a, T::x)[(row * s.w + w) * a.t[T::x].ld + i];
          const real* dy = ptr<const real>(a, T::dy) + (voxel + w * s.sw) * a.t[T::dy].ld + ob;
          for (i64 l = 0; l < lanes; ++l) sum[l] += x * dy[l];
        }
      }
    }
    for (i64 l = 0; l < lanes; ++l) {
      real* p = bias ? out + ob + l : out + (i * s.o + ob + l) * s.taps() + tap;
      *p = at.accumulate != 0 ? *p + real(sum[l]) : real(sum[l]);
    }
  }
  return kOk;
}

}  // namespace
}  // namespace macl

#define UPCONV3D_KERNELS                                                                                           \
  MACL_KERNEL(upconv3d_pack, Upconv3dPackAttrs, 1, upconv3d_pack_tasks, upconv3d_pack_bytes, upconv3d_pack_check), \
  MACL_KERNEL(upconv3d_fwd, Upconv3dAttrs, 1, upconv3d_fwd_tasks, conv3d_ws_bytes, upconv3d_fwd_check),            \
  MACL_KERNEL(upconv3d_bwd_x, Upconv3dAttrs, 1, upconv3d_bwd_x_tasks, conv3d_ws_bytes, upconv3d_bwd_x_check),      \
  MACL_KERNEL(upconv3d_bwd_w, Upconv3dAttrs, 1, upconv3d_bwd_w_tasks, conv3d_ws_bytes, upconv3d_bwd_w_check)

#else
#include "upconv3d_fast.h"
#endif
