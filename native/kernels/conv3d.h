// conv3d: pack, forward, dx, dw. The plain kernels (over `real`) stand here, the tuned fp32 ones in conv3d_fast.h and
// conv3d_bwd_w_fast.h. Equations and shapes: native/ops/conv3d.h. Nothing is saved for the backward pass but x.
#pragma once
#include "conv3d_shape.h"
#if MACL_PLAIN

namespace macl {
namespace {

// One output row [ow][O] of forward or dx; sums in float64, taps in order, then input channels.
inline void conv3d_plain_row(const ConvShape& s, i64 row, const real* x, i64 ldx, const real* wp, const real* b,
                             real* y, i64 ldy, bool accumulate, bool act, real slope) {
  const i64 h = row % s.oh, d = row / s.oh % s.od, n = row / s.oh / s.od;
  for (i64 w = 0; w < s.ow; ++w)
    for (i64 ob = 0; ob < s.o; ob += kPackLanes) {
      f64 sum[kPackLanes];
      const i64 lanes = imin(kPackLanes, s.o - ob);
      for (i64 l = 0; l < kPackLanes; ++l) sum[l] = b && l < lanes ? b[ob + l] : 0;
      const real* wb = wp + ob * s.i * s.taps();
      for (i64 kd = 0; kd < s.kd; ++kd)
        for (i64 kh = 0; kh < s.kh; ++kh)
          for (i64 kw = 0; kw < s.kw; ++kw) {
            const i64 xd = conv3d_source(d, kd, s.kd, s.sd, s.td, s.id);
            const i64 xh = conv3d_source(h, kh, s.kh, s.sh, s.th, s.ih);
            const i64 xw = conv3d_source(w, kw, s.kw, s.sw, s.tw, s.iw);
            if (xd < 0 || xh < 0 || xw < 0) continue;
            const real* xv = x + (((n * s.id + xd) * s.ih + xh) * s.iw + xw) * ldx;
            const real* wk = wb + ((kd * s.kh + kh) * s.i * s.kw + kw) * kPackLanes;
            for (i64 i = 0; i < s.i; ++i)
              for (i64 l = 0; l < kPackLanes; ++l) sum[l] += f64(xv[i]) * wk[i * s.kw * kPackLanes + l];
          }
      real* yv = y + (row * s.ow + w) * ldy + ob;
      for (i64 l = 0; l < lanes; ++l) {
        real v = real(sum[l]);
        if (act && v < 0) v *= slope;
        yv[l] = accumulate ? yv[l] + v : v;
      }
    }
}

// mean and population variance of one channel of y, two passes.
inline void conv3d_plain_stats(const Tensor& y, i64 c, real* mean, real* var) {
  const real* p = static_cast<const real*>(y.data) + c;
  const i64 count = voxels(y);
  f64 sum = 0, m2 = 0;
  for (i64 v = 0; v < count; ++v) sum += p[v * y.ld];
  const f64 m = sum / f64(count);
  for (i64 v = 0; v < count; ++v) m2 += (p[v * y.ld] - m) * (p[v * y.ld] - m);
  mean[c] = real(m);
  var[c] = real(m2 / f64(count));
}

inline i32 conv3d_pack_run(const Args& a, i32, i64 begin, i64 end) { return conv3d_pack_direct(a, begin, end); }

// conv3d_fwd, phase 0: one task a row of y (writes); phase 1: one a channel's statistics (writes).
inline i64 conv3d_fwd_tasks(const Args& a, i32 phase) {
  using T = Conv3dFwd;
  const Tensor& y = a.t[T::y];
  return phase == 0 ? voxels(y) / y.s[3] : attrs<Conv3dAttrs>(a).stats != 0 ? y.s[4] : 0;
}

inline i32 conv3d_fwd_run(const Args& a, i32 phase, i64 begin, i64 end) {
  using T = Conv3dFwd;
  const auto& at = attrs<Conv3dAttrs>(a);
  const Tensor &x = a.t[T::x], &y = a.t[T::y];
  const ConvShape s = conv3d_fwd_shape(x, y, at);
  for (i64 t = begin; t < end; ++t) {
    if (phase == 0)
      conv3d_plain_row(s, t, ptr<const real>(a, T::x), x.ld, ptr<const real>(a, T::wp), optional_ptr<const real>(a, T::b),
                       ptr<real>(a, T::y), y.ld, false, at.act != 0, real(at.slope));
    else
      conv3d_plain_stats(y, t, ptr<real>(a, T::mean), ptr<real>(a, T::var));
  }
  return kOk;
}

// conv3d_bwd_x: one task a row of dx; writes, or adds where accumulate = 1.
inline i64 conv3d_bwd_x_tasks(const Args& a, i32) { return voxels(a.t[Conv3dBwdX::dx]) / a.t[Conv3dBwdX::dx].s[3]; }

inline i32 conv3d_bwd_x_run(const Args& a, i32, i64 begin, i64 end) {
  using T = Conv3dBwdX;
  const auto& at = attrs<Conv3dAttrs>(a);
  const Tensor &dy = a.t[T::dy], &dx = a.t[T::dx];
  const ConvShape s = conv3d_bwd_x_shape(dy, dx, at);
  for (i64 t = begin; t < end; ++t)
    conv3d_plain_row(s, t, ptr<const real>(a, T::dy), dy.ld, ptr<const real>(a, T::wp), nullptr, ptr<real>(a, T::dx), dx.ld,
                     at.accumulate != 0, false, 0);
  return kOk;
}

// conv3d_bwd_w: one task a (block of 16 outputs, input channel, tap), then one a block of db; writes, or adds where
// accumulate = 1. Sums in float64 in the order of voxels.
inline i64 conv3d_bwd_w_tasks(const Args& a, i32) {
  using T = Conv3dBwdW;
  const Tensor& dw = a.t[T::dw];
  return cdiv(dw.s[0], kPackLanes) * (dw.s[1] * dw.s[2] * dw.s[3] * dw.s[4] + 1);
}

inline void plain_sum_channels(const Tensor& t, i64 c0, i64 lanes, f64* sum) {
  const real* p = static_cast<const real*>(t.data) + c0;
  for (i64 v = 0, count = voxels(t); v < count; ++v)
    for (i64 l = 0; l < lanes; ++l) sum[l] += p[v * t.ld + l];
}

inline i32 conv3d_bwd_w_run(const Args& a, i32, i64 begin, i64 end) {
  using T = Conv3dBwdW;
  const auto& at = attrs<Conv3dAttrs>(a);
  const Tensor &tx = a.t[T::x], &tdy = a.t[T::dy];
  const ConvShape s = conv3d_fwd_shape(tx, tdy, at);
  const i64 per = s.i * s.taps() + 1;
  const real *x = ptr<const real>(a, T::x), *dy = ptr<const real>(a, T::dy);
  for (i64 t = begin; t < end; ++t) {
    const i64 ob = t / per * kPackLanes, k = t % per, lanes = imin(kPackLanes, s.o - ob);
    f64 sum[kPackLanes] = {};
    const bool bias = k == per - 1;
    real* out = bias ? optional_ptr<real>(a, T::db) : ptr<real>(a, T::dw);
    if (!out) continue;
    if (bias) {
      plain_sum_channels(tdy, ob, lanes, sum);
    } else {
      const i64 i = k / s.taps(), tap = k % s.taps();
      const i64 kd = tap / (s.kh * s.kw), kh = tap / s.kw % s.kh, kw = tap % s.kw;
      for (i64 n = 0; n < s.n; ++n)
        for (i64 d = 0; d < s.od; ++d)
          for (i64 h = 0; h < s.oh; ++h) {
            const i64 xd = conv3d_source(d, kd, s.kd, s.sd, 1, s.id), xh = conv3d_source(h, kh, s.kh, s.sh, 1, s.ih);
            if (xd < 0 || xh < 0) continue;
            for (i64 w = 0; w < s.ow; ++w) {
              const i64 xw = conv3d_source(w, kw, s.kw, s.sw, 1, s.iw);
              if (xw < 0) continue;
              const f64 xv = x[(((n * s.id + xd) * s.ih + xh) * s.iw + xw) * tx.ld + i];
              const real* dyv = dy + (((n * s.od + d) * s.oh + h) * s.ow + w) * tdy.ld + ob;
              for (i64 l = 0; l < lanes; ++l) sum[l] += xv * dyv[l];
            }
          }
    }
    for (i64 l = 0; l < lanes; ++l) {
      real* p = bias ? out + ob + l : out + (ob + l) * s.i * s.taps() + k;
      *p = at.accumulate != 0 ? *p + real(sum[l]) : real(sum[l]);
    }
  }
  return kOk;
}

inline i64 conv3d_ws_bytes(const Args&, i32) { return 0; }

}  // namespace
}  // namespace macl

#define CONV3D_KERNELS                                                                                   \
  MACL_KERNEL(conv3d_pack, Conv3dPackAttrs, 1, conv3d_pack_tasks, conv3d_pack_bytes, conv3d_pack_check), \
  MACL_KERNEL(conv3d_fwd, Conv3dAttrs, 2, conv3d_fwd_tasks, conv3d_ws_bytes, conv3d_fwd_check),          \
  MACL_KERNEL(conv3d_bwd_x, Conv3dAttrs, 1, conv3d_bwd_x_tasks, conv3d_ws_bytes, conv3d_bwd_x_check),    \
  MACL_KERNEL(conv3d_bwd_w, Conv3dAttrs, 1, conv3d_bwd_w_tasks, conv3d_ws_bytes, conv3d_bwd_w_check)

#else
#include "conv3d_fast.h"
#endif
