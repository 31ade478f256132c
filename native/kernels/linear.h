// linear: forward, dx, dw; plain on every instruction set (its matrices are small: one row a sample). Sums in float64.
// Equation and shapes: native/ops/linear.h. Nothing is saved for the backward pass but x. Activations may be bf16; weights are
// rounded then where they are multiplied.
#pragma once
#include "../ops/linear.h"
#include "conv3d_shape.h"
#include "math.h"

namespace macl {
namespace {

inline i32 linear_check_shapes(const Tensor& x, const Tensor& w, const Tensor& y) {
  MACL_NEED(is_grid(x) && is_grid(y) && voxels(x) == voxels(y), kBadShape);
  MACL_NEED(has_shape(w, y.s[4], x.s[4], 1, 1, 1), kBadShape);
  return kOk;
}

// A weight as it is multiplied with activations of E.
template <class E>
MACL_INLINE real multiplied(real w) {
  if constexpr (is_bf16<E>)
    return bf16(w);
  else
    return w;
}

inline i32 linear_fwd_check(const Args& a) {
  using T = LinearFwd;
  MACL_NEED(are_alike(a, T::x, T::y) && are_real(a, T::w, T::b), kBadDType);
  MACL_NEED(is_channel_vector_or_absent(a.t[T::b], a.t[T::y].s[4]), kBadShape);
  return linear_check_shapes(a.t[T::x], a.t[T::w], a.t[T::y]);
}
inline i32 linear_bwd_x_check(const Args& a) {
  using T = LinearBwdX;
  MACL_NEED(are_alike(a, T::dy, T::dx) && are_real(a, T::w), kBadDType);
  return linear_check_shapes(a.t[T::dx], a.t[T::w], a.t[T::dy]);
}
inline i32 linear_bwd_w_check(const Args& a) {
  using T = LinearBwdW;
  MACL_NEED(are_alike(a, T::x, T::dy) && are_real(a, T::dw, T::db), kBadDType);
  MACL_NEED(is_channel_vector_or_absent(a.t[T::db], a.t[T::dy].s[4]), kBadShape);
  return linear_check_shapes(a.t[T::x], a.t[T::dw], a.t[T::dy]);
}

// linear_fwd: one task a row of y. Writes. Four sums side by side, so that the additions need not wait for each other.
inline i64 linear_fwd_tasks(const Args& a, i32) { return voxels(a.t[LinearFwd::y]); }

template <class E>
inline void linear_fwd_of(const Args& a, i64 begin, i64 end) {
  using T = LinearFwd;
  const Tensor &tx = a.t[T::x], &ty = a.t[T::y];
  const i64 I = tx.s[4], O = ty.s[4];
  const real *w = ptr<const real>(a, T::w), *b = optional_ptr<const real>(a, T::b);
  for (i64 n = begin; n < end; ++n) {
    const E* x = ptr<const E>(a, T::x) + n * tx.ld;
    E* y = ptr<E>(a, T::y) + n * ty.ld;
    for (i64 o = 0; o < O; ++o) {
      const real* wo = w + o * I;
      f64 sum[4] = {b ? f64(b[o]) : 0, 0, 0, 0};
      i64 i = 0;
      for (; i + 4 <= I; i += 4)
        for (int l = 0; l < 4; ++l) sum[l] += f64(x[i + l]) * multiplied<E>(wo[i + l]);
      for (; i < I; ++i) sum[0] += f64(x[i]) * multiplied<E>(wo[i]);
      y[o] = real((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
  }
}
inline i32 linear_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  of_element(a.t[LinearFwd::x], [&]<class E>(E) { linear_fwd_of<E>(a, begin, end); });
  return kOk;
}

// linear_bwd_x: one task a row of dx; writes, or adds where accumulate = 1.
inline i64 linear_bwd_x_tasks(const Args& a, i32) { return voxels(a.t[LinearBwdX::dx]); }

template <class E>
inline void linear_bwd_x_of(const Args& a, i64 begin, i64 end) {
  using T = LinearBwdX;
  const Tensor &tdy = a.t[T::dy], &tdx = a.t[T::dx];
  const i64 I = tdx.s[4], O = tdy.s[4];
  const real* w = ptr<const real>(a, T::w);
  for (i64 n = begin; n < end; ++n) {
    const E* dy = ptr<const E>(a, T::dy) + n * tdy.ld;
    E* dx = ptr<E>(a, T::dx) + n * tdx.ld;
    for (i64 i0 = 0; i0 < I; i0 += 16) {
      const i64 lanes = imin(16, I - i0);
      f64 sum[16] = {};
      for (i64 o = 0; o < O; ++o)
        for (i64 l = 0; l < lanes; ++l) sum[l] += f64(dy[o]) * multiplied<E>(w[o * I + i0 + l]);
      for (i64 l = 0; l < lanes; ++l)
        dx[i0 + l] = attrs<LinearAttrs>(a).accumulate != 0 ? dx[i0 + l] + real(sum[l]) : real(sum[l]);
    }
  }
}
inline i32 linear_bwd_x_run(const Args& a, i32, i64 begin, i64 end) {
  of_element(a.t[LinearBwdX::dy], [&]<class E>(E) { linear_bwd_x_of<E>(a, begin, end); });
  return kOk;
}

// linear_bwd_w: one task an output channel: its row of dw and its element of db; writes, or adds where accumulate = 1.
inline i64 linear_bwd_w_tasks(const Args& a, i32) { return a.t[LinearBwdW::dy].s[4]; }

template <class E>
inline void linear_bwd_w_of(const Args& a, i64 begin, i64 end) {
  using T = LinearBwdW;
  const Tensor &tx = a.t[T::x], &tdy = a.t[T::dy];
  const i64 I = tx.s[4], count = voxels(tx);
  const E *x = ptr<const E>(a, T::x), *dy = ptr<const E>(a, T::dy);
  real *dw = ptr<real>(a, T::dw), *db = optional_ptr<real>(a, T::db);
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
}
inline i32 linear_bwd_w_run(const Args& a, i32, i64 begin, i64 end) {
  of_element(a.t[LinearBwdW::x], [&]<class E>(E) { linear_bwd_w_of<E>(a, begin, end); });
  return kOk;
}

}  // namespace
}  // namespace macl

#define LINEAR_KERNELS                                                                        \
  MACL_KERNEL(linear_fwd, LinearAttrs, 1, linear_fwd_tasks, nullptr, linear_fwd_check),       \
  MACL_KERNEL(linear_bwd_x, LinearAttrs, 1, linear_bwd_x_tasks, nullptr, linear_bwd_x_check), \
  MACL_KERNEL(linear_bwd_w, LinearAttrs, 1, linear_bwd_w_tasks, nullptr, linear_bwd_w_check)
