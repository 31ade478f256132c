// conv3d forward and dx by Winograd's algorithm (winograd.h) in one pass: no transformed volume is ever in memory. For kernels
// 3×3×3 and 1×3×3 of stride 1; the direct kernels, which say the same more simply, are in conv3d_fast.h.
//
// Rows of tiles lie one after the other along H, D and N. A unit is `rows` of them, in a strip of W. For it:
//   input    V[p] ← Bᵀ x Bᵀ over D and H, whole rows of positions at a time
//   points   for each p: along W Bᵀ once more; then P sums over channels with the register tile of conv3d_tile.h; then Aᵀ
//   output   y ← Aᵀ M Aᵀ, bias, activation, statistics
// Tiles that reach beyond the volume read zeros there and write nothing. A task is a unit and a group of output channels;
// where a thread's next task is of the same unit it finds V there.
#pragma once
#include "conv3d_stats.h"
#include "conv3d_tile.h"
#include "winograd.h"

namespace macl {
namespace {

constexpr i64 kWinogradBytes = i64(192) << 10;  // of V, and of M, of a unit: both should stay in a core's L2
constexpr i64 kWinogradTile = 12;               // tiles along W that a multiplication should have at least
// Where transformed weights do not stay in L2 they are read again for each unit: those of few tiles have more, and more of V.
constexpr i64 kWinogradWeights = (i64(512) << 10) / i64(sizeof(f32));
constexpr i64 kWinogradMoreBytes = i64(1) << 20, kWinogradMoreTiles = 16;
constexpr i64 kWinogradTasks = 64;              // so many at least, where outputs can be shared out

inline i64 round_up(i64 a, i64 b) { return cdiv(a, b) * b; }

struct WinogradPlan {
  ConvShape s;
  WinogradForm form;
  i64 td, th;        // rows of tiles along D and H
  i64 rows;          // of a unit
  i64 strips, wide;  // strips along W; outputs of each, whole tiles
  i64 group, groups; // output channels of a task, whole blocks of 16 but the last
  i64 all_rows() const { return s.n * td * th; }
  i64 units() const { return cdiv(all_rows(), rows) * strips; }
  i64 tasks() const { return units() * groups; }
  i64 along() const { return wide / form.mw * rows; }  // tiles of a unit that are multiplied together
};

struct WinogradUnit {
  i64 row, rows;  // of tiles
  i64 w0, wn;     // outputs along W
};

// First output of a row of tiles.
struct WinogradRow {
  i64 n, d0, h0;
};
inline WinogradRow winograd_row(const WinogradPlan& p, i64 row) {
  return {row / p.th / p.td, row / p.th % p.td * p.form.md, row % p.th * p.form.mh};
}

inline WinogradUnit winograd_unit(const WinogradPlan& p, i64 unit) {
  const i64 row = unit / p.strips * p.rows, w0 = unit % p.strips * p.wide;
  return {row, imin(p.rows, p.all_rows() - row), w0, imin(p.wide, p.s.ow - w0)};
}

inline i64 winograd_voxels(const WinogradPlan& p, i64 unit) {
  const WinogradUnit u = winograd_unit(p, unit);
  i64 voxels = 0;
  for (i64 r = 0; r < u.rows; ++r) {
    const WinogradRow at = winograd_row(p, u.row + r);
    voxels += imin(p.form.md, p.s.od - at.d0) * imin(p.form.mh, p.s.oh - at.h0) * u.wn;
  }
  return voxels;
}

// Where units lie, the same for forward, dx and dw; `channels`: of the larger transformed row.
inline WinogradPlan winograd_plan(const ConvShape& s, i64 variant, i64 channels, i64 tiles) {
  const WinogradForm f = winograd_form(variant);
  const i64 mw = f.mw;
  WinogradPlan p{s, f, cdiv(s.od, f.md), cdiv(s.oh, f.mh), 1, 1, 0, 0, 0};
  const i64 position = f.points() * round_up(channels, 16) * i64(sizeof(f32));
  const i64 most = imax(4 * mw, (kWinogradBytes / position - 2) / mw * mw);
  p.strips = cdiv(s.ow, most);
  p.wide = round_up(cdiv(s.ow, p.strips), mw);
  p.strips = cdiv(s.ow, p.wide);
  const i64 fit = imax(1, kWinogradBytes / (position * (p.wide + 2))), all = p.all_rows();
  const i64 rows = imin(imin(all, fit), cdiv(tiles, p.wide / mw));
  p.rows = cdiv(all, cdiv(all, rows));
  return p;
}

inline WinogradPlan winograd_fwd_plan(const ConvShape& s, i64 variant) {
  WinogradPlan p = winograd_plan(s, variant, s.i, kWinogradTile);
  const i64 weights = times(p.form.numbers() * s.i, round_up(s.o, 16));
  if (weights > kWinogradWeights && p.along() < kWinogradTile) {
    const i64 row = p.form.points() * round_up(s.i, 16) * (p.wide + 2) * i64(sizeof(f32)), all = p.all_rows();
    i64 rows = imin(imin(all, kWinogradMoreBytes / row), cdiv(kWinogradMoreTiles, p.wide / p.form.mw));
    while (rows > p.rows && cdiv(all, rows) * p.strips * cdiv(s.o, 32) < kWinogradTasks) --rows;
    if (rows > p.rows) p.rows = cdiv(all, cdiv(all, rows));
  }
  const i64 o = round_up(s.o, 16), column = p.form.points() * p.rows * p.wide * i64(sizeof(f32));
  p.group = imin(o, imax(32, kWinogradBytes / column / 32 * 32));
  while (p.group > 16 && p.units() * cdiv(s.o, p.group) < kWinogradTasks) p.group = round_up(p.group / 2, 16);
  p.groups = cdiv(s.o, p.group);
  return p;
}

// A thread's scratch, in floats.
struct WinogradBuffers {
  i64 vw;      // positions of V's rows: wide + 2 for each row of tiles
  i64 cover;   // tiles along W with the register tile's overshoot
  i64 vp, mp;  // from point to point in V and M
  i64 v, m, v3, m3, total;
  explicit WinogradBuffers(const WinogradPlan& p) {
    const i64 ip = round_up(p.s.i, 16);
    vw = p.wide + 2;
    cover = p.along() + tile_max(1);
    vp = vw * p.rows * ip;
    mp = p.wide * p.rows * p.group;
    v = p.form.points() * vp;
    m = p.form.points() * mp;
    v3 = p.form.pw * cover * ip;
    m3 = p.form.pw * cover * p.group;
    total = v + m + v3 + m3;
  }
};

// Transforms one vector of channels at one position of PD × PH rows, which load(a, b) reads.
template <class T, class Load>
inline void winograd_input_at(Load load, f32* v, i64 vp) {
  winograd_bt_both<T>(load, [&](int a, int b, vf r) { vstore(v + (a * T::PH + b) * vp, r); });
}

// PD × PH rows of x at (d, h), which may lie outside; those of x's sample n. Null: zeros.
template <class T, class E>
struct WinogradRows {
  const E* row[T::PP];
  bool whole = true;
  i64 stepD, stepH;
  WinogradRows(const E* x, i64 ldx, const ConvShape& s, i64 n, i64 d, i64 h) {
    stepH = s.iw * ldx;
    stepD = s.ih * stepH;
    for (int a = 0; a < T::PD; ++a)
      for (int b = 0; b < T::PH; ++b) {
        const bool in = d + a >= 0 && d + a < s.id && h + b >= 0 && h + b < s.ih;
        row[a * T::PH + b] = in ? x + n * s.id * stepD + (d + a) * stepD + (h + b) * stepH : nullptr;
        whole &= in;
      }
  }
};

// V of one row of tiles: positions first … first + count of the rows, 16 channels at a time.
// V[p·vp + block·blockStep + position·positionStep]
template <class T, class E>
__attribute__((noinline)) void winograd_input(const WinogradRows<T, E>& r, i64 ldx, i64 iw, i64 channels, i64 first,
                                              i64 count, f32* v, i64 vp, i64 blockStep, i64 positionStep) {
  alignas(64) static const E zeros[kLanes] = {};
  for (i64 c0 = 0; c0 < channels; c0 += 16, v += blockStep)
    for (i64 l = 0; l < 16; l += kLanes) {
      const i64 c = c0 + l, lanes = imax(0, imin(kLanes, channels - c));
      for (i64 k = 0; k < count; ++k) {
        const i64 q = first + k;
        f32* out = v + k * positionStep + l;
        if (q < 0 || q >= iw || lanes == 0) {
          for (int p = 0; p < T::PP; ++p) vstore(out + p * vp, vf{});
          continue;
        }
        const i64 at = q * ldx + c;
        if (lanes < kLanes) {
          winograd_input_at<T>(
              [&](int a, int b) {
                vf x{};
                const E* from = r.row[a * T::PH + b];
                for (i64 j = 0; from && j < lanes; ++j) x[j] = from[at + j];
                return x;
              },
              out, vp);
        } else if (r.whole) {
          const E* from = r.row[0] + at;
          winograd_input_at<T>([&](int a, int b) { return vload(from + a * r.stepD + b * r.stepH); }, out, vp);
        } else {
          winograd_input_at<T>(
              [&](int a, int b) {
                const E* from = r.row[a * T::PH + b];
                return vload(from ? from + at : zeros);
              },
              out, vp);
        }
      }
    }
}

// Whether Aᵀ along W is taken of sums that are still in registers: with 32 of these, and not where one vector of outputs and many
// inputs make loads the limit.
constexpr bool winograd_fused(i64 pw, i64 in, i64 out) { return kLanes == 16 && pw == 4 && (out > 16 || in <= 16); }

// One register tile's width of the multiplications over `along` tiles, and what all of them cover.
inline i64 winograd_cover(i64 vectors, i64 along) {
  i64 cover = 0;
  for (i64 v = 0, tc; v < vectors; v += tc) {
    tc = tile_vectors(vectors - v);
    const i64 tw = conv3d_tile_for(tc, along, 1, false).tw;
    cover = imax(cover, cdiv(along, tw) * tw);
  }
  return cover;
}

// With 32 registers: the sums over channels of all PW points along W for TW tiles and TC vectors of outputs, and then Aᵀ of them,
// while they are in registers. x[k·xk + tile·16 + input], w[vector·wvec + (input·PW + k)·16], out[position·16 + vector·outVec].
// Not inlined: the caller's variables would take the registers.
template <class W, int TW, int TC>
__attribute__((noinline)) void winograd_tile(const f32* x, i64 xk, i64 xblock, const f32* w, i64 wvec, i64 channels,
                                             f32* out, i64 outVec) {
  constexpr int PW = W::P;
  vf a[PW][TW][TC];
  MACL_UNROLL for (int k = 0; k < PW; ++k)
    MACL_UNROLL for (int j = 0; j < TW; ++j)
      MACL_UNROLL for (int c = 0; c < TC; ++c) a[k][j][c] = vf{};
  for (i64 c0 = 0; c0 < channels; c0 += 16, x += xblock) {
    const f32* q = x;
    for (const f32* last = q + imin(16, channels - c0); q != last; ++q, w += PW * 16)
      MACL_UNROLL for (int k = 0; k < PW; ++k) {
        vf v[TC];
        MACL_UNROLL for (int c = 0; c < TC; ++c) {
          v[c] = vload(w + k * 16 + c * wvec);
#if defined(MACL_ISA_AVX512)
          asm("" : "+v"(v[c]));  // loaded once: as an operand of each multiplication it would be loaded TW times
#endif
        }
        MACL_UNROLL for (int j = 0; j < TW; ++j) {
          const vf s = vsplat(q[k * xk + j * 16]);
          MACL_UNROLL for (int c = 0; c < TC; ++c) a[k][j][c] += s * v[c];
        }
      }
  }
  MACL_UNROLL for (int j = 0; j < TW; ++j)
    MACL_UNROLL for (int c = 0; c < TC; ++c) {
      vf m[PW], o[W::M];
      MACL_UNROLL for (int k = 0; k < PW; ++k) m[k] = a[k][j][c];
      winograd_at<W>(m, o);
      MACL_UNROLL for (int i = 0; i < W::M; ++i) vstore(out + (j * W::M + i) * 16 + c * outVec, o[i]);
    }
}

// `count` ≤ TW tiles.
template <class W, int TC, int TW, class... Args>
inline void winograd_tile_of(i64 count, Args... args) {
  if constexpr (TW > 1)
    if (count < TW) return winograd_tile_of<W, TC, TW - 1>(count, args...);
  winograd_tile<W, TW, TC>(args...);
}

// M of one point from V3, where sums are fused; w: of its first output.
template <class W>
inline void winograd_fused_sums(const WinogradPlan& p, i64 along, i64 vectors, i64 cover, const f32* V3, const f32* w, f32* m) {
  const i64 I = p.s.i, wvec = I * W::P * 16, vq = cover * round_up(I, 16), block = p.wide * p.rows * 16;
  for (i64 v = 0, tc; v < vectors; v += tc) {
    tc = imin(2, vectors - v);
    const i64 most = tc == 2 ? 3 : 6, wide = cdiv(along, cdiv(along, most));
    for (i64 j = 0; j < along; j += wide) {
      const i64 tiles = imin(wide, along - j);
      const f32 *x = V3 + j * 16, *weights = w + v * wvec;
      f32* out = m + v * block + j * W::M * 16;
      if (tc == 2)
        winograd_tile_of<W, 2, 3>(tiles, x, vq, cover * 16, weights, wvec, I, out, block);
      else
        winograd_tile_of<W, 1, 6>(tiles, x, vq, cover * 16, weights, wvec, I, out, block);
    }
  }
}

// M[p] of output channels o0 … o0 + on from V, for every point. W: Winograd<mW>.
template <class W>
__attribute__((noinline)) void winograd_points(const WinogradPlan& p, const WinogradBuffers& z, const f32* u, i64 o0,
                                               i64 on, i64 rows, const f32* V, f32* M, f32* V3, f32* M3) {
  constexpr int PW = W::P, MW = W::M;
  alignas(64) static const f32 zeros[4 * kLanes] = {};
  const i64 I = p.s.i, ip = round_up(I, 16), T1 = p.wide / MW, along = T1 * rows, blocks = cdiv(p.s.o, 16);
  const i64 vectors = cdiv(on, kLanes), cover = winograd_cover(vectors, along);
  const i64 vq = cover * ip, mq = cover * p.group;
  const bool fused = winograd_fused(PW, I, p.s.o);
  TileArgs t;
  t.rows = 1;
  t.xoff = t.woff = 0;
  t.ci = I;
  t.xblock = cover * 16;
  t.wblock = I * 16;
  t.wci = 16;
  t.init = zeros;
  t.initLd = 0;
  t.initVec = kLanes;
  t.outLd = 16;
  for (i64 point = 0, points = p.form.points(); point < points; ++point) {
    for (i64 cb = 0; cb < ip; cb += 16) {
      f32* o = V3 + cb * cover;
      for (i64 r = 0; r < rows; ++r) {
        const f32* v = V + point * z.vp + (cb * p.rows + r * 16) * z.vw;
        for (i64 j = 0; j < T1; ++j, v += MW * 16, o += 16)
          MACL_UNROLL for (int l = 0; l < 16; l += kLanes) {
            vf d[PW], e[PW];
            MACL_UNROLL for (int k = 0; k < PW; ++k) d[k] = vload(v + k * 16 + l);
            winograd_bt<W>(d, e);
            MACL_UNROLL for (int k = 0; k < PW; ++k) vstore(o + k * vq + l, e[k]);
          }
      }
      for (i64 j = along; j < cover; ++j, o += 16)
        for (int k = 0; k < PW; ++k)
          for (int l = 0; l < 16; l += kLanes) vstore(o + k * vq + l, vf{});
    }
    if constexpr (kLanes == 16 && PW == 4)
      if (fused) {
        winograd_fused_sums<W>(p, along, vectors, cover, V3, u + (point * blocks * 16 + o0) * I * PW, M + point * z.mp);
        continue;
      }
    for (int k = 0; k < PW; ++k) {
      const f32* w = u + ((point * PW + k) * blocks + o0 / 16) * I * 16;
      for (i64 v = 0, tc; v < vectors; v += tc) {
        tc = tile_vectors(vectors - v);
        const TileChoice tile = conv3d_tile_for(tc, along, 1, false);
        const i64 block = v * kLanes / 16, in = v * kLanes % 16;
        t.w[0] = w + block * I * 16 + in;
        t.outVec = kLanes == 16 ? cover * 16 : kLanes;
        for (i64 j = 0; j < along; j += tile.tw) {
          t.x[0] = V3 + k * vq + j * 16;
          t.out = M3 + k * mq + (block * cover + j) * 16 + in;
          tile.fn(t);
        }
      }
    }
    for (i64 v = 0; v < vectors; ++v) {
      const i64 block = v * kLanes / 16, in = v * kLanes % 16;
      const f32* m = M3 + block * cover * 16 + in;
      f32* o = M + point * z.mp + block * p.wide * p.rows * 16 + in;
      for (i64 j = 0; j < along; ++j, m += 16, o += MW * 16) {
        vf d[PW], e[MW];
        MACL_UNROLL for (int k = 0; k < PW; ++k) d[k] = vload(m + k * mq);
        winograd_at<W>(d, e);
        MACL_UNROLL for (int k = 0; k < MW; ++k) vstore(o + k * 16, e[k]);
      }
    }
  }
}

// y of one row of tiles from M (its first position), one vector of channels. Whole: no tile reaches beyond the volume, no channel
// is missing.
template <class T, bool Whole, class E>
__attribute__((noinline)) void winograd_output(const WinogradPlan& p, const WinogradUnit& u, i64 r, const ConvCall<E>& c,
                                               i64 o, i64 lanes, const f32* m, i64 mp, const ConvStats& stats, bool first) {
  constexpr int MD = T::D::M, MH = T::H::M;
  const ConvShape& s = p.s;
  const WinogradRow at = winograd_row(p, u.row + r);
  const i64 nd = Whole ? MD : s.od - at.d0, nh = Whole ? MH : s.oh - at.h0, n = Whole ? kLanes : lanes;
  const i64 stepH = s.ow * c.ldy;
  E* y0 = c.y + (((at.n * s.od + at.d0) * s.oh + at.h0) * s.ow + u.w0) * c.ldy + o;
  const vf bias = c.b ? vload_some(c.b + o, n) : vf{};
  vf shift{}, sum{}, square{};
  i64 since = 0;
  if (c.stats && !first) shift = vload_some(stats.shift + o, n);
  for (i64 w = 0; w < u.wn; ++w, m += 16, y0 += c.ldy) {
    const auto load = [&](int a, int b) { return vload(m + (a * T::PH + b) * mp); };
    const auto store = [&](int a, int b, vf out) {
      if (!Whole && (a >= nd || b >= nh)) return;
      E* y = y0 + (a * s.oh + b) * stepH;
      out += bias;
      if (c.accumulate) out += vload_some(y, n);
      if (c.act) out = out < 0 ? out * c.slope : out;
      vstore_some(y, out, n);
      if (!c.stats) return;
      out = vrounded<E>(out);
      if (first) {
        first = false;
        shift = out;
        vstore_some(stats.shift + o, shift, n);
      }
      const vf k = out - shift;
      sum += k;
      square += k * k;
    };
    winograd_at_both<T>(load, store);
    if (c.stats && (++since == kWinogradFlush || w + 1 == u.wn)) {
      for (i64 l = 0; l < n; ++l) {
        stats.sum[o + l] += sum[l];
        stats.square[o + l] += square[l];
      }
      sum = square = vf{};
      since = 0;
    }
  }
}

template <class E>
inline void winograd_task(const WinogradPlan& p, const ConvCall<E>& c, f32* scratch, i64 unit, i64 group, bool fresh) {
  const ConvShape& s = p.s;
  const WinogradBuffers z(p);
  f32 *V = scratch, *M = V + z.v, *V3 = M + z.m, *M3 = V3 + z.v3;
  const WinogradUnit u = winograd_unit(p, unit);
  if (fresh)
    winograd_outer(p.form, [&]<class T>(T) {
      for (i64 r = 0; r < u.rows; ++r) {
        const WinogradRow at = winograd_row(p, u.row + r);
        const WinogradRows<T, E> rows(c.x, c.ldx, s, at.n, at.d0 - p.form.kd / 2, at.h0 - 1);
        winograd_input(rows, c.ldx, s.iw, s.i, u.w0 - 1, z.vw, V + r * 16 * z.vw, z.vp, p.rows * 16 * z.vw, 16);
      }
    });
  const i64 o0 = group * p.group, on = imin(p.group, s.o - o0);
  winograd_inner(p.form, [&]<class W>(W) { winograd_points<W>(p, z, c.wp, o0, on, u.rows, V, M, V3, M3); });
  const ConvStats stats = conv3d_stats_of(c.stats, c.stats ? unit : 0, s.o);
  for (i64 o = 0; o < on; o += kLanes) {
    const i64 lanes = imin(kLanes, on - o);
    if (c.stats)
      for (i64 l = 0; l < lanes; ++l) stats.sum[o0 + o + l] = stats.square[o0 + o + l] = 0;
    winograd_outer(p.form, [&]<class T>(T) {
      for (i64 r = 0; r < u.rows; ++r) {
        const WinogradRow at = winograd_row(p, u.row + r);
        const bool whole = at.d0 + T::D::M <= s.od && at.h0 + T::H::M <= s.oh && lanes == kLanes;
        const f32* m = M + (o / 16 * p.rows + r) * p.wide * 16 + o % 16;
        if (whole)
          winograd_output<T, true>(p, u, r, c, o0 + o, lanes, m, z.mp, stats, r == 0);
        else
          winograd_output<T, false>(p, u, r, c, o0 + o, lanes, m, z.mp, stats, r == 0);
      }
    });
  }
}

template <class E>
inline void winograd_run(const WinogradPlan& p, const ConvCall<E>& c, f32* scratch, i64 begin, i64 end) {
  for (i64 task = begin; task < end; ++task)
    winograd_task(p, c, scratch, task / p.groups, task % p.groups, task == begin || task % p.groups == 0);
}

// out[j][p][k][16] = Σ_t G[p][t] · in[j][t][k][16]: one axis of the transform of weights; inner: numbers on the axes after it.
inline void winograd_pack_axis(const f64* g, i64 P, i64 outer, i64 inner, const f64* __restrict in, f64* __restrict out) {
  const i64 size = inner * 16;
  for (i64 j = 0; j < outer; ++j, in += 3 * size)
    for (i64 p = 0; p < P; ++p, out += size) {
      const f64 g0 = g[p * 3], g1 = g[p * 3 + 1], g2 = g[p * 3 + 2];
      for (i64 k = 0; k < size; ++k) out[k] = g0 * in[k] + g1 * in[size + k] + g2 * in[2 * size + k];
    }
}

// U [point][point along W][block of 16 outputs][input][16], or (fused) [point][block][input][point along W][16], of one block; see
// conv3d_pack for `mode`. In float64. Several inputs at a time: a number of one input is a line alone, and lines far apart are slow
// to write.
inline void winograd_pack(const WinogradForm& f, const f32* w, f32* u, i64 O, i64 I, const Conv3dPackAttrs& at, i64 ob) {
  constexpr i64 kNumbers = 4 * 72;  // of a group, on two axes
  const i64 mode = at.mode, out = mode == 0 ? O : I, in = mode == 0 ? I : O, step = cdiv(out, 16) * in * 16, taps = f.taps();
  const bool fused = winograd_fused(f.pw, in, out);
  const i64 plane = f.ph * f.pw, size = f.kd * plane * 16, most = kNumbers * 16 / size;
  f64 a[27 * 16], b[54 * 16], c[kNumbers * 16];  // the most that each axis makes
  for (i64 i0 = 0, count; i0 < in; i0 += count) {
    count = imin(most, in - i0);
    for (i64 i = i0; i < i0 + count; ++i) {
      for (i64 k = 0; k < taps; ++k)
        for (i64 l = 0; l < 16; ++l) {
          const i64 o = ob * 16 + l;
const i64 tap = mode == 0 ? (o * I + i) * taps + k : (i * I + o) * taps + taps - 1 - k;
          a[k * 16 + l] = o >= out ? 0 : packed_weight(w[tap], at.dtype);
        }
      winograd_pack_axis(f.gw, f.pw, f.kd * 3, 1, a, b);
      winograd_pack_axis(f.gh, f.ph, f.kd, f.pw, b, c + (i - i0) * size);
    }
    for (i64 p = 0; p < f.pd; ++p)
      for (i64 n = 0; n < plane; ++n) {
        const i64 along = n % f.pw, first = ob * in + i0;
        const i64 place = fused ? (n - along) * step + (first * f.pw + along) * 16 : n * step + first * 16;
        f32* q = u + p * plane * step + place;
        const f64* r = c + n * 16;
        for (i64 i = 0; i < count; ++i, r += size, q += fused ? f.pw * 16 : 16) {
          if (f.kd == 1) {
            for (i64 l = 0; l < 16; ++l) q[l] = f32(r[l]);
            continue;
          }
          const f64 g0 = f.gd[p * 3], g1 = f.gd[p * 3 + 1], g2 = f.gd[p * 3 + 2];
          const f64 *r1 = r + plane * 16, *r2 = r1 + plane * 16;
          for (i64 l = 0; l < 16; ++l) q[l] = f32(g0 * r[l] + g1 * r1[l] + g2 * r2[l]);
        }
      }
  }
}

}  // namespace
}  // namespace macl
