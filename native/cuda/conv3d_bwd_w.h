// conv3d's weight gradient in fp32, kernels 3×3×3 and 1×3×3, stride 1: a split over voxels by shapes alone, then
// conv_dw_combine_kernel.
//
// conv3d_bwd_w_tile_kernel: a block makes IT inputs × OT outputs × 9 taps of one kd over its chunk of stages. A stage is one
// or two planes × 8 rows × 16 voxels of dy, and x with its halo; the next one is copied while one is computed. Twelve warps:
// 3 kh × 4 groups of rows; a thread 4 inputs × 8 outputs × 3 kw: along a row it reads 4 + 8 values a voxel for 96
// multiply-adds. Shared memory [plane][row][voxel][channel]: neighbouring threads read neighbouring channels, no conflicts.
//
// conv3d_bwd_w_few_kernel: for up to four inputs; a thread 4 outputs × all taps of one input.
#pragma once
#include "conv3d_tile.h"

namespace macl {
namespace gpu {
namespace {

constexpr int kDwThreads = 384, kDwH = 8, kDwW = 16;
constexpr i64 kDwDevice = 132;  // multiprocessors that the split is made for

struct DwCall {
  const f32 *x, *dy;
  i64 ldx, ldy;
  f32* partial;  // [chunk][tap][I][O]
  f64* db;       // [O][chunk]; null: none
};

struct DwGrid {
  int d, h, w;     // stages an axis
  int stages;      // of all samples
  int chunks, stagesOfChunk;
};

// The split of `stages` in chunks that keeps a device of kDwDevice · `together` places busy longest, at `blocks` a chunk.
inline void split_stages(DwGrid& g, i64 blocks, i64 together, i64 bytesOfChunk) {
  int best = 1;
  f64 bestCost = 1e300;
  for (int c = 1; c <= g.stages && c <= kDwChunks && (c == 1 || c * bytesOfChunk <= (i64(96) << 20)); ++c) {
    const f64 cost = f64(ceil_div(blocks * c, kDwDevice * together)) * (f64(ceil_div(g.stages, c)) + 2.0);
    if (cost < bestCost * 0.98) best = c, bestCost = cost;
  }
  g.stagesOfChunk = int(ceil_div(g.stages, best));
  g.chunks = int(ceil_div(g.stages, g.stagesOfChunk));
}

// Pad: words between the voxels of shared memory beside their channels.
template <int IT, int OT, int Pad>
struct DwStage {
  static constexpr int kD = IT * OT == 1024 ? 1 : 2;
  static constexpr int kXV = IT + Pad, kYV = OT + Pad;  // words of a voxel
  static constexpr int kX = kD * (kDwH + 2) * (kDwW + 2) * kXV, kY = kD * kDwH * kDwW * kYV;
  static constexpr i64 kBytes = 2 * (kX + kY) * i64(sizeof(f32));
};

template <int IT, int OT>
struct DwTile : DwStage<IT, OT, 0> {
  using DwStage<IT, OT, 0>::kD;
  using DwStage<IT, OT, 0>::kX;
  using DwStage<IT, OT, 0>::kY;
  static constexpr int kIn = IT / 4, kOut = OT / 8, kVoxelRows = kWarp / (kIn * kOut);
  static constexpr int kRowsOfLane = kD * kDwH / (4 * kVoxelRows);
  static_assert(2 * (kX + kY) >= 3 * 96 * kWarp, "the groups' sums pass through the same memory");
};

struct StagePlace {
  int w, h, d;
  i64 n;
};
__device__ inline StagePlace stage_place(const DwGrid& g, int stage, int depth, int height = kDwH, int width = kDwW) {
  const int h = stage / g.w, d = h / g.h, n = d / g.d;
  return {(stage - h * g.w) * width, (h - d * g.h) * height, (d - n * g.d) * depth, n};
}

// Begins the copies of a stage: x with the halo of tap kd, then dy. The threads walk as they do in dw_round.
template <int KD, int IT, int OT, int Pad>
__device__ inline void dw_copy(const ConvShape& s, const DwCall& c, const DwGrid& g, int stage, int kd, int i0, int o0, f32* xs) {
  using T = DwStage<IT, OT, Pad>;
  f32* ys = xs + T::kX;
  const int D = int(s.od), H = int(s.oh), W = int(s.ow), I = int(s.i), O = int(s.o), t = int(threadIdx.x);
  const bool xv4 = I % 4 == 0 && c.ldx % 4 == 0 && reinterpret_cast<u64>(c.x) % 16 == 0;
  const bool yv4 = O % 4 == 0 && c.ldy % 4 == 0 && reinterpret_cast<u64>(c.dy) % 16 == 0;
  const StagePlace at = stage_place(g, stage, T::kD);
  for (int e = t; e < T::kX / T::kXV * (IT / 4); e += kDwThreads) {
    const int i = e % (IT / 4) * 4, v = e / (IT / 4);
    const int w = at.w + v % (kDwW + 2) - 1, r = v / (kDwW + 2), h = at.h + r % (kDwH + 2) - 1;
    const int d = at.d + r / (kDwH + 2) + kd - KD / 2;
    const bool in = w >= 0 && w < W && h >= 0 && h < H && d >= 0 && d < D;
    copy4(xs + v * T::kXV + i, c.x + (((at.n * D + d) * H + h) * W + w) * c.ldx + i0 + i, in ? I - i0 - i : 0, xv4);
  }
  for (int e = t; e < T::kY / T::kYV * (OT / 4); e += kDwThreads) {
    const int o = e % (OT / 4) * 4, v = e / (OT / 4);
    const int w = at.w + v % kDwW, r = v / kDwW, h = at.h + r % kDwH, d = at.d + r / kDwH;
    const bool in = w < W && h < H && d < D;
    copy4(ys + v * T::kYV + o, c.dy + (((at.n * D + d) * H + h) * W + w) * c.ldy + o0 + o, in ? O - o0 - o : 0, yv4);
  }
  cp_async_commit();
}

// The sums of dy that a block's threads made of their own copies (each always of the same four channels), to db's partial sum of
// the chunk. scratch: 4 · kDwThreads elements.
template <int OT>
__device__ inline void dw_bias(const f32 (&sum)[4], f32* scratch, const DwCall& c, int o0, int O, int chunk, int chunks) {
  const int t = int(threadIdx.x);
  *reinterpret_cast<float4*>(scratch + t * 4) = make_float4(sum[0], sum[1], sum[2], sum[3]);
  __syncthreads();
  if (t < OT && o0 + t < O) {
    f64 total = 0;
    for (int k = 0; k < kDwThreads * 4 / OT; ++k) total += scratch[k * OT + t];
    c.db[i64(o0 + t) * chunks + chunk] = total;
  }
  __syncthreads();
}

template <int KD, int IT, int OT>
__global__ void __launch_bounds__(kDwThreads, 1) conv3d_bwd_w_tile_kernel(ConvShape s, DwCall c, DwGrid g, int inBlocks,
                                                                         int outBlocks) {
  using T = DwTile<IT, OT>;
  GPU_DYN_SHARED(f32, memory);
  const int t = int(threadIdx.x), lane = t % kWarp, warp = t / kWarp, kh = warp % 3, group = warp / 3;
  const int ig = lane % T::kIn, og = lane / T::kIn % T::kOut, vr = lane / (T::kIn * T::kOut);
  const int kd = int(blockIdx.x % KD);
  const int rest = int(blockIdx.x / KD), chunk = rest / outBlocks / inBlocks;
  const int o0 = rest % outBlocks * OT, i0 = rest / outBlocks % inBlocks * IT;
  const int D = int(s.od), H = int(s.oh), W = int(s.ow), I = int(s.i), O = int(s.o);
  const int begin = chunk * g.stagesOfChunk, end = min(begin + g.stagesOfChunk, g.stages);
  const auto copy = [&](int stage, int buffer) {
    dw_copy<KD, IT, OT, 0>(s, c, g, stage, kd, i0, o0, memory + buffer * (T::kX + T::kY));
  };

  const bool bias = c.db && kd == KD / 2 && i0 == 0;
  f32 biases[4] = {};
  f32 sum[3][4][8] = {};
  copy(begin, 0);
  for (int stage = begin; stage < end; ++stage) {
    const int buffer = (stage - begin) & 1;
    if (stage + 1 < end)
      copy(stage + 1, buffer ^ 1);
    else
      cp_async_commit();
    cp_async_wait<1>();
    const f32 *xs = memory + buffer * (T::kX + T::kY), *ys = xs + T::kX;
    if (bias)
      for (int e = t; e < T::kY / 4; e += kDwThreads) {  // its own copies
        const float4 v = *reinterpret_cast<const float4*>(ys + e * 4);
        biases[0] += v.x, biases[1] += v.y, biases[2] += v.z, biases[3] += v.w;
      }
    __syncthreads();
    const StagePlace place = stage_place(g, stage, T::kD);
    const int quads = (min(kDwW, W - place.w) + 3) / 4;
    for (int k = 0; k < T::kRowsOfLane; ++k) {
      const int r = (k * 4 + group) * T::kVoxelRows + vr, td = r / kDwH, th = r % kDwH;
      if (place.h + th >= H || place.d + td >= D) continue;
      const f32* x = xs + (td * (kDwH + 2) + th + kh) * (kDwW + 2) * IT + ig * 4;
      const f32* y = ys + r * kDwW * OT + og * 8;
      f32 xv[6][4];
      GPU_UNROLL for (int p = 0; p < 2; ++p) {
        const float4 v = *reinterpret_cast<const float4*>(x + p * IT);
        xv[p][0] = v.x, xv[p][1] = v.y, xv[p][2] = v.z, xv[p][3] = v.w;
      }
      for (int quad = 0; quad < quads; ++quad, x += 4 * IT, y += 4 * OT) {
        GPU_UNROLL for (int p = 0; p < 4; ++p) {
          const float4 v = *reinterpret_cast<const float4*>(x + (p + 2) * IT);
          xv[p + 2][0] = v.x, xv[p + 2][1] = v.y, xv[p + 2][2] = v.z, xv[p + 2][3] = v.w;
          const float4 ya = *reinterpret_cast<const float4*>(y + p * OT);
          const float4 yb = *reinterpret_cast<const float4*>(y + p * OT + 4);
          const f32 yv[8] = {ya.x, ya.y, ya.z, ya.w, yb.x, yb.y, yb.z, yb.w};
          GPU_UNROLL for (int kw = 0; kw < 3; ++kw)
            GPU_UNROLL for (int i = 0; i < 4; ++i)
              GPU_UNROLL for (int o = 0; o < 8; ++o) sum[kw][i][o] += xv[p + kw][i] * yv[o];
        }
        GPU_UNROLL for (int p = 0; p < 2; ++p)
          GPU_UNROLL for (int i = 0; i < 4; ++i) xv[p][i] = xv[p + 4][i];
      }
    }
    __syncthreads();
  }

  if (bias) dw_bias<OT>(biases, memory, c, o0, O, chunk, g.chunks);
  // Over the lanes of other rows, then over the groups, in order.
  GPU_UNROLL for (int kw = 0; kw < 3; ++kw)
    GPU_UNROLL for (int i = 0; i < 4; ++i)
      GPU_UNROLL for (int o = 0; o < 8; ++o)
        for (int step = T::kVoxelRows / 2; step > 0; step /= 2)
          sum[kw][i][o] += __shfl_xor_sync(0xffffffffu, sum[kw][i][o], step * T::kIn * T::kOut);
  f32* mine = memory + kh * 96 * kWarp + lane;
  for (int from = 1; from < 4; ++from) {
    if (group == from)
      GPU_UNROLL for (int e = 0; e < 96; ++e) mine[e * kWarp] = sum[e / 32][e / 8 % 4][e % 8];
    __syncthreads();
    if (group == 0)
      GPU_UNROLL for (int e = 0; e < 96; ++e) sum[e / 32][e / 8 % 4][e % 8] += mine[e * kWarp];
    __syncthreads();
  }
  if (group != 0 || vr != 0) return;
  GPU_UNROLL for (int kw = 0; kw < 3; ++kw)
    GPU_UNROLL for (int i = 0; i < 4; ++i) {
      const int at = i0 + ig * 4 + i, ob = o0 + og * 8;
      f32* p = c.partial + (((i64(chunk) * KD + kd) * 9 + kh * 3 + kw) * I + at) * O + ob;
      GPU_UNROLL for (int o = 0; o < 8; ++o)
        if (at < I && ob + o < O) p[o] = sum[kw][i][o];
    }
}

// ---- up to four inputs ----

constexpr int kFewThreads = 128, kFewW = 18, kFewH = 8, kFewD = 4, kFewOut = 16, kFewInputs = 4;
constexpr int kFewRow = kFewW + 3;                        // words of a row of x: odd, so that rows meet different banks
constexpr int kFewDyRow = kFewW * kFewOut + 16;           // words of a row of dy: half of the banks beside the next one's

template <int KD>
struct FewTile {
  static constexpr int kX = (kFewD + KD - 1) * (kFewH + 2) * kFewRow;
  static constexpr int kXPadded = (kX + 3) / 4 * 4;
  static constexpr int kY = kFewD * kFewH * kFewDyRow;
  static constexpr int kTaps = KD * 9;
  static constexpr i64 kBytes = (kXPadded + kY) * i64(sizeof(f32));
};

template <int KD>
__global__ void __launch_bounds__(kFewThreads, 3) conv3d_bwd_w_few_kernel(ConvShape s, DwCall c, DwGrid g, int outBlocks) {
  using T = FewTile<KD>;
  GPU_DYN_SHARED(f32, xs);
  f32* ys = xs + T::kXPadded;
  const int t = int(threadIdx.x), lane = t % kWarp, warp = t / kWarp, og = lane % 4, row = warp * 8 + lane / 4;
  const int td = row / kFewH, th = row % kFewH;
  const int D = int(s.od), H = int(s.oh), W = int(s.ow), I = int(s.i), O = int(s.o);
  const int o0 = int(blockIdx.x % unsigned(outBlocks)) * kFewOut, input = int(blockIdx.x / unsigned(outBlocks) % unsigned(I));
  const int chunk = int(blockIdx.x / unsigned(outBlocks) / unsigned(I));
  const bool yv4 = O % 4 == 0 && c.ldy % 4 == 0 && reinterpret_cast<u64>(c.dy) % 16 == 0;
  const int begin = chunk * g.stagesOfChunk, end = min(begin + g.stagesOfChunk, g.stages);
  f32 sum[T::kTaps][4] = {};
  for (int stage = begin; stage < end; ++stage) {
    const StagePlace place = stage_place(g, stage, kFewD, kFewH, kFewW);
    const int w0 = place.w, h0 = place.h, d0 = place.d;
    const i64 n = place.n;
    for (int e = t; e < T::kX; e += kFewThreads) {
      const int p = e % kFewRow, r = e / kFewRow, w = w0 + p - 1, h = h0 + r % (kFewH + 2) - 1;
      const int d = d0 + r / (kFewH + 2) - KD / 2;
      const bool in = p < kFewW + 2 && w >= 0 && w < W && h >= 0 && h < H && d >= 0 && d < D;
      cp_async4(xs + e, in ? c.x + (((n * D + d) * H + h) * W + w) * c.ldx + input : c.x, in ? 4 : 0);
    }
    for (int e = t; e < kFewD * kFewH * kFewW * 4; e += kFewThreads) {
      const int o = e % 4 * 4, p = e / 4 % kFewW, r = e / 4 / kFewW, w = w0 + p, h = h0 + r % kFewH, d = d0 + r / kFewH;
      const bool in = w < W && h < H && d < D;
      copy4(ys + r * kFewDyRow + p * kFewOut + o, c.dy + (((n * D + d) * H + h) * W + w) * c.ldy + o0 + o,
            in ? O - o0 - o : 0, yv4);
    }
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    const f32* x = xs + (td * (kFewH + 2) + th) * kFewRow;
    const f32* y = ys + row * kFewDyRow + og * 4;
    const int triples = d0 + td < D && h0 + th < H ? (min(kFewW, W - w0) + 2) / 3 : 0;
    f32 xv[KD * 3][3];
    GPU_UNROLL for (int r = 0; r < KD * 3; ++r)
      GPU_UNROLL for (int p = 0; p < 2; ++p) xv[r][p] = x[((r / 3) * (kFewH + 2) + r % 3) * kFewRow + p];
    for (int triple = 0; triple < triples; ++triple, x += 3, y += 3 * kFewOut) {
      GPU_UNROLL for (int p = 0; p < 3; ++p) {
        const float4 v = *reinterpret_cast<const float4*>(y + p * kFewOut);
        GPU_UNROLL for (int r = 0; r < KD * 3; ++r) {
          xv[r][(p + 2) % 3] = x[((r / 3) * (kFewH + 2) + r % 3) * kFewRow + p + 2];
          GPU_UNROLL for (int kw = 0; kw < 3; ++kw) {
            const f32 a = xv[r][(p + kw) % 3];
            sum[r * 3 + kw][0] += a * v.x;
            sum[r * 3 + kw][1] += a * v.y;
            sum[r * 3 + kw][2] += a * v.z;
            sum[r * 3 + kw][3] += a * v.w;
          }
        }
      }
    }
    __syncthreads();
  }
  // Over the rows of a warp, then over warps, in order. ys: [warp][tap][16].
  GPU_UNROLL for (int tap = 0; tap < T::kTaps; ++tap)
    GPU_UNROLL for (int o = 0; o < 4; ++o) {
      f32 v = sum[tap][o];
      for (int step = 4; step < kWarp; step *= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
      if (lane < 4) ys[(warp * T::kTaps + tap) * kFewOut + og * 4 + o] = v;
    }
  __syncthreads();
  for (int e = t; e < T::kTaps * kFewOut; e += kFewThreads) {
    const int tap = e / kFewOut, o = o0 + e % kFewOut;
    f32 v = 0;
    for (int k = 0; k < 4; ++k) v += ys[k * T::kTaps * kFewOut + e];
    if (o < O) c.partial[((i64(chunk) * T::kTaps + tap) * I + input) * O + o] = v;
  }
}

// ---- the split and the launch ----

// Whether the kernel of this shape makes db's partial sums too.
inline bool dw_makes_bias(const ConvShape& s) { return s.i > kFewInputs; }
inline bool dw_few(const ConvShape& s) { return s.i <= kFewInputs; }
inline int dw_tile_of(i64 channels) { return channels <= 16 ? 16 : 32; }

inline DwGrid dw_grid(const ConvShape& s) {  // of a folded shape
  const i64 bytes = taps_of(s) * s.i * s.o * i64(sizeof(f32));
  DwGrid g{};
  if (dw_few(s)) {
    g = {int(ceil_div(s.od, kFewD)), int(ceil_div(s.oh, kFewH)), int(ceil_div(s.ow, kFewW)), 0, 0, 0};
    g.stages = int(s.n * g.d * g.h * g.w);
    split_stages(g, s.i * ceil_div(s.o, kFewOut), 3, bytes);
  } else {
    const int it = dw_tile_of(s.i), ot = dw_tile_of(s.o);
    g = {int(ceil_div(s.od, it * ot == 1024 ? 1 : 2)), int(ceil_div(s.oh, kDwH)), int(ceil_div(s.ow, kDwW)), 0, 0, 0};
    g.stages = int(s.n * g.d * g.h * g.w);
    split_stages(g, s.kd * ceil_div(s.i, it) * ceil_div(s.o, ot), 1, bytes);
  }
  return g;
}

inline i64 tile_dw_chunks(const ConvShape& s) { return dw_grid(fold_planes(s)).chunks; }

// f.tile<KD, IT, OT>(…) launches the kernel of a tile.
struct DwTileFp32 {
  template <int KD, int IT, int OT>
  static void tile(const Launch& l, const ConvShape& s, const DwCall& c, const DwGrid& g) {
    const i64 in = ceil_div(s.i, IT), out = ceil_div(s.o, OT);
    launch({unsigned(g.chunks * in * out * KD), kDwThreads, DwTile<IT, OT>::kBytes, l.stream},
           conv3d_bwd_w_tile_kernel<KD, IT, OT>, s, c, g, in, out);
  }
};

template <class Tile, int KD>
inline void launch_dw_depth(const Launch& l, const ConvShape& s, const DwCall& c) {
  const DwGrid g = dw_grid(s);
  if (dw_few(s)) {
    const i64 out = ceil_div(s.o, kFewOut);
    launch({unsigned(g.chunks * s.i * out), kFewThreads, FewTile<KD>::kBytes, l.stream}, conv3d_bwd_w_few_kernel<KD>, s, c, g,
           out);
    return;
  }
  const bool i16 = dw_tile_of(s.i) == 16, o16 = dw_tile_of(s.o) == 16;
  if (i16)
    o16 ? Tile::template tile<KD, 16, 16>(l, s, c, g) : Tile::template tile<KD, 16, 32>(l, s, c, g);
  else
    o16 ? Tile::template tile<KD, 32, 16>(l, s, c, g) : Tile::template tile<KD, 32, 32>(l, s, c, g);
}

template <class Tile>
inline void launch_bwd_w_tile(const Launch& l, const ConvShape& shape, const DwCall& c) {
  const ConvShape s = fold_planes(shape);
  if (s.kd == 3)
    launch_dw_depth<Tile, 3>(l, s, c);
  else
    launch_dw_depth<Tile, 1>(l, s, c);
}

}  // namespace
}  // namespace gpu
}  // namespace macl
