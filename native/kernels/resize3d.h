// resize3d: trilinear with aligned corners, and its transpose. Equation: native/ops/resize3d.h. x, y, dx, dy may be
// slices of channels, and bf16. One task is a row along W of the tensor that is written; fwd writes or (accumulate) adds, and
// so does bwd.
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
  MACL_NEED(are_alike(a, kResizeFrom, kResizeTo), kBadDType);
  MACL_NEED(is_voxels(x) && is_voxels(y) && x.s[0] == y.s[0] && x.s[4] == y.s[4], kBadShape);
  return kOk;
}
inline i64 resize3d_tasks(const Args& a, i32) {
  const Tensor& to = a.t[kResizeTo];
  return to.s[0] * to.s[1] * to.s[2];
}

template <class E>
inline void resize3d_fwd_of(const Args& a, i64 begin, i64 end) {
  using T = Resize3dFwd;
  const Tensor &x = a.t[T::x], &y = a.t[T::y];
  const bool add = attrs<Resize3dAttrs>(a).accumulate != 0;
  for (i64 task = begin; task < end; ++task) {
    const i64 h = task % y.s[2], d = task / y.s[2] % y.s[1], n = task / y.s[2] / y.s[1];
    const AxisTap td = axis_tap(d, x.s[1], y.s[1]), th = axis_tap(h, x.s[2], y.s[2]);
    const E* rows[4];
    f64 row_weight[4];
    int count = 0;
    for (int i = 0; i < (td.f != 0 ? 2 : 1); ++i)
      for (int j = 0; j < (th.f != 0 ? 2 : 1); ++j, ++count) {
        rows[count] = ptr<E>(a, T::x) + voxel_at(x, n, td.i + i, th.i + j) * x.ld;
        row_weight[count] = (i ? td.f : 1 - td.f) * (j ? th.f : 1 - th.f);
      }
    E* out = ptr<E>(a, T::y) + task * y.s[3] * y.ld;
    for (i64 w = 0; w < y.s[3]; ++w) {
      const AxisTap tw = axis_tap(w, x.s[3], y.s[3]);
      const E* tap[8];
      real weight[8];
      int taps = 0;
      for (int r = 0; r < count; ++r)
        for (int k = 0; k < (tw.f != 0 ? 2 : 1); ++k, ++taps) {
          tap[taps] = rows[r] + (tw.i + k) * x.ld;
          weight[taps] = static_cast<real>(row_weight[r] * (k ? tw.f : 1 - tw.f));
        }
      E* o = out + w * y.ld;
      lanes(y.s[4], [&]<class V>(i64 c) {
        V sum = load<V>(tap[0] + c) * splat<V>(weight[0]);
        for (int t = 1; t < taps; ++t) sum += load<V>(tap[t] + c) * splat<V>(weight[t]);
        store(o + c, add ? load<V>(o + c) + sum : sum);
      });
    }
  }
}
inline i32 resize3d_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  of_element(a.t[Resize3dFwd::x], [&]<class E>(E) { resize3d_fwd_of<E>(a, begin, end); });
  return kOk;
}

