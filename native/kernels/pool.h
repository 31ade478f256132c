// maxpool3d and avgpool. Equations: native/ops/pool.h. x, y, dx, dy of maxpool3d, x and dx of avgpool may be slices of
// channels; all of a call may be bf16. One task is a row of windows, or (avgpool) a chunk of a sample's voxels.
#pragma once
#include "../ops/pool.h"
#include "math.h"

namespace macl {
namespace {

// A row of pooling windows over an input grid: windows beyond the last whole one (odd sizes) are there too, cut short.
struct WindowRow {
  i64 n, d, h;         // sample and window coordinates
  i64 d0, d1, h0, h1;  // rows of the input
  bool whole;          // along D and H
};
inline i64 window_rows(const Tensor& x, i64 sd, i64 sh) { return x.s[0] * cdiv(x.s[1], sd) * cdiv(x.s[2], sh); }
inline WindowRow window_row(const Tensor& x, i64 sd, i64 sh, i64 task) {
  const i64 hs = cdiv(x.s[2], sh), ds = cdiv(x.s[1], sd);
  WindowRow r;
  r.h = task % hs;
  r.d = task / hs % ds;
  r.n = task / hs / ds;
  r.d0 = r.d * sd;
  r.d1 = imin(r.d0 + sd, x.s[1]);
  r.h0 = r.h * sh;
  r.h1 = imin(r.h0 + sh, x.s[2]);
  r.whole = r.d1 - r.d0 == sd && r.h1 - r.h0 == sh;
  return r;
}
inline i64 voxel_at(const Tensor& t, i64 n, i64 d, i64 h) { return ((n * t.s[1] + d) * t.s[2] + h) * t.s[3]; }

inline bool pool_shapes(const Tensor& x, const Tensor& y, i64 sd, i64 sh, i64 sw) {
  return y.s[0] == x.s[0] && y.s[1] == x.s[1] / sd && y.s[2] == x.s[2] / sh && y.s[3] == x.s[3] / sw &&
         y.s[4] == x.s[4];
}
inline bool pool_stride(i64 s) { return s == 1 || s == 2; }

template <int X, int Y>
inline i32 maxpool3d_check_of(const Args& a) {
  const Maxpool3dAttrs& p = attrs<Maxpool3dAttrs>(a);
  MACL_NEED(are_alike(a, X, Y), kBadDType);
  MACL_NEED(pool_stride(p.sd) && pool_stride(p.sh) && pool_stride(p.sw), kBadAttr);
  MACL_NEED(is_voxels(a.t[X]) && is_voxels(a.t[Y]), kBadShape);
  MACL_NEED(pool_shapes(a.t[X], a.t[Y], p.sd, p.sh, p.sw), kBadShape);
  return kOk;
}
inline i32 maxpool3d_fwd_check(const Args& a) { return maxpool3d_check_of<Maxpool3dFwd::x, Maxpool3dFwd::y>(a); }
inline i32 maxpool3d_bwd_check(const Args& a) {
  using T = Maxpool3dBwd;
  MACL_NEED(are_alike(a, T::x, T::dy, T::dx), kBadDType);
  MACL_NEED(is_voxels(a.t[T::dx]) && same_shape(a.t[T::x], a.t[T::dx]), kBadShape);
  return maxpool3d_check_of<T::x, T::dy>(a);
}

inline i64 maxpool3d_fwd_tasks(const Args& a, i32) {
  using T = Maxpool3dFwd;
  return a.t[T::y].s[0] * a.t[T::y].s[1] * a.t[T::y].s[2];
}
template <class E>
inline void maxpool3d_fwd_of(const Args& a, i64 begin, i64 end) {
  using T = Maxpool3dFwd;
  const Maxpool3dAttrs& p = attrs<Maxpool3dAttrs>(a);
  const Tensor &x = a.t[T::x], &y = a.t[T::y];
  const i64 rows = y.s[2], slices = y.s[1];
  for (i64 task = begin; task < end; ++task) {
    const i64 h = task % rows, d = task / rows % slices, n = task / rows / slices;
    E* out = ptr<E>(a, T::y) + task * y.s[3] * y.ld;
    lanes(y.s[4], [&]<class V>(i64 c) {
      for (i64 w = 0; w < y.s[3]; ++w) {
        V best = splat<V>(real(0));
        for (i64 i = 0; i < p.sd; ++i)
          for (i64 j = 0; j < p.sh; ++j) {
            const E* in = ptr<E>(a, T::x) + (voxel_at(x, n, d * p.sd + i, h * p.sh + j) + w * p.sw) * x.ld + c;
            for (i64 k = 0; k < p.sw; ++k) {
              const V v = load<V>(in + k * x.ld);
              best = (i | j | k) == 0 ? v : pool_max(best, v);
            }
          }
        store(out + w * y.ld + c, best);
      }
    });
  }
}
inline i32 maxpool3d_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  of_element(a.t[Maxpool3dFwd::x], [&]<class E>(E) { maxpool3d_fwd_of<E>(a, begin, end); });
  return kOk;
}

// dx [N, D, H, W, C] from x (the forward input) and dy; writes, or adds where accumulate = 1.
inline i64 maxpool3d_bwd_tasks(const Args& a, i32) {
  using T = Maxpool3dBwd;
  const Maxpool3dAttrs& p = attrs<Maxpool3dAttrs>(a);
  return window_rows(a.t[T::x], p.sd, p.sh);
}
template <class E>
inline void maxpool3d_bwd_of(const Args& a, i64 begin, i64 end) {
  using T = Maxpool3dBwd;
  const Maxpool3dAttrs& p = attrs<Maxpool3dAttrs>(a);
  const Tensor &x = a.t[T::x], &dy = a.t[T::dy], &dx = a.t[T::dx];
  const bool add = p.accumulate != 0;
  for (i64 task = begin; task < end; ++task) {
    const WindowRow r = window_row(x, p.sd, p.sh, task);
    const i64 windows = r.whole ? dy.s[3] : 0;
    const E* in[4];
    E* out[4];
    int lines = 0;
    for (i64 d = r.d0; d < r.d1; ++d)
      for (i64 h = r.h0; h < r.h1; ++h, ++lines) {
        in[lines] = ptr<E>(a, T::x) + voxel_at(x, r.n, d, h) * x.ld;
        out[lines] = ptr<E>(a, T::dx) + voxel_at(x, r.n, d, h) * dx.ld;
      }
    const E* grad = r.whole ? ptr<E>(a, T::dy) + voxel_at(dy, r.n, r.d, r.h) * dy.ld : nullptr;
    const i64 sw = p.sw;
    lanes(x.s[4], [&]<class V>(i64 c) {
      const V zero = splat<V>(real(0));
      for (i64 w = 0; w < windows; ++w) {
        V best = load<V>(in[0] + w * sw * x.ld + c), at = zero;
        for (int l = 0; l < lines; ++l)
          for (i64 k = 0; k < sw; ++k) {
            const V v = load<V>(in[l] + (w * sw + k) * x.ld + c);
            const auto better = (v > best) | (v != v);
            best = better ? v : best;
            at = better ? splat<V>(static_cast<real>(l * 2 + k)) : at;
          }
        const V g = load<V>(grad + w * dy.ld + c);
        for (int l = 0; l < lines; ++l)
          for (i64 k = 0; k < sw; ++k) {
            E* o = out[l] + (w * sw + k) * dx.ld + c;
            const V v = at == splat<V>(static_cast<real>(l * 2 + k)) ? g : zero;
            store(o, add ? load<V>(o) + v : v);
          }
      }
      if (!add)
        for (int l = 0; l < lines; ++l)
          for (i64 w = windows * sw; w < x.s[3]; ++w) store(out[l] + w * dx.ld + c, zero);
    });
  }
}
inline i32 maxpool3d_bwd_run(const Args& a, i32, i64 begin, i64 end) {
  of_element(a.t[Maxpool3dBwd::x], [&]<class E>(E) { maxpool3d_bwd_of<E>(a, begin, end); });
  return kOk;
}

// avgpool: phase 0 sums chunks of a sample's voxels into ws (float64 [N, chunks, C]); phase 1 adds them in order.
inline i64 sample_voxels(const Tensor& x) { return x.s[1] * x.s[2] * x.s[3]; }
inline i64 sample_chunks(const Tensor& x) { return cdiv(sample_voxels(x), voxel_chunk(x.s[4])); }
inline i32 avgpool_fwd_check(const Args& a) {
  using T = AvgpoolFwd;
  const Tensor &x = a.t[T::x], &y = a.t[T::y];
  MACL_NEED(are_alike(a, T::x, T::y), kBadDType);
  MACL_NEED(is_voxels(x) && is_voxels(y), kBadShape);
  MACL_NEED(y.s[0] == x.s[0] && sample_voxels(y) == 1 && y.s[4] == x.s[4] && given(a.t[T::ws]), kBadShape);
  return kOk;
}
inline i64 avgpool_fwd_bytes(const Args& a, i32) {
  using T = AvgpoolFwd;
  const Tensor& x = a.t[T::x];
  return x.s[0] * sample_chunks(x) * x.s[4] * 8;
}
inline i64 avgpool_fwd_tasks(const Args& a, i32 phase) {
  using T = AvgpoolFwd;
  return phase == 0 ? a.t[T::x].s[0] * sample_chunks(a.t[T::x]) : a.t[T::x].s[0];
}
template <class E>
inline void avgpool_fwd_of(const Args& a, i32 phase, i64 begin, i64 end) {
  using T = AvgpoolFwd;
  const Tensor &x = a.t[T::x], &y = a.t[T::y];
  const i64 channels = x.s[4], per = sample_voxels(x), chunk = voxel_chunk(channels), chunks = sample_chunks(x);
  f64* ws = ptr<f64>(a, T::ws);
  for (i64 task = begin; task < end; ++task) {
    if (phase == 0) {
      const i64 n = task / chunks, v0 = task % chunks * chunk, rows = imin(chunk, per - v0);
      const E* in = ptr<E>(a, T::x) + (n * per + v0) * x.ld;
      lanes(channels, [&]<class V>(i64 c) {
        V s0 = splat<V>(real(0)), s1 = s0;
        i64 v = 0;
        for (; v + 2 <= rows; v += 2) {
          s0 += load<V>(in + v * x.ld + c);
          s1 += load<V>(in + (v + 1) * x.ld + c);
        }
        if (v < rows) s0 += load<V>(in + v * x.ld + c);
        for (int l = 0; l < Vec<V>::lanes; ++l) ws[task * channels + c + l] = lane(s0, l) + lane(s1, l);
      });
    } else {
      for (i64 c = 0; c < channels; ++c) {
        f64 sum = 0;
        for (i64 k = 0; k < chunks; ++k) sum += ws[(task * chunks + k) * channels + c];
        ptr<E>(a, T::y)[task * y.ld + c] = static_cast<real>(sum / static_cast<f64>(per));
      }
    }
  }
}
inline i32 avgpool_fwd_run(const Args& a, i32 phase, i64 begin, i64 end) {
  of_element(a.t[AvgpoolFwd::x], [&]<class E>(E) { avgpool_fwd_of<E>(a, phase, begin, end); });
  return kOk;
}

inline i32 avgpool_bwd_check(const Args& a) {
  using T = AvgpoolBwd;
  const Tensor &dy = a.t[T::dy], &dx = a.t[T::dx];
  MACL_NEED(are_alike(a, T::dy, T::dx), kBadDType);
  MACL_NEED(is_voxels(dx) && is_voxels(dy), kBadShape);
  MACL_NEED(dy.s[0] == dx.s[0] && sample_voxels(dy) == 1 && dy.s[4] == dx.s[4], kBadShape);
  return kOk;
}
inline i64 avgpool_bwd_tasks(const Args& a, i32) { return a.t[AvgpoolBwd::dx].s[0] * sample_chunks(a.t[AvgpoolBwd::dx]); }
template <class E>
inline void avgpool_bwd_of(const Args& a, i64 begin, i64 end) {
  using T = AvgpoolBwd;
  const Tensor &dy = a.t[T::dy], &dx = a.t[T::dx];
  const bool add = attrs<AvgpoolAttrs>(a).accumulate != 0;
  const i64 per = sample_voxels(dx), chunk = voxel_chunk(dx.s[4]), chunks = sample_chunks(dx);
  for (i64 task = begin; task < end; ++task) {
    const i64 n = task / chunks, v0 = task % chunks * chunk, rows = imin(chunk, per - v0);
    const E* in = ptr<E>(a, T::dy) + n * dy.ld;
    E* out = ptr<E>(a, T::dx) + (n * per + v0) * dx.ld;
    lanes(dx.s[4], [&]<class V>(i64 c) {
      const V g = load<V>(in + c) / splat<V>(static_cast<real>(per));
      for (i64 v = 0; v < rows; ++v) {
        E* o = out + v * dx.ld + c;
        store(o, add ? load<V>(o) + g : g);
      }
    });
  }
}
inline i32 avgpool_bwd_run(const Args& a, i32, i64 begin, i64 end) {
  of_element(a.t[AvgpoolBwd::dx], [&]<class E>(E) { avgpool_bwd_of<E>(a, begin, end); });
  return kOk;
}

#define POOL_KERNELS                                                                                  \
  MACL_KERNEL(maxpool3d_fwd, Maxpool3dAttrs, 1, maxpool3d_fwd_tasks, nullptr, maxpool3d_fwd_check),   \
  MACL_KERNEL(maxpool3d_bwd, Maxpool3dAttrs, 1, maxpool3d_bwd_tasks, nullptr, maxpool3d_bwd_check),   \
  MACL_KERNEL(avgpool_fwd, AvgpoolAttrs, 2, avgpool_fwd_tasks, avgpool_fwd_bytes, avgpool_fwd_check), \
  MACL_KERNEL(avgpool_bwd, AvgpoolAttrs, 1, avgpool_bwd_tasks, nullptr, avgpool_bwd_check)

}  // namespace
}  // namespace macl
