// normact: batch statistics, normalise + activation (+ max-pool), its gradient, running statistics. Equations:
// native/ops/normact.h. Every activation may be a slice of channels; y may lie where x lies, dx where dy lies.
// Forward and backward compute γ·(x − mean)·rstd + β with the same expression, so that they agree on its sign.
#pragma once
#include "../ops/normact.h"
#include "math.h"
#include "pool.h"

namespace macl {
namespace {

// Per-channel numbers for a block of channels, on the stack.
constexpr i64 kNormBlock = 512;
struct NormCoefs {
  alignas(64) real mean[kNormBlock];
  alignas(64) real scale[kNormBlock];  // γ · rstd
  alignas(64) real shift[kNormBlock];  // β
};
inline f64 rstd_of(const Args& a, int var, i64 c, f64 eps) {
  return 1.0 / __builtin_sqrt(static_cast<f64>(ptr<real>(a, var)[c]) + eps);
}
// first: the index of mean; var, gamma, beta follow. Without a norm the coefficients are the identity's.
inline void norm_coefs(const Args& a, int first, i64 c0, i64 n, const NormactAttrs& p, NormCoefs& k) {
  for (i64 i = 0; i < n; ++i) {
    const i64 c = c0 + i;
    k.mean[i] = p.norm ? ptr<real>(a, first)[c] : real(0);
    const f64 gamma = has(a, first + 2) ? static_cast<f64>(ptr<real>(a, first + 2)[c]) : 1.0;
    k.scale[i] = p.norm ? static_cast<real>(gamma * rstd_of(a, first + 1, c, p.eps)) : real(1);
    k.shift[i] = has(a, first + 3) ? ptr<real>(a, first + 3)[c] : real(0);
  }
}
template <class V>
MACL_INLINE V leaky(V v, V slope) {
  return v > splat<V>(real(0)) ? v : v * slope;
}

inline bool is_channel_vector(const Tensor& t, i64 c) { return is_flat(t, c, kReal); }

// ---- statistics: mean [C], var [C] (population) ----
// Phase 0: a chunk's mean and M2 (two passes over it, from its first voxel's value) into ws, float64 [chunks, C, 2].
// Phase 1: combined in order, 16 channels a task.
inline i32 normact_stats_check(const Args& a) {
  const i64 c = a.t[0].s[4];
  MACL_NEED(is_voxels(a.t[0]) && given(a.t[3]), kBadShape);
  MACL_NEED(is_channel_vector(a.t[1], c) && is_channel_vector(a.t[2], c), kBadShape);
  return kOk;
}
inline i64 normact_stats_bytes(const Args& a, i32) { return voxel_chunks(a.t[0]) * a.t[0].s[4] * 16; }
inline i64 normact_stats_tasks(const Args& a, i32 phase) {
  return phase == 0 ? voxel_chunks(a.t[0]) : cdiv(a.t[0].s[4], 16);
}
inline void stats_chunk(const real* x, i64 ld, i64 rows, i64 channels, f64* out) {
  lanes(channels, [&]<class V>(i64 c) {
    const real* p = x + c;
    const V first = load<V>(p);
    V s0 = splat<V>(real(0)), s1 = s0, s2 = s0, s3 = s0;
    i64 v = 0;
    for (; v + 4 <= rows; v += 4) {
      s0 += load<V>(p + v * ld) - first;
      s1 += load<V>(p + (v + 1) * ld) - first;
      s2 += load<V>(p + (v + 2) * ld) - first;
      s3 += load<V>(p + (v + 3) * ld) - first;
    }
    for (; v < rows; ++v) s0 += load<V>(p + v * ld) - first;
    const V offset = ((s0 + s1) + (s2 + s3)) / splat<V>(static_cast<real>(rows));
    V q0 = splat<V>(real(0)), q1 = q0;
    for (v = 0; v + 2 <= rows; v += 2) {
      const V e0 = (load<V>(p + v * ld) - first) - offset, e1 = (load<V>(p + (v + 1) * ld) - first) - offset;
      q0 += e0 * e0;
      q1 += e1 * e1;
    }
    if (v < rows) {
      const V e = (load<V>(p + v * ld) - first) - offset;
      q0 += e * e;
    }
    for (int l = 0; l < Vec<V>::lanes; ++l) {
      out[2 * (c + l)] = lane(first, l) + lane(offset, l);
      out[2 * (c + l) + 1] = lane(q0, l) + lane(q1, l);
    }
  });
}
inline i32 normact_stats_run(const Args& a, i32 phase, i64 begin, i64 end) {
  const Tensor& x = a.t[0];
  const i64 channels = x.s[4], total = voxels(x), chunk = voxel_chunk(channels), chunks = voxel_chunks(x);
  f64* ws = ptr<f64>(a, 3);
  if (phase == 0) {
    for (i64 k = begin; k < end; ++k)
      stats_chunk(ptr<real>(a, 0) + k * chunk * x.ld, x.ld, imin(chunk, total - k * chunk), channels,
                  ws + k * channels * 2);
    return kOk;
  }
  for (i64 c = begin * 16; c < imin(end * 16, channels); ++c) {
    f64 sum = 0, m2 = 0;
    for (i64 k = 0; k < chunks; ++k)
      sum += ws[(k * channels + c) * 2] * static_cast<f64>(imin(chunk, total - k * chunk));
    const f64 mean = sum / static_cast<f64>(total);
    for (i64 k = 0; k < chunks; ++k) {
      const f64 off = ws[(k * channels + c) * 2] - mean;
      m2 += ws[(k * channels + c) * 2 + 1] + off * off * static_cast<f64>(imin(chunk, total - k * chunk));
    }
    ptr<real>(a, 1)[c] = static_cast<real>(mean);
    ptr<real>(a, 2)[c] = static_cast<real>(m2 / static_cast<f64>(total));
  }
  return kOk;
}

// ---- forward: y (and pooled) written ----
inline i32 norm_params_check(const Args& a, int first, i64 c, const NormactAttrs& p) {
  MACL_NEED(p.norm == 0 || p.norm == 1, kBadAttr);
  if (p.norm) {
    for (int i = 0; i < 4; ++i)
      MACL_NEED((i >= 2 && !given(a.t[first + i])) || is_channel_vector(a.t[first + i], c), kBadShape);
  } else {
    for (int i = 0; i < 4; ++i) MACL_NEED(!given(a.t[first + i]), kBadShape);
  }
  return kOk;
}
inline i32 normact_fwd_check(const Args& a) {
  const NormactAttrs& p = attrs<NormactAttrs>(a);
  const Tensor &x = a.t[0], &y = a.t[5], &pooled = a.t[6];
  MACL_NEED(is_voxels(x) && is_voxels(y) && same_shape(x, y), kBadShape);
  if (const i32 s = norm_params_check(a, 1, x.s[4], p)) return s;
  if (given(pooled)) {
    MACL_NEED(pool_stride(p.sd) && pool_stride(p.sh) && pool_stride(p.sw), kBadAttr);
    MACL_NEED(is_voxels(pooled) && pool_shapes(x, pooled, p.sd, p.sh, p.sw), kBadShape);
  }
  return kOk;
}
inline i64 normact_fwd_tasks(const Args& a, i32) {
  const NormactAttrs& p = attrs<NormactAttrs>(a);
  return given(a.t[6]) ? window_rows(a.t[0], p.sd, p.sh) : voxel_chunks(a.t[0]);
}
inline void normact_rows(const real* x, i64 ldx, real* y, i64 ldy, i64 rows, i64 channels, const NormCoefs& k,
                         f64 slope) {
  lanes(channels, [&]<class V>(i64 c) {
    const V mean = load<V>(k.mean + c), scale = load<V>(k.scale + c), shift = load<V>(k.shift + c);
    const V leak = splat<V>(slope);
    for (i64 v = 0; v < rows; ++v)
      store(y + v * ldy + c, leaky((load<V>(x + v * ldx + c) - mean) * scale + shift, leak));
  });
}
// One row of pooling windows: reads, writes y, and keeps each window's maximum.
inline void normact_pooled(const Args& a, const WindowRow& r, i64 c0, i64 channels, const NormCoefs& k,
                           const NormactAttrs& p) {
  const Tensor &x = a.t[0], &y = a.t[5], &pooled = a.t[6];
  const i64 windows = r.whole ? pooled.s[3] : 0, sw = p.sw;
  const real* in[4];
  real* out[4];
  int lines = 0;
  for (i64 d = r.d0; d < r.d1; ++d)
    for (i64 h = r.h0; h < r.h1; ++h, ++lines) {
      in[lines] = ptr<real>(a, 0) + voxel_at(x, r.n, d, h) * x.ld + c0;
      out[lines] = ptr<real>(a, 5) + voxel_at(x, r.n, d, h) * y.ld + c0;
    }
  real* best_row = r.whole ? ptr<real>(a, 6) + voxel_at(pooled, r.n, r.d, r.h) * pooled.ld + c0 : nullptr;
  lanes(channels, [&]<class V>(i64 c) {
    const V mean = load<V>(k.mean + c), scale = load<V>(k.scale + c), shift = load<V>(k.shift + c);
    const V leak = splat<V>(p.slope);
    for (i64 w = 0; w < windows; ++w) {
      V best = leak;
      for (int l = 0; l < lines; ++l)
        for (i64 j = 0; j < sw; ++j) {
          const i64 at = w * sw + j;
          const V v = leaky((load<V>(in[l] + at * x.ld + c) - mean) * scale + shift, leak);
          store(out[l] + at * y.ld + c, v);
          best = (l | j) == 0 ? v : pool_max(best, v);
        }
      store(best_row + w * pooled.ld + c, best);
    }
  });
  const i64 rest = windows * sw;
  for (int l = 0; l < lines; ++l)
    normact_rows(in[l] + rest * x.ld, x.ld, out[l] + rest * y.ld, y.ld, x.s[3] - rest, channels, k, p.slope);
}
inline i32 normact_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  const NormactAttrs& p = attrs<NormactAttrs>(a);
  const Tensor &x = a.t[0], &y = a.t[5];
  const i64 total = voxels(x), chunk = voxel_chunk(x.s[4]);
  if (begin >= end) return kOk;
  NormCoefs k;
  for (i64 c0 = 0; c0 < x.s[4]; c0 += kNormBlock) {
    const i64 n = imin(kNormBlock, x.s[4] - c0);
    norm_coefs(a, 1, c0, n, p, k);
    for (i64 task = begin; task < end; ++task) {
      if (given(a.t[6])) {
        normact_pooled(a, window_row(x, p.sd, p.sh, task), c0, n, k, p);
      } else {
        const i64 v0 = task * chunk;
        normact_rows(ptr<real>(a, 0) + v0 * x.ld + c0, x.ld, ptr<real>(a, 5) + v0 * y.ld + c0, y.ld,
                     imin(chunk, total - v0), n, k, p.slope);
      }
    }
  }
  return kOk;
}

// ---- backward ----
// Phase 0: a chunk's Σg and Σg·(x − mean) with g = dy · act' into ws, float64 [chunks, C, 2] (g unscaled by γ).
// Phase 1: both combined in order into the C pairs at the end of ws; dgamma, dbeta (added where accumulate = 1).
// Phase 2: dx = γ·rstd·(g − Σg/n − (x − mean)·rstd²·Σg(x − mean)/n), written or (accumulateX) added.
// Without a norm only phase 2 has work: dx = g.
inline i32 normact_bwd_check(const Args& a) {
  const NormactAttrs& p = attrs<NormactAttrs>(a);
  const Tensor &dy = a.t[0], &x = a.t[1], &dx = a.t[6];
  MACL_NEED(is_voxels(dy) && is_voxels(x) && is_voxels(dx), kBadShape);
  MACL_NEED(same_shape(x, dy) && same_shape(x, dx), kBadShape);
  if (const i32 s = norm_params_check(a, 2, x.s[4], p)) return s;
  for (int i = 7; i < 9; ++i) MACL_NEED(!given(a.t[i]) || (p.norm && is_channel_vector(a.t[i], x.s[4])), kBadShape);
  MACL_NEED(!p.norm || given(a.t[9]), kBadShape);
  return kOk;
}
inline i64 normact_bwd_bytes(const Args& a, i32) { return (voxel_chunks(a.t[0]) + 1) * a.t[0].s[4] * 16; }
inline i64 normact_bwd_tasks(const Args& a, i32 phase) {
  const bool norm = attrs<NormactAttrs>(a).norm != 0;
  if (phase == 2) return voxel_chunks(a.t[0]);
  if (!norm) return 0;
  return phase == 0 ? voxel_chunks(a.t[0]) : cdiv(a.t[0].s[4], 16);
}
template <class V>
MACL_INLINE V masked(V dy, V pre, V slope) {
  return pre > splat<V>(real(0)) ? dy : dy * slope;
}
inline void normact_bwd_sums(const real* dy, i64 lddy, const real* x, i64 ldx, i64 rows, i64 channels,
                             const NormCoefs& k, f64 slope, f64* out) {
  lanes(channels, [&]<class V>(i64 c) {
    const V mean = load<V>(k.mean + c), scale = load<V>(k.scale + c), shift = load<V>(k.shift + c);
    const V leak = splat<V>(slope);
    V g0 = splat<V>(real(0)), g1 = g0, h0 = g0, h1 = g0;
    i64 v = 0;
    for (; v + 2 <= rows; v += 2) {
      const V e0 = load<V>(x + v * ldx + c) - mean, e1 = load<V>(x + (v + 1) * ldx + c) - mean;
      const V d0 = masked(load<V>(dy + v * lddy + c), e0 * scale + shift, leak);
      const V d1 = masked(load<V>(dy + (v + 1) * lddy + c), e1 * scale + shift, leak);
      g0 += d0;
      g1 += d1;
      h0 += d0 * e0;
      h1 += d1 * e1;
    }
    if (v < rows) {
      const V e = load<V>(x + v * ldx + c) - mean;
      const V d = masked(load<V>(dy + v * lddy + c), e * scale + shift, leak);
      g0 += d;
      h0 += d * e;
    }
    for (int l = 0; l < Vec<V>::lanes; ++l) {
      out[2 * (c + l)] = lane(g0, l) + lane(g1, l);
      out[2 * (c + l) + 1] = lane(h0, l) + lane(h1, l);
    }
  });
}
struct NormBwdCoefs {
  alignas(64) real k1[kNormBlock];  // γ·rstd·Σg/n
  alignas(64) real k2[kNormBlock];  // γ·rstd³·Σg(x − mean)/n
};
inline void normact_bwd_rows(const real* dy, i64 lddy, const real* x, i64 ldx, real* dx, i64 lddx, i64 rows,
                             i64 channels, const NormCoefs& k, const NormBwdCoefs& b, f64 slope, bool add) {
  lanes(channels, [&]<class V>(i64 c) {
    const V mean = load<V>(k.mean + c), scale = load<V>(k.scale + c), shift = load<V>(k.shift + c);
    const V k1 = load<V>(b.k1 + c), k2 = load<V>(b.k2 + c), leak = splat<V>(slope);
    for (i64 v = 0; v < rows; ++v) {
      const V e = load<V>(x + v * ldx + c) - mean;
      const V g = masked(load<V>(dy + v * lddy + c), e * scale + shift, leak);
      const V r = (g * scale - k1) - e * k2;
      real* o = dx + v * lddx + c;
      store(o, add ? load<V>(o) + r : r);
    }
  });
}
inline void normact_bwd_combine(const Args& a, i64 c) {
  const NormactAttrs& p = attrs<NormactAttrs>(a);
  const i64 channels = a.t[0].s[4], chunks = voxel_chunks(a.t[0]);
  f64* ws = ptr<f64>(a, 9);
  f64 g = 0, h = 0;
  for (i64 k = 0; k < chunks; ++k) {
    g += ws[(k * channels + c) * 2];
    h += ws[(k * channels + c) * 2 + 1];
  }
  ws[(chunks * channels + c) * 2] = g;
  ws[(chunks * channels + c) * 2 + 1] = h;
  const f64 dgamma = h * rstd_of(a, 3, c, p.eps);
  if (has(a, 7)) {
    real& o = ptr<real>(a, 7)[c];
    o = static_cast<real>(p.accumulate ? o + dgamma : dgamma);
  }
  if (has(a, 8)) {
    real& o = ptr<real>(a, 8)[c];
    o = static_cast<real>(p.accumulate ? o + g : g);
  }
}
inline i32 normact_bwd_run(const Args& a, i32 phase, i64 begin, i64 end) {
  const NormactAttrs& p = attrs<NormactAttrs>(a);
  const Tensor &dy = a.t[0], &x = a.t[1], &dx = a.t[6];
  const i64 channels = x.s[4], total = voxels(x), chunk = voxel_chunk(channels), chunks = voxel_chunks(x);
  if (begin >= end) return kOk;
  if (phase == 1) {
    for (i64 c = begin * 16; c < imin(end * 16, channels); ++c) normact_bwd_combine(a, c);
    return kOk;
  }
  NormCoefs k;
  NormBwdCoefs b;
  for (i64 c0 = 0; c0 < channels; c0 += kNormBlock) {
    const i64 n = imin(kNormBlock, channels - c0);
    norm_coefs(a, 2, c0, n, p, k);
    if (phase == 2) {
      for (i64 i = 0; i < n; ++i) {
        b.k1[i] = b.k2[i] = real(0);
        if (!p.norm) continue;
        const f64* sums = ptr<f64>(a, 9) + (chunks * channels + c0 + i) * 2;
        const f64 rstd = rstd_of(a, 3, c0 + i, p.eps);
        const f64 gamma = has(a, 4) ? static_cast<f64>(ptr<real>(a, 4)[c0 + i]) : 1.0;
        b.k1[i] = static_cast<real>(gamma * rstd * sums[0] / static_cast<f64>(total));
        b.k2[i] = static_cast<real>(gamma * rstd * rstd * rstd * sums[1] / static_cast<f64>(total));
      }
    }
    for (i64 task = begin; task < end; ++task) {
      const i64 v0 = task * chunk, rows = imin(chunk, total - v0);
      const real* dyp = ptr<real>(a, 0) + v0 * dy.ld + c0;
      const real* xp = ptr<real>(a, 1) + v0 * x.ld + c0;
      if (phase == 0)
        normact_bwd_sums(dyp, dy.ld, xp, x.ld, rows, n, k, p.slope, ptr<f64>(a, 9) + (task * channels + c0) * 2);
      else
        normact_bwd_rows(dyp, dy.ld, xp, x.ld, ptr<real>(a, 6) + v0 * dx.ld + c0, dx.ld, rows, n, k, b, p.slope,
                         p.accumulateX != 0);
    }
  }
  return kOk;
}

// ---- running statistics (commit) ----
inline i32 normact_running_check(const Args& a) {
  const i64 c = elements(a.t[0]);
  for (int i = 0; i < 4; ++i) MACL_NEED(is_channel_vector(a.t[i], c), kBadShape);
  return kOk;
}
inline i64 normact_running_tasks(const Args&, i32) { return 1; }
inline i32 normact_running_run(const Args& a, i32, i64 begin, i64 end) {
  if (begin >= end) return kOk;
  const NormactRunningAttrs& p = attrs<NormactRunningAttrs>(a);
  const f64 unbiased = p.count > 1 ? p.count / (p.count - 1) : 1.0;
  for (i64 c = 0; c < elements(a.t[0]); ++c) {
    real &rm = ptr<real>(a, 2)[c], &rv = ptr<real>(a, 3)[c];
    const f64 mean = ptr<real>(a, 0)[c], var = static_cast<f64>(ptr<real>(a, 1)[c]) * unbiased;
    rm = static_cast<real>((1 - p.momentum) * static_cast<f64>(rm) + p.momentum * mean);
    rv = static_cast<real>((1 - p.momentum) * static_cast<f64>(rv) + p.momentum * var);
  }
  return kOk;
}

#define NORMACT_KERNELS                                                                                            \
  MACL_KERNEL(normact_stats, NormactStatsAttrs, 2, normact_stats_tasks, normact_stats_bytes, normact_stats_check), \
  MACL_KERNEL(normact_fwd, NormactAttrs, 1, normact_fwd_tasks, nullptr, normact_fwd_check),                        \
  MACL_KERNEL(normact_bwd, NormactAttrs, 3, normact_bwd_tasks, normact_bwd_bytes, normact_bwd_check),              \
  MACL_KERNEL(normact_running, NormactRunningAttrs, 1, normact_running_tasks, nullptr, normact_running_check)

}  // namespace
}  // namespace macl
