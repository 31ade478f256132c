// The register tile of weight gradients (conv3d_bwd_w, upconv3d_bwd_w): partial[i][k][o] += Σ_p x[p, i] · dy[p, o] over
// short rows, with dy from a padded buffer [position][OW]. The tile keeps CI × (taps) × TC vectors in registers and
// broadcasts x. What surrounds it (chunks, partial sums in ws, their reduction) is here too, as both kernels share it.
#pragma once
#include "conv3d_shape.h"

namespace macl {
namespace {

constexpr i64 kDwIn = 32, kDwOut = 32;  // channels of a task's partial sums, at most
constexpr i64 kDwPositions = 160;       // of dy in the buffer at a time, with padding
constexpr i64 kDwPad = 2;
constexpr i64 kDwRows = 32;
constexpr i64 kDwTasks = 32;            // about so many
constexpr i64 kDwVoxels = 256;          // of a chunk, at least (while there are 8 tasks)
constexpr bool kDwFuse = kLanes >= 8;   // the three taps of kW in one tile

struct DwArgs {
  const f32* x[kDwRows];   // first position, channel of the tile's first
  const f32* dy[kDwRows];  // in the buffer: the position that meets x's first with the centre tap
  i64 rows, count;         // positions a row; of pairs: pairs of positions
  i64 xstep;               // floats between positions (pairs) of x
  i64 ow;                  // floats between positions of dy, and of a partial's rows
  f32* out;                // partial sums [CI][KW][ow]
  i64 ci;                  // floats between input channels there
};

// K = 3: position p of x meets dy[p + 1 − k] for tap k. K = 1: dy[p]. Pairs: x has positions 2p and 2p + 1 as one number, and dy each
// position with the next one.
// Not inlined: the caller's variables would take the registers.
template <int CI, int K, int TC, bool Pairs>
__attribute__((noinline)) void dw_tile(const DwArgs& t) {
  vf a[CI][K][TC];
  MACL_UNROLL for (int i = 0; i < CI; ++i)
    MACL_UNROLL for (int k = 0; k < K; ++k)
      MACL_UNROLL for (int c = 0; c < TC; ++c) a[i][k][c] = vload(t.out + i * t.ci + k * t.ow + c * kLanes);
  for (i64 r = 0; r < t.rows; ++r) {
    const f32 *x = t.x[r], *dy = t.dy[r] - (K / 2) * t.ow;  // of the last tap
    const i64 ow = t.ow, xstep = t.xstep;
    for (i64 p = t.count; p > 0; --p, x += xstep, dy += Pairs ? 2 * ow : ow) {
      if constexpr (CI <= K * TC) {  // whichever needs fewer registers
        vf xv[CI];
        MACL_UNROLL for (int i = 0; i < CI; ++i) xv[i] = vsplat(x[i]);
        MACL_UNROLL for (int k = 0; k < K; ++k)
          MACL_UNROLL for (int c = 0; c < TC; ++c) {
            vf d = vload(dy + (K - 1 - k) * ow + c * kLanes);
#if defined(MACL_ISA_AVX2)
            asm("" : "+x"(d));  // loaded once: as an operand of each multiplication it would be loaded CI times
#endif
            MACL_UNROLL for (int i = 0; i < CI; ++i) multiply_add<Pairs>(a[i][k][c], xv[i], d);
          }
      } else {
        vf d[K][TC];
        MACL_UNROLL for (int k = 0; k < K; ++k)
          MACL_UNROLL for (int c = 0; c < TC; ++c) d[k][c] = vload(dy + (K - 1 - k) * ow + c * kLanes);
        MACL_UNROLL for (int i = 0; i < CI; ++i) {
          const vf xv = vsplat(x[i]);
          MACL_UNROLL for (int k = 0; k < K; ++k)
            MACL_UNROLL for (int c = 0; c < TC; ++c) multiply_add<Pairs>(a[i][k][c], xv, d[k][c]);
        }
      }
    }
  }
  MACL_UNROLL for (int i = 0; i < CI; ++i)
    MACL_UNROLL for (int k = 0; k < K; ++k)
      MACL_UNROLL for (int c = 0; c < TC; ++c) vstore(t.out + i * t.ci + k * t.ow + c * kLanes, a[i][k][c]);
}

// to[c] ← first[c] and second[c] (null: zeros) as one number each.
inline void pair_row(u32* to, const bf16* first, const bf16* second, i64 count) {
  if (second)
    for (i64 c = 0; c < count; ++c) to[c] = first[c].bits | u32(second[c].bits) << 16;
  else
    for (i64 c = 0; c < count; ++c) to[c] = first[c].bits;
}

// Rows of x for the tile, which reads fp32: as they lie, or (bf16) widened into a buffer, anew for each tap of kD and kH.
template <class E>
struct DwInputs {
  void row(DwArgs& t, const f32* x, i64 xstep, i64) {
    t.x[t.rows] = x;
    t.xstep = xstep;
  }
};
template <>
struct DwInputs<bf16> {
  alignas(64) f32 buf[kDwPositions * kDwIn];
  // Whole vectors are stored: what is too much is the next position's, or lies behind the last.
  void row(DwArgs& t, const bf16* x, i64 xstep, i64 in) {
    const i64 step = in == 1 ? 1 : cdiv(in, kLanes) * kLanes;
    f32* to = buf + t.rows * t.count * step;
    t.x[t.rows] = to;
    t.xstep = step;
    const bool line = in == 1 && xstep == 1;  // one channel: the row is one line of numbers
    const i64 positions = line ? 1 : t.count, numbers = line ? t.count : in;
    for (i64 p = 0; p < positions; ++p, x += xstep, to += step)
      for (i64 i = 0; i < numbers; i += kLanes) vstore(to + i, vload_some(x + i, imin(kLanes, numbers - i)));
  }
};
// Pairs of positions; of an odd one the partner is zero.
template <>
struct DwInputs<dot16> {
  alignas(64) u32 buf[kDwPositions / 2 * kDwIn + kDwIn * kDwRows];
  void row(DwArgs& t, const dot16* x, i64 xstep, i64 in) {
    const i64 step = in == 1 ? 1 : cdiv(in, kLanes) * kLanes, pairs = cdiv(t.count, 2);
    u32* to = buf + t.rows * pairs * step;
    t.x[t.rows] = reinterpret_cast<const f32*>(to);
    t.xstep = step;
    for (i64 q = 0; q < pairs; ++q, x += 2 * xstep, to += step) pair_row(to, x, 2 * q + 1 < t.count ? x + xstep : nullptr, in);
  }
};

// Widest tile in input channels that the registers hold: 24 (AVX-512), 12 (AVX2), 8 or 9 (128 bits) sums.
constexpr int dw_most(int k, int tc) {
  if (kLanes == 16) return k == 3 ? (tc == 2 ? 4 : 8) : 8;
  if (kLanes == 8) return k == 3 ? (tc == 2 ? 2 : 4) : tc == 2 ? 4 : 8;
#if defined(__aarch64__)
  return 8;
#else
  return tc == 2 ? 4 : 8;
#endif
}

template <int K, int TC, bool Pairs>
inline void dw_channels(DwArgs t, i64 in) {
  const f32* x0[kDwRows];
  for (i64 r = 0; r < t.rows; ++r) x0[r] = t.x[r];
  f32* out = t.out;
  constexpr int most = dw_most(K, TC);
  for (i64 i = 0, n; i < in; i += n) {
    const i64 left = in - i;
    n = left >= most ? most : left >= 4 ? imin(4, most) : left >= 2 ? 2 : 1;
    for (i64 r = 0; r < t.rows; ++r) t.x[r] = x0[r] + i;
    t.out = out + i * t.ci;
    if (n == 8) dw_tile<most >= 8 ? 8 : 1, K, TC, Pairs>(t);
    if (n == 4) dw_tile<most >= 4 ? 4 : 1, K, TC, Pairs>(t);
    if (n == 2) dw_tile<2, K, TC, Pairs>(t);
    if (n == 1) dw_tile<1, K, TC, Pairs>(t);
  }
}

// partial [in][…][on] += x · dy for all channels of the task.
template <int K, bool Pairs = false>
inline void dw_block(DwArgs t, i64 in, i64 on) {
  if (t.rows == 0 || t.count <= 0) return;
  if (Pairs) t.count = cdiv(t.count, 2);
  for (i64 left = cdiv(on, kLanes); left > 0;) {
    const i64 tc = left >= 2 ? 2 : 1;
    if (tc == 2)
      dw_channels<K, 2, Pairs>(t, in);
    else
      dw_channels<K, 1, Pairs>(t, in);
    left -= tc;
    t.out += tc * kLanes;
    for (i64 r = 0; r < t.rows; ++r) t.dy[r] += tc * kLanes;
  }
}

// How the work on a gradient [in, out, taps] is cut: chunks of rows × groups of output and input channels, each with
// its partial sums [taps / K][iw][K][ow] in ws. db's partial sums, float64 [chunks][out], come first.
struct DwPlan {
  i64 in, out, taps, kw;  // kw: taps that lie together (K in the layout)
  i64 rows;
  i64 iw, ow, ciGroups, coGroups, chunks;
  i64 tasks() const { return chunks * coGroups * ciGroups; }
  i64 part() const { return taps * iw * ow; }
  i64 bytes() const { return chunks * out * i64(sizeof(f64)) + tasks() * part() * i64(sizeof(f32)); }
  i64 reduce_tasks() const { return cdiv(out, kPackLanes) * (in + 1); }
};

inline DwPlan dw_plan(i64 in, i64 out, i64 taps, i64 kw, i64 rows, i64 width) {
  const i64 ci = cdiv(in, kDwIn), co = cdiv(out, kDwOut);
  // Short chunks would spend their time on zeroing and adding up; 8 tasks there are all the same.
  const i64 most = imax(cdiv(8, ci * co), rows * width / kDwVoxels / 4 * 4);  // even shares for 2 and 4 threads
  return {in, out, taps, kw, rows, imin(in, kDwIn), imin(cdiv(out, kLanes) * kLanes, kDwOut), ci, co,
          imin(imin(rows, most), cdiv(kDwTasks, ci * co))};
}

// One task's share.
struct DwTask {
  i64 row0, row1;
  i64 i0, in, o0, on;
  f32* part;  // zeroed
  f64* db;    // null in all tasks but one of those that share rows and outputs
};

inline DwTask dw_task(const DwPlan& p, void* ws, i64 task) {
  const i64 cig = task % p.ciGroups, cog = task / p.ciGroups % p.coGroups, chunk = task / p.ciGroups / p.coGroups;
  f64* db = static_cast<f64*>(ws) + chunk * p.out + cog * kDwOut;
  DwTask t{chunk * p.rows / p.chunks, (chunk + 1) * p.rows / p.chunks, cig * kDwIn, 0, cog * kDwOut, 0,
           reinterpret_cast<f32*>(static_cast<f64*>(ws) + p.chunks * p.out) + task * p.part(), cig == 0 ? db : nullptr};
  t.in = imin(kDwIn, p.in - t.i0);
  t.on = imin(kDwOut, p.out - t.o0);
  for (i64 i = 0; i < p.part(); ++i) t.part[i] = 0;
  if (t.db)
    for (i64 o = 0; o < t.on; ++o) t.db[o] = 0;
  return t;
}

// dst [count + 2·pad][ow] ← count positions of dy, on channels each, zeros around.
template <class E>
inline void dw_fill(f32* dst, i64 ow, const E* dy, i64 step, i64 count, i64 on) {
  for (i64 i = 0; i < kDwPad * ow; ++i) dst[i] = dst[(kDwPad + count) * ow + i] = 0;
  dst += kDwPad * ow;
  for (i64 p = 0; p < count; ++p, dst += ow, dy += step) {
    i64 o = 0;
    for (; o + kLanes <= on; o += kLanes) vstore(dst + o, vload(dy + o));
    for (; o < on; ++o) dst[o] = dy[o];
    for (; o < ow; ++o) dst[o] = 0;
  }
}

// The same of pairs: each position with the next one, from the last padded one before the row on.
inline void dw_fill(f32* dst, i64 ow, const dot16* dy, i64 step, i64 count, i64 on) {
  alignas(64) static const bf16 zeros[kDwOut] = {};
  u32* to = reinterpret_cast<u32*>(dst);
  for (i64 i = 0; i < (kDwPad - 1) * ow; ++i) to[i] = 0;
  to += (kDwPad - 1) * ow;
  for (i64 p = -1; p < count; ++p, to += ow) {
    pair_row(to, p < 0 ? zeros : dy + p * step, p + 1 < count ? dy + (p + 1) * step : nullptr, on);
    for (i64 o = on; o < ow; ++o) to[o] = 0;
  }
  for (i64 i = 0; i < kDwPad * ow; ++i) to[i] = 0;
}

// A vector of numbers, or of the first ones of pairs.
template <bool Pairs>
inline vf first_of(const f32* p) {
  typedef u32 Words __attribute__((vector_size(4 * kLanes)));
  return Pairs ? reinterpret_cast<vf>(reinterpret_cast<Words>(vload(p)) << 16) : vload(p);
}

// db += the sums over positions of a filled row.
template <bool Pairs = false>
inline void dw_bias(const f32* filled, i64 ow, i64 count, i64 on, f64* db) {
  for (i64 v = 0; v < on; v += kLanes) {
    vf s{};
    for (i64 p = 0; p < count; ++p) s += first_of<Pairs>(filled + (kDwPad + p) * ow + v);
    for (i64 l = 0, lanes = imin(kLanes, on - v); l < lanes; ++l) db[v + l] += s[l];
  }
}

// One task a (block of 16 outputs, input channel): the chunks' sums in their order, into dw[o·so + i·si + tap], or db.
inline void dw_reduce(const DwPlan& p, const void* ws, i64 task, f32* dw, i64 so, i64 si, f32* db, bool accumulate) {
  const i64 o0 = task / (p.in + 1) * kPackLanes, i = task % (p.in + 1), lanes = imin(kPackLanes, p.out - o0);
  const f64* bias = static_cast<const f64*>(ws);
  if (i == p.in) {
    for (i64 o = o0; db && o < o0 + lanes; ++o) {
      f64 sum = 0;
      for (i64 c = 0; c < p.chunks; ++c) sum += bias[c * p.out + o];
      db[o] = f32(accumulate ? db[o] + sum : sum);
    }
    return;
  }
  const f32* parts = reinterpret_cast<const f32*>(bias + p.chunks * p.out);
  for (i64 tap = 0; tap < p.taps; ++tap) {
    f64 sum[kPackLanes] = {};
    const i64 at = ((tap / p.kw * p.iw + i % kDwIn) * p.kw + tap % p.kw) * p.ow + o0 % kDwOut;
    for (i64 c = 0; c < p.chunks; ++c) {
      const f32* q = parts + ((c * p.coGroups + o0 / kDwOut) * p.ciGroups + i / kDwIn) * p.part() + at;
      if (lanes == kPackLanes)
        for (i64 l = 0; l < kPackLanes; ++l) sum[l] += q[l];
      else
        for (i64 l = 0; l < lanes; ++l) sum[l] += q[l];
    }
    for (i64 l = 0; l < lanes; ++l) {
      f32* d = dw + (o0 + l) * so + i * si + tap;
      *d = f32(accumulate ? *d + sum[l] : sum[l]);
    }
  }
}

}  // namespace
}  // namespace macl
