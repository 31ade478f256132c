// conv3d on tensor cores in TF32 (inputs and weights rounded to 10 bits of mantissa, sums in fp32): forward, dx and dw for
// kernels 3×3×3 and 1×3×3, stride 1, from 16 channels on. The tiles and splits are conv3d_tile.h's and conv3d_bwd_w.h's.
#pragma once
#include "conv3d_bwd_w.h"
#include "conv3d_tile.h"

namespace macl {
namespace gpu {
namespace {

inline bool tf32_fits(const ConvShape& s) { return tile_fits(s) && s.i >= 16 && s.o >= 16; }

__device__ inline float4 round4(f32* p) {
  const float4 whole = *reinterpret_cast<float4*>(p);
  float4 v = whole;
  v.x = __uint_as_float(to_tf32(v.x)), v.y = __uint_as_float(to_tf32(v.y));
  v.z = __uint_as_float(to_tf32(v.z)), v.w = __uint_as_float(to_tf32(v.w));
  *reinterpret_cast<float4*>(p) = v;
  return whole;
}

// ---- forward and dx ----
// A warp makes units of 8×8 voxels (of H, W) × OT channels: a unit is four 16-row tiles of two rows of voxels each. Lane
// (g, t) reads position g, channel t of x and channel t, output g of w. Shared memory: x [row][position][12], 8 of them used; w
// [tap][channel][OT + 8]: eight positions or four channels apart are different banks. Reads are of 32 bits, because the
// instruction wants its operand's four registers side by side, and what lies side by side in memory does not.

template <int KD, int OT>
struct Tf32Tile {
  using Tile = ConvTile<KD, OT>;
  static constexpr int kPositions = kTileW + 2, kPosition = kTileC + 4, kRow = kPositions * kPosition;
  static constexpr int kWRow = OT + 8;
  static constexpr int kUnits = Tile::kD * Tile::kH / 8 / 4;  // of a warp
  static constexpr int kN = OT / 8;
  static constexpr int kX = Tile::kInRows * kRow, kW = Tile::kTaps * kTileC * kWRow;
  static constexpr i64 kBytes = (kX + kW) * i64(sizeof(f32));
};

template <int KD, int OT>
__global__ void __launch_bounds__(kTileThreads, 3) conv3d_fwd_tf32_kernel(ConvShape s, ConvCall c, TileGrid g, int outBlocks,
                                                                            TileSplit split) {
  using T = ConvTile<KD, OT>;
  using F = Tf32Tile<KD, OT>;
  GPU_DYN_SHARED(f32, xs);
  GPU_SHARED(int, origin, 4);  // n, d, h, w
  f32* ws = xs + F::kX;
  const int t = int(threadIdx.x), lane = t % kWarp, warp = t / kWarp, lg = lane / 4, lt = lane % 4;
  const int o0 = int(blockIdx.x % unsigned(outBlocks)) * OT;
  if (t == 0) {
    int tile = int(blockIdx.x / unsigned(outBlocks));
    origin[3] = tile % g.w * kTileW, tile /= g.w;
    origin[2] = tile % g.h * T::kH, tile /= g.h;
    origin[1] = tile % g.d * T::kD;
    origin[0] = tile / g.d;
  }
  __syncthreads();
  const int D = int(s.od), H = int(s.oh), W = int(s.ow), I = int(s.i), O = int(s.o), padded = int(padded_channels(s.o));
  const bool vectors = I % 4 == 0 && c.ldx % 4 == 0 && reinterpret_cast<u64>(c.x) % 16 == 0;

  f32 sum[F::kUnits][4][F::kN][4];
  GPU_UNROLL for (int n = 0; n < F::kN; ++n)
    GPU_UNROLL for (int k = 0; k < 4; ++k) {
      const int at = o0 + n * 8 + lt * 2 + k % 2;
      const f32 b = c.b && at < O ? c.b[at] : 0;
      GPU_UNROLL for (int u = 0; u < F::kUnits; ++u)
        GPU_UNROLL for (int m = 0; m < 4; ++m) sum[u][m][n][k] = b;
    }

  const int first = int(blockIdx.y) * split.channels, last = min(I, first + split.channels);
  for (int i0 = first; i0 < last; i0 += kTileC) {
    const int channels = min(kTileC, last - i0);
    if (i0 > first) __syncthreads();
    const int nn = origin[0], d0 = origin[1] - KD / 2, h0 = origin[2] - 1, w0 = origin[3] - 1;
    for (int e = t; e < T::kInRows * F::kPositions * 2; e += kTileThreads) {
      const int p = e / 2 % F::kPositions, r = e / 2 / F::kPositions, k = e % 2 * 4;
      const int d = d0 + r / T::kInH, h = h0 + r % T::kInH, w = w0 + p;
      const bool in = d >= 0 && d < D && h >= 0 && h < H && w >= 0 && w < W;
      copy4(xs + e / 2 * F::kPosition + k, c.x + (((i64(nn) * D + d) * H + h) * W + w) * c.ldx + i0 + k, in ? channels - k : 0,
            vectors);
    }
    for (int e = t; e < F::kW / F::kWRow * (OT / 4); e += kTileThreads) {
      const int o = e % (OT / 4) * 4, k = e / (OT / 4) % kTileC, tap = e / (OT / 4) / kTileC;
      const bool in = o0 + o < padded && k < channels;
      cp_async16(ws + (tap * kTileC + k) * F::kWRow + o, in ? c.wp + (i64(tap) * I + i0 + k) * padded + o0 + o : c.wp,
                 in ? 16 : 0);
    }
    cp_async_commit();
    cp_async_wait<0>();
    for (int e = t; e < T::kInRows * F::kPositions * 2; e += kTileThreads)
      round4(xs + e / 2 * F::kPosition + e % 2 * 4);  // its own copies
    __syncthreads();

    const f32* x = xs + lg * F::kPosition + lt;
    const f32* w = ws + lt * F::kWRow + lg;
    GPU_ROLLED for (int kd = 0; kd < KD; ++kd)
      GPU_ROLLED for (int kh = 0; kh < 3; ++kh)
        GPU_UNROLL for (int kw = 0; kw < 3; ++kw) {
          u32 b[F::kN][2];
          const f32* wk = w + ((kd * 3 + kh) * 3 + kw) * kTileC * F::kWRow;
          GPU_UNROLL for (int n = 0; n < F::kN; ++n) {
            b[n][0] = __float_as_uint(wk[n * 8]);
            b[n][1] = __float_as_uint(wk[4 * F::kWRow + n * 8]);
          }
          GPU_UNROLL for (int u = 0; u < F::kUnits; ++u) {
            const int unit = warp * F::kUnits + u;
            const f32* xu = x + ((unit / (T::kH / 8) + kd) * T::kInH + unit % (T::kH / 8) * 8 + kh) * F::kRow + kw * F::kPosition;
            GPU_UNROLL for (int m = 0; m < 4; ++m) {
              const f32* p = xu + m * 2 * F::kRow;
              const u32 a[4] = {__float_as_uint(p[0]), __float_as_uint(p[F::kRow]), __float_as_uint(p[4]),
                                __float_as_uint(p[F::kRow + 4])};
              GPU_UNROLL for (int n = 0; n < F::kN; ++n) mma_tf32_16x8x8(sum[u][m][n], a, b[n]);
            }
          }
        }
  }

  const int n0 = origin[0], d0 = origin[1], h0 = origin[2], w0 = origin[3], w = w0 + lg;
  if (c.stats) {
    __syncthreads();
    f32 v[F::kUnits * 8][F::kN * 2];
    u32 valid = 0;
    GPU_UNROLL for (int u = 0; u < F::kUnits; ++u)
      GPU_UNROLL for (int h = 0; h < 8; ++h) {
        const int unit = warp * F::kUnits + u;
        if (w < W && d0 + unit / (T::kH / 8) < D && h0 + unit % (T::kH / 8) * 8 + h < H) valid |= 1u << (u * 8 + h);
        GPU_UNROLL for (int o = 0; o < F::kN * 2; ++o) v[u * 8 + h][o] = sum[u][h / 2][o / 2][h % 2 * 2 + o % 2];
      }
    const int count = min(T::kD, D - d0) * min(T::kH, H - h0) * min(kTileW, W - w0);
    tile_stats<OT>(v, valid, 4, 16, [&](int o) { return o / 2 * 8 + lt * 2 + o % 2; }, count, xs, c.stats + o0 * g.tiles * 3,
                   blockIdx.x / unsigned(outBlocks), g.tiles, O - o0);
  }
  if (w >= W) return;
  const bool pairs = O % 2 == 0 && c.ldy % 2 == 0 && reinterpret_cast<u64>(c.y) % 8 == 0;
  GPU_UNROLL for (int u = 0; u < F::kUnits; ++u)
    GPU_UNROLL for (int r = 0; r < 8; ++r) {
      const int unit = warp * F::kUnits + u, d = d0 + unit / (T::kH / 8), h = h0 + unit % (T::kH / 8) * 8 + r;
      if (d >= D || h >= H) continue;
      f32* y = c.y + blockIdx.y * split.stride + (((i64(n0) * D + d) * H + h) * W + w) * c.ldy + o0;
      GPU_UNROLL for (int n = 0; n < F::kN; ++n) {
        f32 a = sum[u][r / 2][n][r % 2 * 2], b = sum[u][r / 2][n][r % 2 * 2 + 1];
        if (c.act && a < 0) a *= c.slope;
        if (c.act && b < 0) b *= c.slope;
        const int o = n * 8 + lt * 2;
        if (pairs) {
          if (o0 + o >= O) continue;
          float2* to = reinterpret_cast<float2*>(y + o);
          *to = c.accumulate ? make_float2(to->x + a, to->y + b) : make_float2(a, b);
        } else {
          if (o0 + o < O) y[o] = c.accumulate ? y[o] + a : a;
          if (o0 + o + 1 < O) y[o + 1] = c.accumulate ? y[o + 1] + b : b;
        }
      }
    }
}

struct ForwardTf32 {
  template <int KD, int OT>
  static void tile(const Launch& l, const ConvShape& s, const ConvCall& c, const TileGrid& g, int blocks,
                   const TileSplit& split) {
    launch({dim3(unsigned(g.tiles * blocks), unsigned(split.parts)), kTileThreads, Tf32Tile<KD, OT>::kBytes, l.stream},
           conv3d_fwd_tf32_kernel<KD, OT>, s, c, g, blocks, split);
  }
};

// ---- dw ----
// Twelve warps: 3 kh × 4 groups of rows; a warp makes IT inputs × OT outputs × 3 kw, eight voxels of a row at a time (k).
// Voxels of shared memory are 8 words apart modulo 32 (16: 24), so that 4 voxels × 8 channels meet all banks.

constexpr int kDwPad = 8;

template <int KD, int IT, int OT>
__global__ void __launch_bounds__(kDwThreads, 1) conv3d_bwd_w_tf32_kernel(ConvShape s, DwCall c, DwGrid g, int inBlocks,
                                                                         int outBlocks) {
  using T = DwStage<IT, OT, kDwPad>;
  constexpr int M = IT / 16, N = OT / 8, kSums = 3 * M * N * 4;
  static_assert(2 * (T::kX + T::kY) >= 3 * kSums * kWarp, "the groups' sums pass through the same memory");
  GPU_DYN_SHARED(f32, memory);
  const int t = int(threadIdx.x), lane = t % kWarp, warp = t / kWarp, kh = warp % 3, group = warp / 3;
  const int lg = lane / 4, lt = lane % 4;
  const int kd = int(blockIdx.x % KD);
  const int rest = int(blockIdx.x / KD), chunk = rest / outBlocks / inBlocks;
  const int o0 = rest % outBlocks * OT, i0 = rest / outBlocks % inBlocks * IT;
  const int D = int(s.od), H = int(s.oh), W = int(s.ow), I = int(s.i), O = int(s.o);
  const int begin = chunk * g.stagesOfChunk, end = min(begin + g.stagesOfChunk, g.stages);
  const auto copy = [&](int stage, int buffer) {
    dw_copy<KD, IT, OT, kDwPad>(s, c, g, stage, kd, i0, o0, memory + buffer * (T::kX + T::kY));
  };

  const bool bias = c.db && kd == KD / 2 && i0 == 0;
  f32 biases[4] = {};
  f32 sum[3][M][N][4] = {};
  copy(begin, 0);
  for (int stage = begin; stage < end; ++stage) {
    const int buffer = (stage - begin) & 1;
    if (stage + 1 < end)
      copy(stage + 1, buffer ^ 1);
    else
      cp_async_commit();
    cp_async_wait<1>();
    f32 *xs = memory + buffer * (T::kX + T::kY), *ys = xs + T::kX;
    // Each thread rounds what it copied.
    for (int e = t; e < T::kX / T::kXV * (IT / 4); e += kDwThreads) round4(xs + e / (IT / 4) * T::kXV + e % (IT / 4) * 4);
    for (int e = t; e < T::kY / T::kYV * (OT / 4); e += kDwThreads) {
      const float4 v = round4(ys + e / (OT / 4) * T::kYV + e % (OT / 4) * 4);
      if (bias) biases[0] += v.x, biases[1] += v.y, biases[2] += v.z, biases[3] += v.w;
    }
    __syncthreads();
    const StagePlace place = stage_place(g, stage, T::kD);
    const int steps = (min(kDwW, W - place.w) + 7) / 8;
    for (int r = group; r < T::kD * kDwH; r += 4) {
      const int td = r / kDwH, th = r % kDwH;
      if (place.h + th >= H || place.d + td >= D) continue;
      const f32* x = xs + ((td * (kDwH + 2) + th + kh) * (kDwW + 2) + lt) * T::kXV + lg;
      const f32* y = ys + (r * kDwW + lt) * T::kYV + lg;
      for (int step = 0; step < steps; ++step, x += 8 * T::kXV, y += 8 * T::kYV) {
        u32 b[N][2];
        GPU_UNROLL for (int n = 0; n < N; ++n) {
          b[n][0] = __float_as_uint(y[n * 8]);
          b[n][1] = __float_as_uint(y[4 * T::kYV + n * 8]);
        }
        GPU_UNROLL for (int kw = 0; kw < 3; ++kw)
          GPU_UNROLL for (int m = 0; m < M; ++m) {
            const f32* p = x + kw * T::kXV + m * 16;
            const u32 a[4] = {__float_as_uint(p[0]), __float_as_uint(p[8]), __float_as_uint(p[4 * T::kXV]),
                              __float_as_uint(p[4 * T::kXV + 8])};
            GPU_UNROLL for (int n = 0; n < N; ++n) mma_tf32_16x8x8(sum[kw][m][n], a, b[n]);
          }
      }
    }
    __syncthreads();
  }

  if (bias) dw_bias<OT>(biases, memory, c, o0, O, chunk, g.chunks);
  f32* mine = memory + kh * kSums * kWarp + lane;
  for (int from = 1; from < 4; ++from) {
    if (group == from)
      GPU_UNROLL for (int e = 0; e < kSums; ++e) mine[e * kWarp] = sum[e / (M * N * 4)][e / (N * 4) % M][e / 4 % N][e % 4];
    __syncthreads();
    if (group == 0)
      GPU_UNROLL for (int e = 0; e < kSums; ++e) sum[e / (M * N * 4)][e / (N * 4) % M][e / 4 % N][e % 4] += mine[e * kWarp];
    __syncthreads();
  }
  if (group != 0) return;
  GPU_UNROLL for (int kw = 0; kw < 3; ++kw)
    GPU_UNROLL for (int m = 0; m < M; ++m)
      GPU_UNROLL for (int n = 0; n < N; ++n)
        GPU_UNROLL for (int k = 0; k < 4; ++k) {
          const int i = i0 + m * 16 + lg + k / 2 * 8, o = o0 + n * 8 + lt * 2 + k % 2;
          if (i < I && o < O) c.partial[(((i64(chunk) * KD + kd) * 9 + kh * 3 + kw) * I + i) * O + o] = sum[kw][m][n][k];
        }
}

struct DwTileTf32 {
  template <int KD, int IT, int OT>
  static void tile(const Launch& l, const ConvShape& s, const DwCall& c, const DwGrid& g) {
    const i64 in = ceil_div(s.i, IT), out = ceil_div(s.o, OT);
    launch({unsigned(g.chunks * in * out * KD), kDwThreads, DwStage<IT, OT, kDwPad>::kBytes, l.stream},
           conv3d_bwd_w_tf32_kernel<KD, IT, OT>, s, c, g, in, out);
  }
};

}  // namespace
}  // namespace gpu
}  // namespace macl