// A task's row of dx takes from the rows of dy that touch it, in their order; along W each voxel of dy gives to its two
// taps. Sums lie in the row itself, or (bf16, which would round each of them) on the stack, for a part of the row at a time.
struct ResizePart {
  i64 task, w0, w1, c0, n;  // voxels and channels of the row
};
constexpr i64 kResizeSums = 8192, kResizeChannels = 512;
// Adds what the part gets to its sums; the first is voxel w0's channel c0.
template <class E>
inline void resize3d_bwd_part(const Args& a, const ResizePart& p, real* sums, i64 ld) {
  using T = Resize3dBwd;
  const Tensor &dy = a.t[T::dy], &dx = a.t[T::dx];
  const i64 h = p.task % dx.s[2], d = p.task / dx.s[2] % dx.s[1], n = p.task / dx.s[2] / dx.s[1];
  const AxisRange rd = axis_range(d, dx.s[1], dy.s[1]), rh = axis_range(h, dx.s[2], dy.s[2]);
  const i64 k0 = axis_range(p.w0, dx.s[3], dy.s[3]).first;
  const i64 k1 = dy.s[3] == 1 ? 0 : axis_range(p.w1 - 1, dx.s[3], dy.s[3]).last;
  for (i64 i = rd.first; i <= rd.last; ++i) {
    const f64 wd = axis_weight(i, d, dx.s[1], dy.s[1]);
    if (wd == 0) continue;
    for (i64 j = rh.first; j <= rh.last; ++j) {
      const f64 wh = wd * axis_weight(j, h, dx.s[2], dy.s[2]);
      if (wh == 0) continue;
      const E* row = ptr<E>(a, T::dy) + voxel_at(dy, n, i, j) * dy.ld + p.c0;
      for (i64 k = k0; k <= k1; ++k) {
        const AxisTap tap = axis_tap(k, dx.s[3], dy.s[3]);
        const real near = static_cast<real>(wh * (1 - tap.f)), far = static_cast<real>(wh * tap.f);
        const auto inside = [&](i64 w) { return !is_bf16<E> || (w >= p.w0 && w < p.w1); };
        const bool to_near = inside(tap.i), to_far = tap.f != 0 && inside(tap.i + 1);
        const E* g = row + k * dy.ld;
        real* o = sums + (tap.i - p.w0) * ld;
        lanes(p.n, [&]<class V>(i64 c) {
          const V v = load<V>(g + c);
          if (to_near) store(o + c, load<V>(o + c) + v * splat<V>(near));
          if (to_far) store(o + ld + c, load<V>(o + ld + c) + v * splat<V>(far));
        });
      }
    }
  }
}
template <class E>
inline void resize3d_bwd_row(const Args& a, i64 task) {
  using T = Resize3dBwd;
  const Tensor& dx = a.t[T::dx];
  const bool add = attrs<Resize3dAttrs>(a).accumulate != 0;
  E* out = ptr<E>(a, T::dx) + task * dx.s[3] * dx.ld;
  if constexpr (is_bf16<E>) {
    alignas(64) real sums[kResizeSums];
    for (i64 c0 = 0; c0 < dx.s[4]; c0 += kResizeChannels) {
      const i64 n = imin(kResizeChannels, dx.s[4] - c0), most = kResizeSums / n;
      for (i64 w0 = 0; w0 < dx.s[3]; w0 += most) {
        const i64 w1 = imin(w0 + most, dx.s[3]);
        const auto each = [&](auto f) {
          for (i64 w = w0; w < w1; ++w)
            lanes(n, [&]<class V>(i64 c) { f(sums + (w - w0) * n + c, out + w * dx.ld + c0 + c, V{}); });
        };
        each([&]<class V>(real* s, const E* o, V) { store(s, add ? load<V>(o) : V{}); });
        resize3d_bwd_part<E>(a, {task, w0, w1, c0, n}, sums, n);
        each([&]<class V>(real* s, E* o, V) { store(o, load<V>(s)); });
      }
    }
  } else {
    for (i64 w = 0; w < dx.s[3] && !add; ++w)
      lanes(dx.s[4], [&]<class V>(i64 c) { store(out + w * dx.ld + c, splat<V>(real(0))); });
    resize3d_bwd_part<E>(a, {task, 0, dx.s[3], 0, dx.s[4]}, out, dx.ld);
  }
}
inline i32 resize3d_bwd_run(const Args& a, i32, i64 begin, i64 end) {
  of_element(a.t[Resize3dBwd::dx], [&]<class E>(E) {
    for (i64 task = begin; task < end; ++task) resize3d_bwd_row<E>(a, task);
  });
  return kOk;
}

#define RESIZE3D_KERNELS                                                                \
  MACL_KERNEL(resize3d_fwd, Resize3dAttrs, 1, resize3d_tasks, nullptr, resize3d_check), \
  MACL_KERNEL(resize3d_bwd, Resize3dAttrs, 1, resize3d_tasks, nullptr, resize3d_check)

}  // namespace
}  // namespace macl
