// The register tile of every forward and dx convolution (conv3d and upconv3d), and the strip around it. Not here: which
// rows and weights (conv3d_fast.h, upconv3d_fast.h).
//
// A strip is up to 24 neighbouring outputs of a row. The input rows it needs are copied to a small padded buffer
// [row][block of 16 channels][position][16], zeros at the edges: so the tile has constant strides, no branches for
// padding, and reads L1. The tile holds TW positions × TC vectors of output channels in registers and walks rows,
// channels and the taps of kW. It reads and writes the output itself where it fits, else (it overshoots, or the last
// channels do not fill a vector) a small buffer of sums, of which only what belongs to the strip is stored.
#pragma once
#include "amx.h"
#include "conv3d_shape.h"

namespace macl {
namespace {

constexpr i64 kStripMax = 24;      // outputs
constexpr i64 kStripCover = 32;    // the same with a tile's overshoot
constexpr i64 kStripOut = 64;      // output channels at a time
// Floats of input rows: 27 of them where kW is taken apart (stride 2), 24 positions and a tile's overshoot.
constexpr i64 kStripBuffer = 27 * 25 * 16;
constexpr int kMaxRows = 27;
#if defined(MACL_ISA_AVX512)
constexpr i64 kChunk = 32;  // input channels at a time
constexpr bool kFuseKw = true;
#else
constexpr i64 kChunk = 16;  // so that weights of one output block stay in L1 over a strip
constexpr bool kFuseKw = false;
#endif

// Whether, and with what, the processor sums products of bf16 pairs; tiles are AMX's.
enum class Dot : int { none, pairs, tiles };

struct TileArgs {
  const f32* x[kMaxRows];
  const f32* w[kMaxRows];
  i64 rows;
  i64 xoff, woff;
  i64 ci;      // input channels
  i64 xblock;  // from 16 channels of x to the next 16
  i64 wblock;  // from 16 outputs to the next 16
  i64 wci;     // from an input channel's weights to the next one's
  const f32* init;  // position p, vector c starts at init[p·initLd + c·initVec] and ends in out alike
  i64 initLd, initVec;
  f32* out;
  i64 outLd, outVec;
  i64 positions;  // of the tile
};

// XS: floats between positions of x: 16, or 1 where there is one channel. KW: taps along W that lie side by side. Pairs: "floats" of
// x and of the weights are pairs of bf16.
template <int TC, int TW, int KW, int XS, bool Pairs>
void conv3d_tile(const TileArgs& t) {
  constexpr int K = kFuseKw ? KW : 1;  // taps taken together: fewer broadcasts, but K·TC weights in registers
  vf a[TW][TC];
  MACL_UNROLL for (int p = 0; p < TW; ++p)
    MACL_UNROLL for (int c = 0; c < TC; ++c) a[p][c] = vload(t.init + p * t.initLd + c * t.initVec);
  const i64 wvec = kLanes == 16 ? t.wblock : kLanes;
  for (i64 r = 0; r < t.rows; ++r)
    for (int k0 = 0; k0 < KW; k0 += K) {
      const f32* xb = t.x[r] + t.xoff + k0 * XS;
      const f32* w = t.w[r] + t.woff + k0 * kPackLanes;
      for (i64 c0 = 0; c0 < t.ci; c0 += 16, xb += t.xblock) {
        const f32* x = xb;
        const f32* last = x + imin(16, t.ci - c0);
        for (; x != last; ++x, w += t.wci) {
          vf wv[K][TC];
          MACL_UNROLL for (int k = 0; k < K; ++k)
            MACL_UNROLL for (int c = 0; c < TC; ++c) wv[k][c] = vload(w + c * wvec + k * kPackLanes);
          MACL_UNROLL for (int p = 0; p < TW + K - 1; ++p) {
            const vf xv = vsplat(x[p * XS]);
            MACL_UNROLL for (int k = 0; k < K; ++k)
              if (p >= k && p - k < TW) {
                MACL_UNROLL for (int c = 0; c < TC; ++c) multiply_add<Pairs>(a[p - k][c], xv, wv[k][c]);
              }
          }
        }
      }
    }
  MACL_UNROLL for (int p = 0; p < TW; ++p)
    MACL_UNROLL for (int c = 0; c < TC; ++c) vstore(t.out + p * t.outLd + c * t.outVec, a[p][c]);
}

#if defined(MACL_ISA_AVX512)
// The same by AMX: up to 16 positions × 32 outputs, whole blocks of 16 pairs of channels.
template <int KW>
void conv3d_tile_amx(const TileArgs& t) {
  Amx amx(t.positions);
  amx.load<kAmxSum0>(t.init, t.initLd);
  amx.load<kAmxSum1>(t.init + t.initVec, t.initLd);
  for (i64 r = 0; r < t.rows; ++r)
    for (int k = 0; k < KW; ++k) {
      const f32 *x = t.x[r] + t.xoff + k * 16, *w = t.w[r] + t.woff + k * kPackLanes;
      for (i64 c0 = 0; c0 < t.ci; c0 += 16, x += t.xblock, w += 16 * t.wci) {
        amx.load<kAmxX>(x, 16);
        amx.load<kAmxW0>(w, t.wci);
        amx.load<kAmxW1>(w + t.wblock, t.wci);
        amx.dot<kAmxSum0, kAmxX, kAmxW0>();
        amx.dot<kAmxSum1, kAmxX, kAmxW1>();
      }
    }
  amx.store<kAmxSum0>(t.out, t.outLd);
  amx.store<kAmxSum1>(t.out + t.outVec, t.outLd);
}
#endif

using TileFn = void (*)(const TileArgs&);

struct TileChoice {
  i64 tw;
  TileFn fn;
};

template <int KW, int XS, bool Pairs, int TC, int TW>
inline void conv3d_tile_if(i64 tw, TileChoice& best) {
  if (TW >= tw) best = {TW, conv3d_tile<TC, TW, KW, XS, Pairs>};
}

// The narrowest tile of TC vectors that holds tw positions, and the widest that fits the registers.
constexpr i64 tile_max(int tc) {
  if (kLanes == 16) return tc == 1 ? 24 : 12;
#if defined(__aarch64__)
  return tc == 4 ? 5 : tc == 2 ? 8 : 16;
#else
  if (kLanes == 8) return tc == 1 ? 8 : 6;
  return tc == 4 ? 2 : tc == 2 ? 4 : 8;
#endif
}

template <int KW, int XS, bool Pairs, int TC, int... TW>
inline TileChoice conv3d_tile_list(i64 tw) {
  TileChoice best{0, nullptr};
  (conv3d_tile_if<KW, XS, Pairs, TC, TW>(tw, best), ...);  // widest first
  return best;
}

template <int KW, int XS, bool Pairs>
inline TileChoice conv3d_tile_choice(i64 tc, i64 tw) {
#if defined(MACL_ISA_AVX512)
  if (tc == 2) return conv3d_tile_list<KW, XS, Pairs, 2, 12, 11, 10, 8, 6, 4>(tw);
  return conv3d_tile_list<KW, XS, Pairs, 1, 24, 22, 20, 16, 12, 8, 4>(tw);
#elif defined(MACL_ISA_AVX2)
  if (tc == 2) return conv3d_tile_list<KW, XS, Pairs, 2, 6, 5, 4, 3, 2>(tw);
  return conv3d_tile_list<KW, XS, Pairs, 1, 8, 6, 4>(tw);
#elif defined(__aarch64__)
  if (tc == 4) return conv3d_tile_list<KW, XS, Pairs, 4, 5, 4, 3, 2>(tw);
  if (tc == 2) return conv3d_tile_list<KW, XS, Pairs, 2, 8, 6, 4>(tw);
  return conv3d_tile_list<KW, XS, Pairs, 1, 16, 12, 8, 4>(tw);
#else
  if (tc == 4) return conv3d_tile_list<KW, XS, Pairs, 4, 2>(tw);
  if (tc == 2) return conv3d_tile_list<KW, XS, Pairs, 2, 4, 2>(tw);
  return conv3d_tile_list<KW, XS, Pairs, 1, 8, 4>(tw);
#endif
}

template <bool Pairs = false>
inline TileChoice conv3d_tile_for(i64 tc, i64 n, i64 kw, bool single) {
  const i64 tw = cdiv(n, cdiv(n, tile_max(int(tc))));  // tiles of equal width rather than a narrow last one
  if constexpr (!Pairs)
    if (single) return kw == 3 ? conv3d_tile_choice<3, 1, false>(tc, tw) : conv3d_tile_choice<1, 1, false>(tc, tw);
  return kw == 3 ? conv3d_tile_choice<3, 16, Pairs>(tc, tw) : conv3d_tile_choice<1, 16, Pairs>(tc, tw);
}

// Of a strip's convolution; `inputs`: all that its weights are packed for.
template <bool Pairs>
inline TileChoice conv3d_tile_of([[maybe_unused]] Dot dot, [[maybe_unused]] i64 inputs, i64 tc, i64 n, i64 kw, bool single) {
#if defined(MACL_ISA_AVX512)
  if constexpr (Pairs)
    if (dot == Dot::tiles && tc == 2 && inputs % 16 == 0)
      return {cdiv(n, cdiv(n, 16)), kw == 3 ? conv3d_tile_amx<3> : conv3d_tile_amx<1>};
#endif
  return conv3d_tile_for<Pairs>(tc, n, kw, single);
}

constexpr i64 kTileVectors = kLanes == 4 ? 4 : 2;

// Vectors of the next tile where `left` output vectors are still to do.
inline i64 tile_vectors(i64 left) { return left >= kTileVectors ? kTileVectors : left >= 2 ? 2 : 1; }

// Strips of a row of n outputs: all equally wide but the last. A strip is one tile with AVX-512, else several.
inline i64 strip_width(i64 n, i64 out) {
  const i64 most = kLanes == 16 && out > 16 ? tile_max(2) : kStripMax;
  return cdiv(n, cdiv(n, most));
}

// One input row of a strip: positions q = first + p·step, p < count; only q that are multiples of dil with q/dil < size
// exist, all others are zero.
template <class E>
struct StripRow {
  const E* src;
  i64 first, step, dil, size;
  i64 slot;  // where it lies in the buffer: a row that is there already (from the last output row) is not copied again
};

template <class E>
inline void copy_channels(f32* dst, const E* src, i64 cn) {
  if (cn == 16) {
    MACL_UNROLL for (int l = 0; l < 16; l += kLanes) vstore(dst + l, vload(src + l));
  } else {
    for (i64 c = 0; c < cn; ++c) dst[c] = src[c];
  }
}

// As pairs: 16 of them, or as many as cn channels make; of an odd one the partner is zero.
inline void copy_channels(f32* dst, const dot16* src, i64 cn) {
  if (cn == 32) {
    __builtin_memcpy(dst, src, 64);
    return;
  }
  __builtin_memset(dst, 0, 64);
  __builtin_memcpy(dst, src, static_cast<unsigned long>(2 * cn));
}

inline void zero_channels(f32* dst) {
  MACL_UNROLL for (int l = 0; l < 16; l += kLanes) vstore(dst + l, vf{});
}

// Channels c0 … c0 + cn of one row into dst [block][count][16], or [count] where the input has one channel.
template <class E>
inline void strip_fill(f32* dst, const StripRow<E>& r, i64 ld, i64 count, i64 c0, i64 cn, bool single) {
  if (single) {
    i64 p = 0, q = r.first;
    if (r.dil == 1 && r.step == 1) {
      for (; p < count && q < 0; ++p, ++q) dst[p] = 0;
      for (const i64 most = imin(count, p + r.size - q); p < most; ++p, ++q) dst[p] = r.src[q * ld];
      for (; p < count; ++p) dst[p] = 0;
    }
    for (; p < count; ++p, q += r.step)
      dst[p] = q >= 0 && q % r.dil == 0 && q / r.dil < r.size ? f32(r.src[q / r.dil * ld]) : 0;
    return;
  }
  constexpr i64 block = is_dot<E> ? 32 : 16;
  for (i64 c = 0; c < cn; c += block) {
    const i64 lanes = imin(block, cn - c);
    const E* src = r.src + c0 + c;
    if (r.dil == 1) {
      i64 p = 0, q = r.first;
      for (; p < count && q < 0; ++p, q += r.step, dst += 16) zero_channels(dst);
      for (; p < count && q < r.size; ++p, q += r.step, dst += 16) copy_channels(dst, src + q * ld, lanes);
      for (; p < count; ++p, dst += 16) zero_channels(dst);
    } else {
      for (i64 p = 0, q = r.first; p < count; ++p, q += r.step, dst += 16) {
        if (q >= 0 && q % r.dil == 0 && q / r.dil < r.size)
          copy_channels(dst, src + q / r.dil * ld, lanes);
        else
          zero_channels(dst);
      }
    }
  }
}

// Does a row lie in memory as in the buffer, and all that the strip reads of it? Only 16 channels do.
template <class E>
inline bool strip_lies(const StripRow<E>& r, i64 ld, i64 count, i64 cn) {
  return sizeof(E) == sizeof(f32) && ld == 16 && cn == 16 && r.step == 1 && r.dil == 1 && r.first >= 0 && r.first + count <= r.size;
}

// What a strip is computed from; rows and weights pointers belong together.
template <class E>
struct Strip {
  StripRow<E> row[kMaxRows];
  const f32* w[kMaxRows];
  i64 rows;
  i64 slots;   // of the buffer, at least as many as rows
  i64 ld;      // of the input
  i64 ci;      // all input channels
  i64 kw;      // taps along W within a row's weights (1 or 3)
  i64 wblock, wci;
  Dot dot = Dot::none;
};

// 16 outputs of a strip: the position's step in y is the same for all blocks.
template <class E>
struct StripOut {
  E* y;
  const f32* bias;  // of the block's first channel; may be null
  i64 lanes;        // 16, or fewer in the last block
};

constexpr i64 kStripBlocks = kStripOut / kPackLanes;

struct StripBuffers {
  alignas(64) f32 x[kStripBuffer];
  alignas(64) f32 acc[kStripCover * kStripOut];
  alignas(64) f32 bias[kStripOut];
  // What the slots of x hold.
  const void* src[kMaxRows] = {};
  i64 first[kMaxRows], layout[kMaxRows];
};

// Sums of positions p … p + m and vectors v … v + tc from the buffer into y.
template <class E>
inline void strip_store(const StripBuffers& b, const StripOut<E>* out, i64 v, i64 tc, i64 p, i64 m, i64 step, bool add) {
  for (i64 c = v * kLanes; c < (v + tc) * kLanes; c += kLanes) {
    const StripOut<E>& o = out[c / 16];
    const i64 lanes = imin(kLanes, o.lanes - c % 16);
    E* y = o.y + c % 16 + p * step;
    const f32* acc = b.acc + p * kStripOut + c;
    // Positions without a gap take a whole vector each: what it writes too much is theirs who come next.
    i64 over = lanes == step && !add ? m - cdiv(kLanes, step) : 0;
    for (i64 i = 0; i < m; ++i, y += step, acc += kStripOut) {
      if (lanes == kLanes)
        vstore(y, add ? vload(y) + vload(acc) : vload(acc));
      else if (i < over)
        vstore(y, vload(acc));
      else
        for (i64 l = 0; l < lanes; ++l) y[l] = add ? y[l] + acc[l] : acc[l];
    }
  }
}

// y (n positions, `blocks` blocks of outputs from block first on in the packed weights) = bias + the strip's sums; or
// += the sums where accumulate (then without bias).
template <class E>
inline void strip_run(const Strip<E>& s, StripBuffers& b, i64 n, i64 first, i64 blocks, const StripOut<E>* out, i64 step,
                      bool accumulate) {
  constexpr bool pairs = is_dot<E>;
  const bool single = s.ci == 1;  // never of pairs
  const i64 inputs = packed_inputs<E>(s.ci);
  const i64 vectors = ((blocks - 1) * 16 + out[blocks - 1].lanes + kLanes - 1) / kLanes;
  for (i64 j = 0; j < blocks; ++j)
    for (i64 l = 0; l < 16; ++l) b.bias[j * 16 + l] = out[j].bias && l < out[j].lanes ? out[j].bias[l] : 0;
  i64 cover = single ? kStripCover : 0;
  for (i64 v = 0; v < vectors && !single; v += tile_vectors(vectors - v)) {
    const i64 tw = conv3d_tile_of<pairs>(s.dot, inputs, tile_vectors(vectors - v), n, s.kw, single).tw;
    cover = imax(cover, cdiv(n, tw) * tw);
  }
  const i64 count = cover + s.kw - 1;
  const i64 room = kStripBuffer / (s.slots * count) / 16 * 16;
  const i64 chunk = single ? 1 : imin(room, inputs <= room ? inputs : imax(16, kChunk));
  TileArgs t;
  t.rows = s.rows;
  t.xblock = count * 16;
  t.wblock = s.wblock;
  t.wci = s.wci;
  for (i64 c0 = 0; c0 < inputs; c0 += chunk) {
    const i64 cn = imin(chunk, inputs - c0), rowSize = single ? count : cdiv(chunk, 16) * 16 * count;
    const i64 layout = (c0 * kStripCover + cover) * 2048 + chunk;
    t.ci = cn;
    for (i64 r = 0; r < s.rows; ++r) {
      const StripRow<E>& row = s.row[r];
      f32* x = b.x + row.slot * rowSize;
      if (strip_lies(row, s.ld, count, cn)) {
        t.x[r] = reinterpret_cast<const f32*>(row.src + row.first * s.ld);
        t.w[r] = s.w[r];
        continue;
      }
      if (b.src[row.slot] != row.src || b.first[row.slot] != row.first || b.layout[row.slot] != layout) {
        strip_fill(x, row, s.ld, count, pairs ? 2 * c0 : c0, pairs ? imin(2 * cn, s.ci - 2 * c0) : cn, single);
        b.src[row.slot] = row.src;
        b.first[row.slot] = row.first;
        b.layout[row.slot] = layout;
      }
      t.x[r] = x;
      t.w[r] = s.w[r] + c0 * s.wci;
    }
    for (i64 v = 0, tc; v < vectors; v += tc) {
      tc = tile_vectors(vectors - v);
      const TileChoice tile = conv3d_tile_of<pairs>(s.dot, inputs, tc, n, s.kw, single);
      t.positions = tile.tw;
      const i64 j = v * kLanes / 16, in = v * kLanes % 16;
      bool whole = true;
      for (i64 c = v * kLanes; c < (v + tc) * kLanes; c += kLanes) whole &= c % 16 + kLanes <= out[c / 16].lanes;
      t.woff = (first + j) * s.wblock + in;
      for (i64 p = 0; p < n; p += tile.tw) {
        // bf16 is rounded once, when all channels are summed.
        const bool direct = whole && p + tile.tw <= n && sizeof(E) == sizeof(f32);
        t.xoff = single ? p : p * 16;
        if (direct) {
          t.out = reinterpret_cast<f32*>(out[j].y + in + p * step);
          t.outLd = step;
          t.outVec = kLanes == 16 && tc > 1 ? out[j + 1].y - out[j].y : kLanes;
        } else {
          t.out = b.acc + p * kStripOut + v * kLanes;
          t.outLd = kStripOut;
          t.outVec = kLanes;
        }
        if (c0 != 0 || (direct && accumulate)) {
          t.init = t.out;
          t.initLd = t.outLd;
          t.initVec = t.outVec;
        } else {
          t.init = b.bias + v * kLanes;
          t.initLd = 0;
          t.initVec = kLanes;
        }
        tile.fn(t);
        if (!direct && c0 + cn == inputs) strip_store(b, out, v, tc, p, imin(tile.tw, n - p), step, accumulate);
      }
    }
  }
}

}  // namespace
}  // namespace macl
