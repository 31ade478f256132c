// resize3d: trilinear with aligned corners, and its transpose. Equation: native/ops/resize3d.h. x, y, dx, dy may be
// slices of channels. One task is a row along W of the tensor that is written; fwd writes or (accumulate) adds, and so
// does bwd.
#pragma once
#include "../ops/resize3d.h"
#include "math.h"
#include "pool.h"

namespace macl {
namespace {

// The source of output o on one axis: i, and i + 1 with weight f. Whole-number arithmetic, so that f is exactly 0 on
// source points.
struct AxisTap {
  i64 i;
  f64 f;
};
inline AxisTap axis_tap(i64 o, i64 in, i64 out) {
  if (out == 1) return {0, 0};
  const i64 product = o * (in - 1), q = product / (out - 1);
  return {q, static_cast<f64>(product - q * (out - 1)) / static_cast<f64>(out - 1)};
}
// Weight of source i in output o.
inline f64 axis_weight(i64 o, i64 i, i64 in, i64 out) {
  const AxisTap t = axis_tap(o, in, out);
  return t.i == i ? 1 - t.f : (t.i + 1 == i ? t.f : 0);
}
// The outputs o in first … last whose taps may touch source i (a weight of 0 is possible at the ends).
struct AxisRange {
  i64 first, last;
};
inline AxisRange axis_range(i64 i, i64 in, i64 out) {
  if (out == 1) return {0, i == 0 ? 0 : -1};
  if (in == 1) return {0, out - 1};
  return {imax(0, (i - 1) * (out - 1) / (in - 1)), imin(out - 1, cdiv((i + 1) * (out - 1), in - 1))};
}

// Both directions read tensor 0 and write tensor 1.
constexpr int kResizeFrom = 0, kResizeTo = 1;
static_assert(Resize3dFwd::x == kResizeFrom && Resize3dFwd::y == kResizeTo);
static_assert(Resize3dBwd::dy == kResizeFrom && Resize3dBwd::dx == kResizeTo);
inline i32 resize3d_check(const Args& a) {
  const Tensor &x = a.t[kResizeFrom], &y = a.t[kResizeTo];
  MACL_NEED(is_voxels(x) && is_voxels(y) && x.s[0] == y.s[0] && x.s[4] == y.s[4], kBadShape);
  return kOk;
}
inline i64 resize3d_tasks(const Args& a, i32) {
  const Tensor& to = a.t[kResizeTo];
  return to.s[0] * to.s[1] * to.s[2];
}

inline i32 resize3d_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  using T = Resize3dFwd;
  const Tensor &x = a.t[T::x], &y = a.t[T::y];
  const bool add = attrs<Resize3dAttrs>(a).accumulate != 0;
  for (i64 task = begin; task < end; ++task) {
    const i64 h = task % y.s[2], d = task / y.s[2] % y.s[1], n = task / y.s[2] / y.s[1];
    const AxisTap td = axis_tap(d, x.s[1], y.s[1]), th = axis_tap(h, x.s[2], y.s[2]);
    const real* rows[4];
    f64 row_weight[4];
    int count = 0;
    for (int i = 0; i < (td.f != 0 ? 2 : 1); ++i)
      for (int j = 0; j < (th.f != 0 ? 2 : 1); ++j, ++count) {
        rows[count] = ptr<real>(a, T::x) + voxel_at(x, n, td.i + i, th.i + j) * x.ld;
        row_weight[count] = (i ? td.f : 1 - td.f) * (j ? th.f : 1 - th.f);
      }
    real* out = ptr<real>(a, T::y) + task * y.s[3] * y.ld;
    for (i64 w = 0; w < y.s[3]; ++w) {
      const AxisTap tw = axis_tap(w, x.s[3], y.s[3]);
      const real* tap[8];
      real weight[8];
      int taps = 0;
      for (int r = 0; r < count; ++r)
        for (int k = 0; k < (tw.f != 0 ? 2 : 1); ++k, ++taps) {
          tap[taps] = rows[r] + (tw.i + k) * x.ld;
          weight[taps] = static_cast<real>(row_weight[r] * (k ? tw.f : 1 - tw.f));
        }
      real* o = out + w * y.ld;
      lanes(y.s[4], [&]<class V>(i64 c) {
        V sum = load<V>(tap[0] + c) * splat<V>(weight[0]);
        for (int t = 1; t < taps; ++t) sum += load<V>(tap[t] + c) * splat<V>(weight[t]);
        store(o + c, add ? load<V>(o + c) + sum : sum);
      });
    }
  }
  return kOk;
}

// A task's row of dx takes from the rows of dy that touch it, in their order; along W each voxel of dy gives to its two
// taps.
inline i32 resize3d_bwd_run(const Args& a, i32, i64 begin, i64 end) {
  using T = Resize3dBwd;
  const Tensor &dy = a.t[T::dy], &dx = a.t[T::dx];
  const bool add = attrs<Resize3dAttrs>(a).accumulate != 0;
  for (i64 task = begin; task < end; ++task) {
    const i64 h = task % dx.s[2], d = task / dx.s[2] % dx.s[1], n = task / dx.s[2] / dx.s[1];
    const AxisRange rd = axis_range(d, dx.s[1], dy.s[1]), rh = axis_range(h, dx.s[2], dy.s[2]);
    real* out = ptr<real>(a, T::dx) + task * dx.s[3] * dx.ld;
    for (i64 w = 0; w < dx.s[3] && !add; ++w)
      lanes(dx.s[4], [&]<class V>(i64 c) { store(out + w * dx.ld + c, splat<V>(real(0))); });
    for (i64 i = rd.first; i <= rd.last; ++i) {
      const f64 wd = axis_weight(i, d, dx.s[1], dy.s[1]);
      if (wd == 0) continue;
      for (i64 j = rh.first; j <= rh.last; ++j) {
        const f64 wh = wd * axis_weight(j, h, dx.s[2], dy.s[2]);
        if (wh == 0) continue;
        const real* row = ptr<real>(a, T::dy) + voxel_at(dy, n, i, j) * dy.ld;
        for (i64 k = 0; k < dy.s[3]; ++k) {
          const AxisTap tap = axis_tap(k, dx.s[3], dy.s[3]);
          const real near = static_cast<real>(wh * (1 - tap.f)), far = static_cast<real>(wh * tap.f);
          const real* g = row + k * dy.ld;
          real* o = out + tap.i * dx.ld;
          lanes(dx.s[4], [&]<class V>(i64 c) {
            const V v = load<V>(g + c);
            store(o + c, load<V>(o + c) + v * splat<V>(near));
            if (tap.f != 0) store(o + dx.ld + c, load<V>(o + dx.ld + c) + v * splat<V>(far));
          });
        }
      }
    }
  }
  return kOk;
}

#define RESIZE3D_KERNELS                                                                \
  MACL_KERNEL(resize3d_fwd, Resize3dAttrs, 1, resize3d_tasks, nullptr, resize3d_check), \
  MACL_KERNEL(resize3d_bwd, Resize3dAttrs, 1, resize3d_tasks, nullptr, resize3d_check)

}  // namespace
}  // namespace macl
