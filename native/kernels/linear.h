// linear: forward, dx, dw; plain on every instruction set (its matrices are small: one row a sample). Sums in float64.
// Equation and shapes: native/ops/linear.h. Nothing is saved for the backward pass but x.
#pragma once
#include "../ops/linear.h"
#include "conv3d_shape.h"

namespace macl {
namespace {

inline i32 linear_check_shapes(const Tensor& x, const Tensor& w, const Tensor& y) {
  if (!is_activation(x) || !is_activation(y) || voxels(x) != voxels(y)) return kBadShape;
  if (w.s[0] != y.s[4] || w.s[1] != x.s[4] || w.s[2] != 1 || w.s[3] != 1 || w.s[4] != 1) return kBadShape;
  return kOk;
}

inline i32 linear_fwd_check(const Args& a) {
  if (!all_real(a, 0, 3)) return kBadDType;
  return has_size(a, 2, a.t[3].s[4]) ? linear_check_shapes(a.t[0], a.t[1], a.t[3]) : kBadShape;
}
inline i32 linear_bwd_x_check(const Args& a) {
  return all_real(a, 0, 2) ? linear_check_shapes(a.t[2], a.t[1], a.t[0]) : kBadDType;
}
inline i32 linear_bwd_w_check(const Args& a) {
  if (!all_real(a, 0, 3)) return kBadDType;
  return has_size(a, 3, a.t[1].s[4]) ? linear_check_shapes(a.t[0], a.t[2], a.t[1]) : kBadShape;
}

// linear_fwd: one task a row of y. Writes. Four sums side by side, so that the additions need not wait for each other.
inline i64 linear_fwd_tasks(const Args& a, i32) { return voxels(a.t[3]); }

inline i32 linear_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  const Tensor &tx = a.t[0], &ty = a.t[3];
  const i64 I = tx.s[4], O = ty.s[4];
  const real *w = ptr<const real>(a, 1), *b = optional_ptr<const real>(a, 2);
  for (i64 n = begin; n < end; ++n) {
    const real* x = ptr<const real>(a, 0) + n * tx.ld;
    real* y = ptr<real>(a, 3) + n * ty.ld;
    for (i64 o = 0; o < O; ++o) {
      const real* wo = w + o * I;
      f64 sum[4] = {b ? f64(b[o]) : 0, 0, 0, 0};
      i64 i = 0;
      for (; i + 4 <= I; i += 4)
        for (int l = 0; l < 4; ++l) sum[l] += f64(x[i + l]) * wo[i + l];
      for (; i < I; ++i) sum[0] += f64(x[i]) * wo[i];
      y[o] = real((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
  }
  return kOk;
}

// linear_bwd_x: one task a row of dx; writes, or adds where accumulate = 1.
inline i64 linear_bwd_x_tasks(const Args& a, i32) { return voxels(a.t[2]); }

inline i32 linear_bwd_x_run(const Args& a, i32, i64 begin, i64 end) {
  const Tensor &tdy = a.t[0], &tdx = a.t[2];
  const i64 I = tdx.s[4], O = tdy.s[4];
  const real* w = ptr<const real>(a, 1);
  for (i64 n = begin; n < end; ++n) {
    const real* dy = ptr<const real>(a, 0) + n * tdy.ld;
    real* dx = ptr<real>(a, 2) + n * tdx.ld;
    for (i64 i0 = 0; i0 < I; i0 += 16) {
      const i64 lanes = imin(16, I - i0);
      f64 sum[16] = {};
      for (i64 o = 0; o < O; ++o)
        for (i64 l = 0; l < lanes; ++l) sum[l] += f64(dy[o]) * w[o * I + i0 + l];
      for (i64 l = 0; l < lanes; ++l)
        dx[i0 + l] = attrs<LinearAttrs>(a).accumulate != 0 ? dx[i0 + l] + real(sum[l]) : real(sum[l]);
    }
  }
  return kOk;
}

// linear_bwd_w: one task an output channel: its row of dw and its element of db; writes, or adds where accumulate = 1.
inline i64 linear_bwd_w_tasks(const Args& a, i32) { return a.t[1].s[4]; }

inline i32 linear_bwd_w_run(const Args& a, i32, i64 begin, i64 end) {
  const Tensor &tx = a.t[0], &tdy = a.t[1];
  const i64 I = tx.s[4], count = voxels(tx);
  const real *x = ptr<const real>(a, 0), *dy = ptr<const real>(a, 1);
  real *dw = ptr<real>(a, 2), *db = optional_ptr<real>(a, 3);
  const bool add = attrs<LinearAttrs>(a).accumulate != 0;
  for (i64 o = begin; o < end; ++o) {
    for (i64 i0 = 0; i0 < I; i0 += 16) {
      const i64 lanes = imin(16, I - i0);
      f64 sum[16] = {};
      for (i64 v = 0; v < count; ++v)
        for (i64 l = 0; l < lanes; ++l) sum[l] += f64(dy[v * tdy.ld + o]) * x[v * tx.ld + i0 + l];
      real* p = dw + o * I + i0;
      for (i64 l = 0; l < lanes; ++l) p[l] = add ? p[l] + real(sum[l]) : real(sum[l]);
    }
    if (db) {
      f64 sum = 0;
      for (i64 v = 0; v < count; ++v) sum += dy[v * tdy.ld + o];
      db[o] = add ? db[o] + real(sum) : real(sum);
    }
  }
  return kOk;
}

}  // namespace
}  // namespace macl

#define LINEAR_KERNELS                                                                        \
  MACL_KERNEL(linear_fwd, LinearAttrs, 1, linear_fwd_tasks, nullptr, linear_fwd_check),       \
  MACL_KERNEL(linear_bwd_x, LinearAttrs, 1, linear_bwd_x_tasks, nullptr, linear_bwd_x_check), \
  MACL_KERNEL(linear_bwd_w, LinearAttrs, 1, linear_bwd_w_tasks, nullptr, linear_bwd_w_check)
