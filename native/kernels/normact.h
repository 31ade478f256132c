// normact: statistics, normalise + activation (+ max-pool), its gradient, running statistics. Equations:
// native/ops/normact.h. Every activation may be a slice of channels, and bf16; y may lie where x lies, dx where dy lies.
// Forward and backward compute γ·(x − mean)·rstd + β with the same expression, so that they agree on its sign.
#pragma once
#include "../ops/normact.h"
#include "math.h"
#include "pool.h"

namespace macl {
namespace {

// Where the statistics and parameters of a call stand among its tensors.
struct NormPlaces {
  int mean, var, gamma, beta;
};

// The groups that statistics are taken over, and their voxels in chunks: one group of all samples, or one a sample.
struct NormGroups {
  i64 count, voxels, chunk, chunks;  // chunks of one group
  i64 tasks() const { return count * chunks; }
};
struct NormChunk {
  i64 group, first, rows;  // first: a voxel of the whole tensor
};
inline NormGroups norm_groups(const Tensor& x, i64 count) {
  const i64 size = voxels(x) / count, chunk = voxel_chunk(x.s[4]);
  return {count, size, chunk, cdiv(size, chunk)};
}
// By the number of numbers in mean; absent: one group.
inline NormGroups norm_groups(const Tensor& x, const Tensor& mean) {
  return norm_groups(x, given(mean) ? elements(mean) / x.s[4] : 1);
}
inline NormChunk norm_chunk(const NormGroups& g, i64 task) {
  const i64 group = task / g.chunks, first = task % g.chunks * g.chunk;
  return {group, group * g.voxels + first, imin(g.chunk, g.voxels - first)};
}
// Statistics of one group, or of one a sample.
inline bool is_statistic(const Tensor& t, const Tensor& x) {
  return is_flat(t, x.s[4], kReal) || is_flat(t, x.s[0] * x.s[4], kReal);
}

// Per-channel numbers for a block of channels of one group, on the stack.
constexpr i64 kNormBlock = 512;
struct NormCoefs {
  alignas(64) real mean[kNormBlock];
  alignas(64) real scale[kNormBlock];  // γ · rstd
  alignas(64) real shift[kNormBlock];  // β
};
inline f64 rstd_of(const real* var, f64 eps) { return 1.0 / __builtin_sqrt(static_cast<f64>(*var) + eps); }
// Channels c0 … c0 + n − 1 of one group of `channels`. Without a norm the coefficients are the identity's.
inline void norm_coefs(const Args& a, const NormPlaces& t, bool norm, f64 eps, i64 group, i64 channels, i64 c0, i64 n,
                       NormCoefs& k) {
  const real *mean = ptr<real>(a, t.mean) + group * channels, *var = ptr<real>(a, t.var) + group * channels;
  for (i64 i = 0; i < n; ++i) {
    const i64 c = c0 + i;
    k.mean[i] = norm ? mean[c] : real(0);
    const f64 gamma = has(a, t.gamma) ? static_cast<f64>(ptr<real>(a, t.gamma)[c]) : 1.0;
    k.scale[i] = norm ? static_cast<real>(gamma * rstd_of(var + c, eps)) : real(1);
    k.shift[i] = has(a, t.beta) ? ptr<real>(a, t.beta)[c] : real(0);
  }
}
template <class V>
MACL_INLINE V leaky(V v, V slope) {
  return v > splat<V>(real(0)) ? v : v * slope;
}

// ---- statistics: mean, var (population) ----
// Phase 0: a chunk's mean and M2 (two passes over it, from its first voxel's value) into ws, float64 [groups · chunks, C, 2].
// Phase 1: combined in order, 16 channels of one group a task.
inline i32 normact_stats_check(const Args& a) {
  using T = NormactStats;
  MACL_NEED(is_voxels(a.t[T::x]) && given(a.t[T::ws]), kBadShape);
  MACL_NEED(is_statistic(a.t[T::mean], a.t[T::x]), kBadShape);
  MACL_NEED(is_channel_vector(a.t[T::var], elements(a.t[T::mean])), kBadShape);
  return kOk;
}
inline NormGroups normact_stats_groups(const Args& a) {
  return norm_groups(a.t[NormactStats::x], a.t[NormactStats::mean]);
}
inline i64 normact_stats_bytes(const Args& a, i32) {
  const Tensor &x = a.t[NormactStats::x], &mean = a.t[NormactStats::mean];
  // Sizes are asked before anything is checked.
  if (!is_voxels(x) || !is_statistic(mean, x)) return -1;
  return normact_stats_groups(a).tasks() * x.s[4] * 16;
}
inline i64 normact_stats_tasks(const Args& a, i32 phase) {
  const NormGroups g = normact_stats_groups(a);
  return phase == 0 ? g.tasks() : g.count * cdiv(a.t[NormactStats::x].s[4], 16);
}
template <class E>
inline void stats_chunk(const E* x, i64 ld, i64 rows, i64 channels, f64* out) {
  lanes(channels, [&]<class V>(i64 c) {
    const E* p = x + c;
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
  using T = NormactStats;
  const Tensor& x = a.t[T::x];
  const NormGroups g = normact_stats_groups(a);
  const i64 channels = x.s[4];
  if (phase == 0) {
    of_element(x, [&]<class E>(E) {
      for (i64 k = begin; k < end; ++k) {
        const NormChunk at = norm_chunk(g, k);
        stats_chunk(ptr<E>(a, T::x) + at.first * x.ld, x.ld, at.rows, channels, ptr<f64>(a, T::ws) + k * channels * 2);
      }
    });
    return kOk;
  }
  const i64 blocks = cdiv(channels, 16);
  for (i64 task = begin; task < end; ++task) {
    const i64 group = task / blocks, c0 = task % blocks * 16;
    const f64* ws = ptr<f64>(a, T::ws) + group * g.chunks * channels * 2;
    for (i64 c = c0; c < imin(c0 + 16, channels); ++c) {
      f64 sum = 0, m2 = 0;
      for (i64 k = 0; k < g.chunks; ++k)
        sum += ws[(k * channels + c) * 2] * static_cast<f64>(imin(g.chunk, g.voxels - k * g.chunk));
      const f64 mean = sum / static_cast<f64>(g.voxels);
      for (i64 k = 0; k < g.chunks; ++k) {
        const f64 off = ws[(k * channels + c) * 2] - mean;
        m2 += ws[(k * channels + c) * 2 + 1] + off * off * static_cast<f64>(imin(g.chunk, g.voxels - k * g.chunk));
      }
      ptr<real>(a, T::mean)[group * channels + c] = static_cast<real>(mean);
      ptr<real>(a, T::var)[group * channels + c] = static_cast<real>(m2 / static_cast<f64>(g.voxels));
    }
  }
  return kOk;
}

// ---- forward: y (and pooled) written ----
inline i32 norm_params_check(const Args& a, const NormPlaces& t, const Tensor& x, i64 norm) {
  MACL_NEED(norm == kNoNorm || norm == kOwnNorm || norm == kGivenNorm, kBadAttr);
  const Tensor &mean = a.t[t.mean], &var = a.t[t.var], &gamma = a.t[t.gamma], &beta = a.t[t.beta];
  if (norm == kNoNorm) {
    MACL_NEED(!given(mean) && !given(var) && !given(gamma) && !given(beta), kBadShape);
    return kOk;
  }
  MACL_NEED(is_statistic(mean, x) && is_channel_vector(var, elements(mean)), kBadShape);
  MACL_NEED(is_channel_vector_or_absent(gamma, x.s[4]) && is_channel_vector_or_absent(beta, x.s[4]), kBadShape);
  return kOk;
}
constexpr NormPlaces kFwdPlaces = {NormactFwd::mean, NormactFwd::var, NormactFwd::gamma, NormactFwd::beta};
inline i32 normact_fwd_check(const Args& a) {
  using T = NormactFwd;
  const NormactFwdAttrs& p = attrs<NormactFwdAttrs>(a);
  const Tensor &x = a.t[T::x], &y = a.t[T::y], &pooled = a.t[T::pooled];
  MACL_NEED(are_alike(a, T::x, T::y, T::pooled), kBadDType);
  MACL_NEED(is_voxels(x) && is_voxels(y) && same_shape(x, y), kBadShape);
  MACL_NEED_OK(norm_params_check(a, kFwdPlaces, x, p.norm));
  if (given(pooled)) {
    MACL_NEED(pool_stride(p.sd) && pool_stride(p.sh) && pool_stride(p.sw), kBadAttr);
    MACL_NEED(is_voxels(pooled) && pool_shapes(x, pooled, p.sd, p.sh, p.sw), kBadShape);
  }
  return kOk;
}
inline i64 normact_fwd_tasks(const Args& a, i32) {
  using T = NormactFwd;
  const NormactFwdAttrs& p = attrs<NormactFwdAttrs>(a);
  if (given(a.t[T::pooled])) return window_rows(a.t[T::x], p.sd, p.sh);
  return norm_groups(a.t[T::x], a.t[T::mean]).tasks();
}
template <class E>
inline void normact_rows(const E* x, i64 ldx, E* y, i64 ldy, i64 rows, i64 channels, const NormCoefs& k, f64 slope) {
  lanes(channels, [&]<class V>(i64 c) {
    const V mean = load<V>(k.mean + c), scale = load<V>(k.scale + c), shift = load<V>(k.shift + c);
    const V leak = splat<V>(slope);
    for (i64 v = 0; v < rows; ++v)
      store(y + v * ldy + c, leaky((load<V>(x + v * ldx + c) - mean) * scale + shift, leak));
  });
}
// One row of pooling windows: reads, writes y, and keeps each window's maximum. Rounding keeps the order, so that the maximum,
// rounded where it is stored, is that of the rounded numbers in y.
template <class E>
inline void normact_pooled(const Args& a, const WindowRow& r, i64 c0, i64 channels, const NormCoefs& k,
                           const NormactFwdAttrs& p) {
  using T = NormactFwd;
  const Tensor &x = a.t[T::x], &y = a.t[T::y], &pooled = a.t[T::pooled];
  const i64 windows = r.whole ? pooled.s[3] : 0, sw = p.sw;
  const E* in[4];
  E* out[4];
  int lines = 0;
  for (i64 d = r.d0; d < r.d1; ++d)
    for (i64 h = r.h0; h < r.h1; ++h, ++lines) {
      in[lines] = ptr<E>(a, T::x) + voxel_at(x, r.n, d, h) * x.ld + c0;
      out[lines] = ptr<E>(a, T::y) + voxel_at(x, r.n, d, h) * y.ld + c0;
    }
  E* best_row = r.whole ? ptr<E>(a, T::pooled) + voxel_at(pooled, r.n, r.d, r.h) * pooled.ld + c0 : nullptr;
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
template <class E>
inline void normact_fwd_of(const Args& a, i64 begin, i64 end) {
  using T = NormactFwd;
  const NormactFwdAttrs& p = attrs<NormactFwdAttrs>(a);
  const Tensor &x = a.t[T::x], &y = a.t[T::y];
  const NormGroups g = norm_groups(x, a.t[T::mean]);
  const bool pooled = given(a.t[T::pooled]);
  NormCoefs k;
  for (i64 c0 = 0; c0 < x.s[4]; c0 += kNormBlock) {
    const i64 n = imin(kNormBlock, x.s[4] - c0);
    i64 group = -1;  // whose coefficients k holds
    const auto coefs_of = [&](i64 wanted) {
      if (wanted != group) norm_coefs(a, kFwdPlaces, p.norm != kNoNorm, p.eps, group = wanted, x.s[4], c0, n, k);
    };
    for (i64 task = begin; task < end; ++task) {
      if (pooled) {
        const WindowRow row = window_row(x, p.sd, p.sh, task);
        coefs_of(g.count == 1 ? 0 : row.n);
        normact_pooled<E>(a, row, c0, n, k, p);
      } else {
        const NormChunk at = norm_chunk(g, task);
        coefs_of(at.group);
        normact_rows(ptr<E>(a, T::x) + at.first * x.ld + c0, x.ld, ptr<E>(a, T::y) + at.first * y.ld + c0, y.ld,
                     at.rows, n, k, p.slope);
      }
    }
  }
}
inline i32 normact_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  of_element(a.t[NormactFwd::x], [&]<class E>(E) { normact_fwd_of<E>(a, begin, end); });
  return kOk;
}

// ---- sums of the backward pass ----
// Phase 0: a chunk's Σg and Σg·(x − mean) with g = dy · act' into ws, float64 [groups · chunks, C, 2] (g unscaled by γ).
// Phase 1: both combined in order into sums, 16 channels of all groups a task; dgamma, dbeta (added where accumulate = 1).
constexpr NormPlaces kSumsPlaces = {NormactSums::mean, NormactSums::var, NormactSums::gamma, NormactSums::beta};
inline NormGroups normact_sums_groups(const Args& a) { return norm_groups(a.t[NormactSums::x], a.t[NormactSums::mean]); }
inline i32 normact_sums_check(const Args& a) {
  using T = NormactSums;
  const Tensor &dy = a.t[T::dy], &x = a.t[T::x], &dgamma = a.t[T::dgamma], &dbeta = a.t[T::dbeta];
  MACL_NEED(are_alike(a, T::dy, T::x), kBadDType);
  MACL_NEED(is_voxels(dy) && is_voxels(x) && same_shape(x, dy), kBadShape);
  MACL_NEED_OK(norm_params_check(a, kSumsPlaces, x, kOwnNorm));
  MACL_NEED(is_flat(a.t[T::sums], 2 * elements(a.t[T::mean]), kF64), kBadShape);
  MACL_NEED(is_channel_vector_or_absent(dgamma, x.s[4]) && is_channel_vector_or_absent(dbeta, x.s[4]), kBadShape);
  MACL_NEED(given(a.t[T::ws]), kBadShape);
  return kOk;
}
inline i64 normact_sums_bytes(const Args& a, i32) {
  const Tensor& x = a.t[NormactSums::x];
  if (!is_voxels(x) || !is_statistic(a.t[NormactSums::mean], x)) return -1;
  return normact_sums_groups(a).tasks() * x.s[4] * 16;
}
inline i64 normact_sums_tasks(const Args& a, i32 phase) {
  return phase == 0 ? normact_sums_groups(a).tasks() : cdiv(a.t[NormactSums::x].s[4], 16);
}
template <class V>
MACL_INLINE V masked(V dy, V pre, V slope) {
  return pre > splat<V>(real(0)) ? dy : dy * slope;
}
template <class E>
inline void normact_sums_chunk(const E* dy, i64 lddy, const E* x, i64 ldx, i64 rows, i64 channels, const NormCoefs& k,
                               f64 slope, f64* out) {
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
inline void normact_sums_combine(const Args& a, const NormGroups& n, i64 c) {
  using T = NormactSums;
  const NormactSumsAttrs& p = attrs<NormactSumsAttrs>(a);
  const i64 channels = a.t[T::x].s[4];
  f64 dgamma = 0, dbeta = 0;
  for (i64 group = 0; group < n.count; ++group) {
    const f64* ws = ptr<f64>(a, T::ws) + group * n.chunks * channels * 2;
    f64 g = 0, h = 0;
    for (i64 k = 0; k < n.chunks; ++k) {
      g += ws[(k * channels + c) * 2];
      h += ws[(k * channels + c) * 2 + 1];
    }
    const i64 at = group * channels + c;
    ptr<f64>(a, T::sums)[at * 2] = g;
    ptr<f64>(a, T::sums)[at * 2 + 1] = h;
    const f64 own = h * rstd_of(ptr<real>(a, T::var) + at, p.eps);
    dgamma = group == 0 ? own : dgamma + own;
    dbeta = group == 0 ? g : dbeta + g;
  }
  if (has(a, T::dgamma)) {
    real& o = ptr<real>(a, T::dgamma)[c];
    o = static_cast<real>(p.accumulate ? o + dgamma : dgamma);
  }
  if (has(a, T::dbeta)) {
    real& o = ptr<real>(a, T::dbeta)[c];
    o = static_cast<real>(p.accumulate ? o + dbeta : dbeta);
  }
}
template <class E>
inline i32 normact_sums_of(const Args& a, i32 phase, i64 begin, i64 end) {
  using T = NormactSums;
  const NormactSumsAttrs& p = attrs<NormactSumsAttrs>(a);
  const Tensor &dy = a.t[T::dy], &x = a.t[T::x];
  const NormGroups g = normact_sums_groups(a);
  const i64 channels = x.s[4];
  if (phase == 1) {
    for (i64 c = begin * 16; c < imin(end * 16, channels); ++c) normact_sums_combine(a, g, c);
    return kOk;
  }
  NormCoefs k;
  for (i64 c0 = 0; c0 < channels; c0 += kNormBlock) {
    const i64 n = imin(kNormBlock, channels - c0);
    i64 group = -1;
    for (i64 task = begin; task < end; ++task) {
      const NormChunk at = norm_chunk(g, task);
      if (at.group != group) norm_coefs(a, kSumsPlaces, true, p.eps, group = at.group, channels, c0, n, k);
      normact_sums_chunk(ptr<E>(a, T::dy) + at.first * dy.ld + c0, dy.ld, ptr<E>(a, T::x) + at.first * x.ld + c0, x.ld,
                         at.rows, n, k, p.slope, ptr<f64>(a, T::ws) + (task * channels + c0) * 2);
    }
  }
  return kOk;
}
inline i32 normact_sums_run(const Args& a, i32 phase, i64 begin, i64 end) {
  return of_element(a.t[NormactSums::x], [&]<class E>(E) { return normact_sums_of<E>(a, phase, begin, end); });
}

// ---- backward: dx written, or added (accumulateX) ----
constexpr NormPlaces kBwdPlaces = {NormactBwd::mean, NormactBwd::var, NormactBwd::gamma, NormactBwd::beta};
inline i32 normact_bwd_check(const Args& a) {
  using T = NormactBwd;
  const NormactBwdAttrs& p = attrs<NormactBwdAttrs>(a);
  const Tensor &dy = a.t[T::dy], &x = a.t[T::x], &dx = a.t[T::dx];
  MACL_NEED(are_alike(a, T::dy, T::x, T::dx), kBadDType);
  MACL_NEED(is_voxels(dy) && is_voxels(x) && is_voxels(dx), kBadShape);
  MACL_NEED(same_shape(x, dy) && same_shape(x, dx), kBadShape);
  MACL_NEED_OK(norm_params_check(a, kBwdPlaces, x, p.norm));
  if (p.norm != kOwnNorm) return kOk;
  MACL_NEED(is_flat(a.t[T::sums], 2 * elements(a.t[T::mean]), kF64), kBadShape);
  MACL_NEED(p.count >= 1, kBadAttr);
  return kOk;
}
inline i64 normact_bwd_tasks(const Args& a, i32) { return norm_groups(a.t[NormactBwd::x], a.t[NormactBwd::mean]).tasks(); }
struct NormBwdCoefs {
  alignas(64) real k1[kNormBlock];  // γ·rstd·Σg/n; 0 where the statistics are none of this x's
  alignas(64) real k2[kNormBlock];  // γ·rstd³·Σg(x − mean)/n
};
template <class E>
inline void normact_bwd_rows(const E* dy, i64 lddy, const E* x, i64 ldx, E* dx, i64 lddx, i64 rows, i64 channels,
                             const NormCoefs& k, const NormBwdCoefs& b, f64 slope, bool add) {
  lanes(channels, [&]<class V>(i64 c) {
    const V mean = load<V>(k.mean + c), scale = load<V>(k.scale + c), shift = load<V>(k.shift + c);
    const V k1 = load<V>(b.k1 + c), k2 = load<V>(b.k2 + c), leak = splat<V>(slope);
    for (i64 v = 0; v < rows; ++v) {
      const V e = load<V>(x + v * ldx + c) - mean;
      const V g = masked(load<V>(dy + v * lddy + c), e * scale + shift, leak);
      const V r = (g * scale - k1) - e * k2;
      E* o = dx + v * lddx + c;
      store(o, add ? load<V>(o) + r : r);
    }
  });
}
inline void norm_bwd_coefs(const Args& a, i64 group, i64 channels, i64 c0, i64 n, NormBwdCoefs& b) {
  using T = NormactBwd;
  const NormactBwdAttrs& p = attrs<NormactBwdAttrs>(a);
  for (i64 i = 0; i < n; ++i) {
    b.k1[i] = b.k2[i] = real(0);
    if (p.norm != kOwnNorm) continue;
    const i64 c = c0 + i, at = group * channels + c;
    const f64* sums = ptr<f64>(a, T::sums) + at * 2;
    const f64 rstd = rstd_of(ptr<real>(a, T::var) + at, p.eps);
    const f64 gamma = has(a, T::gamma) ? static_cast<f64>(ptr<real>(a, T::gamma)[c]) : 1.0;
    b.k1[i] = static_cast<real>(gamma * rstd * sums[0] / p.count);
    b.k2[i] = static_cast<real>(gamma * rstd * rstd * rstd * sums[1] / p.count);
  }
}
template <class E>
inline void normact_bwd_of(const Args& a, i64 begin, i64 end) {
  using T = NormactBwd;
  const NormactBwdAttrs& p = attrs<NormactBwdAttrs>(a);
  const Tensor &dy = a.t[T::dy], &x = a.t[T::x], &dx = a.t[T::dx];
  const NormGroups g = norm_groups(x, a.t[T::mean]);
  const i64 channels = x.s[4];
  NormCoefs k;
  NormBwdCoefs b;
  for (i64 c0 = 0; c0 < channels; c0 += kNormBlock) {
    const i64 n = imin(kNormBlock, channels - c0);
    i64 group = -1;
    for (i64 task = begin; task < end; ++task) {
      const NormChunk at = norm_chunk(g, task);
      if (at.group != group) {
        norm_coefs(a, kBwdPlaces, p.norm != kNoNorm, p.eps, group = at.group, channels, c0, n, k);
        norm_bwd_coefs(a, group, channels, c0, n, b);
      }
      normact_bwd_rows(ptr<E>(a, T::dy) + at.first * dy.ld + c0, dy.ld, ptr<E>(a, T::x) + at.first * x.ld + c0, x.ld,
                       ptr<E>(a, T::dx) + at.first * dx.ld + c0, dx.ld, at.rows, n, k, b, p.slope, p.accumulateX != 0);
    }
  }
}
inline i32 normact_bwd_run(const Args& a, i32, i64 begin, i64 end) {
  of_element(a.t[NormactBwd::x], [&]<class E>(E) { normact_bwd_of<E>(a, begin, end); });
  return kOk;
}

// ---- running statistics (commit): one task a norm ----
inline i32 running_step_check(const Args& a) {
  using T = RunningStep;
  const i64 norms = attrs<RunningStepAttrs>(a).norms, numbers = elements(a.t[T::table]);
  MACL_NEED(is_flat(a.t[T::batch], elements(a.t[T::batch]), kReal), kBadShape);
  MACL_NEED(is_flat(a.t[T::running], elements(a.t[T::running]), kReal), kBadShape);
  MACL_NEED(is_flat(a.t[T::table], numbers, kF64), kBadShape);
  MACL_NEED(norms >= 1 && norms < numbers && (numbers - norms - 1) % 4 == 0, kBadAttr);
  return kOk;
}
inline i64 running_step_tasks(const Args& a, i32) { return attrs<RunningStepAttrs>(a).norms; }
inline i32 running_step_run(const Args& a, i32, i64 begin, i64 end) {
  using T = RunningStep;
  const RunningStepAttrs& p = attrs<RunningStepAttrs>(a);
  const RunningTable table = {ptr<f64>(a, T::table), p.norms, (elements(a.t[T::table]) - p.norms - 1) / 4,
                              elements(a.t[T::running]), elements(a.t[T::batch])};
  for (i64 norm = begin; norm < end; ++norm) {
    i64 first, last;
    if (!running_rows(table, norm, first, last)) return kBadShape;
    for (i64 r = first; r < last; ++r) {
      RunningRow row;
      if (!running_row(table, r, row)) return kBadShape;
      real *rm = ptr<real>(a, T::running) + row.running, *rv = rm + row.channels;
      const real *mean = ptr<real>(a, T::batch) + row.batch, *var = mean + row.channels;
      MACL_NUMBER_BY_NUMBER
      for (i64 c = 0; c < row.channels; ++c) {
        const f64 m = mean[c], v = static_cast<f64>(var[c]) * row.unbiased;
        rm[c] = static_cast<real>((1 - p.momentum) * static_cast<f64>(rm[c]) + p.momentum * m);
        rv[c] = static_cast<real>((1 - p.momentum) * static_cast<f64>(rv[c]) + p.momentum * v);
      }
    }
  }
  return kOk;
}

#define NORMACT_KERNELS                                                                                            \
  MACL_KERNEL(normact_stats, NormactStatsAttrs, 2, normact_stats_tasks, normact_stats_bytes, normact_stats_check), \
  MACL_KERNEL(normact_fwd, NormactFwdAttrs, 1, normact_fwd_tasks, nullptr, normact_fwd_check),                     \
  MACL_KERNEL(normact_sums, NormactSumsAttrs, 2, normact_sums_tasks, normact_sums_bytes, normact_sums_check),      \
  MACL_KERNEL(normact_bwd, NormactBwdAttrs, 1, normact_bwd_tasks, nullptr, normact_bwd_check),                     \
  MACL_KERNEL(running_step, RunningStepAttrs, 1, running_step_tasks, nullptr, running_step_check)

}  // namespace
}  // namespace macl
