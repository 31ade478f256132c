// Statistics that a convolution takes of what it writes, for the BatchNorm that follows: each task's sums, and their combination
// in the order of tasks. For strips (conv3d_fast.h) and tiles (conv3d_winograd.h).
#pragma once
#include "conv3d_tile.h"

namespace macl {
namespace {

// What a forward convolution or dx is called with; E: what activations are held in.
template <class E>
struct ConvCall {
  const E* x;
  i64 ldx;
  const f32 *wp, *b;
  E* y;
  i64 ldy;
  bool accumulate, act;
  f32 slope;
  f64* stats;  // of all tasks; null: none
  Dot dot = Dot::none;
};

// A task's statistics in ws: per channel Σ (y − shift) and Σ (y − shift)² in float64, and what is not yet added to
// them, in fp32: of a few strips at a time. The shift is the task's first value, so that nothing is lost to cancellation.
constexpr i64 kStatsFlush = 8;      // strips
constexpr i64 kWinogradFlush = 12;  // positions along W of a row of tiles

struct ConvStats {
  f64 *sum, *square;
  f32 *shift, *s, *q;
};

inline i64 conv3d_stats_size(i64 channels) { return 4 * channels; }  // float64 elements

inline ConvStats conv3d_stats_of(f64* ws, i64 task, i64 channels) {
  f64* p = ws + task * conv3d_stats_size(channels);
  f32* f = reinterpret_cast<f32*>(p + 2 * channels);
  return {p, p + channels, f, f + channels, f + 2 * channels};
}

// Of what y holds, rounded where it is bf16.
template <class E>
inline void conv3d_strip_stats(const E* y, i64 step, i64 n, i64 on, const ConvStats& t, i64 o0, bool first) {
  if (first)
    for (i64 o = 0; o < on; ++o) {
      t.shift[o0 + o] = y[o];
      t.s[o0 + o] = t.q[o0 + o] = 0;
      t.sum[o0 + o] = t.square[o0 + o] = 0;
    }
  i64 o = 0;
  for (; o + kLanes <= on; o += kLanes) {
    const vf k = vload(t.shift + o0 + o);
    vf s = vload(t.s + o0 + o), q = vload(t.q + o0 + o);
    for (i64 p = 0; p < n; ++p) {
      const vf v = vload(y + p * step + o) - k;
      s += v;
      q += v * v;
    }
    vstore(t.s + o0 + o, s);
    vstore(t.q + o0 + o, q);
  }
  for (; o < on; ++o) {
    f32 s = t.s[o0 + o], q = t.q[o0 + o];
    for (i64 p = 0; p < n; ++p) {
      const f32 v = y[p * step + o] - t.shift[o0 + o];
      s += v;
      q += v * v;
    }
    t.s[o0 + o] = s;
    t.q[o0 + o] = q;
  }
}

inline void conv3d_flush_stats(const ConvStats& t, i64 channels) {
  for (i64 o = 0; o < channels; ++o) {
    t.sum[o] += t.s[o];
    t.square[o] += t.q[o];
    t.s[o] = t.q[o] = 0;
  }
}

// Means and squares of the tasks, combined in their order; `voxels(t)`: how many task t has summed.
template <class Voxels>
inline void conv3d_stats(i64 tasks, i64 channels, Voxels voxels, f64* ws, i64 c, f32* mean, f32* var) {
  f64 count = 0, m = 0, m2 = 0;
  for (i64 t = 0; t < tasks; ++t) {
    const ConvStats p = conv3d_stats_of(ws, t, channels);
    const f64 n = f64(voxels(t)), mt = p.shift[c] + p.sum[c] / n, delta = mt - m;
    m2 += p.square[c] - p.sum[c] * p.sum[c] / n + delta * delta * (count * n / (count + n));
    count += n;
    m += delta * (n / count);
  }
  mean[c] = f32(m);
  var[c] = f32(m2 > 0 ? m2 / count : 0);
}

}  // namespace
}  // namespace macl
