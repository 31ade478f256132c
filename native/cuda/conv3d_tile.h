// conv3d forward and dx in fp32, kernels 3×3×3 and 1×3×3, stride 1.
//
// A block of 128 threads makes a tile of rows of 8 voxels × OT output channels; a thread one row × 8 channels. Eight input
// channels at a time, the tile's input with its halo and the weights of all taps are copied to shared memory (other blocks
// of the multiprocessor compute meanwhile). Per input channel and (kd, kh) a thread reads 10 inputs and 3 × 8 weights for
// 192 multiply-adds.
//
// Shared memory: x [channel][plane][row][12], w [tap][channel][OT]. Rows are 48 bytes apart, so that the eight threads that a
// 16-byte read serves at once meet all banks; channels are 4 words apart modulo 32.
#pragma once
#include <type_traits>

#include "conv3d.h"

namespace macl {
namespace gpu {
namespace {

constexpr int kTileThreads = 128;
constexpr int kTileW = 8, kTileRow = 12, kTileC = 8;

template <int KD, int OT>
struct ConvTile {
  static constexpr int kGroups = OT / 8;             // threads along the output channels
  static constexpr int kWarpRows = kWarp / kGroups;
  static constexpr int kRows = 4 * kWarpRows;
  static constexpr int kH = KD == 3 ? 8 : 16, kD = kRows / kH;
  static constexpr int kInD = kD + KD - 1, kInH = kH + 2, kInRows = kInD * kInH;
  static constexpr int kPlane = kInRows * kTileRow + (36 - kInRows * kTileRow % 32) % 32;  // ≡ 4 modulo 32
  static constexpr int kTaps = KD * 9;
  static constexpr int kX = kTileC * kPlane, kW = kTaps * kTileC * OT;
  static constexpr i64 kBytes = (kX + kW) * i64(sizeof(f32));
};

struct TileGrid {
  int d, h, w;  // tiles an axis
  i64 tiles;    // of all samples
};

// Where the tiles are too few for a device, the input channels are split: part p of the grid's y makes partial sums of its
// `channels` at y + p · stride, which conv_split_combine_kernel adds.
struct TileSplit {
  int parts, channels;
  i64 stride;
};

template <int KD, int OT>
inline TileGrid tile_grid(const ConvShape& s) {
  using T = ConvTile<KD, OT>;
  const int d = int(ceil_div(s.od, T::kD)), h = int(ceil_div(s.oh, T::kH)), w = int(ceil_div(s.ow, kTileW));
  return {d, h, w, s.n * d * h * i64(w)};
}

// Statistics of a tile of 128 threads: mean, then squares about it, each added in a fixed order. A thread holds P voxels
// (bit p of `valid`: it counts) × C channels, channel(o) from the tile's first one on; lanes of the same channels differ in the
// bits from `low` to `high` of their number. scratch: 4 · OT elements.
template <int OT, int P, int C, class Channel>
__device__ inline void tile_stats(const f32 (&sum)[P][C], u32 valid, int low, int high, Channel channel, int count, f32* scratch,
                                  f64* stats, i64 tile, i64 tiles, int channels) {
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  const bool first = (lane & (2 * high - low)) == 0;
  f32 mean[C];
  for (int pass = 0; pass < 2; ++pass) {
    GPU_UNROLL for (int o = 0; o < C; ++o) {
      f32 v = 0;
      GPU_UNROLL for (int p = 0; p < P; ++p) {
        const f32 d = pass == 0 ? sum[p][o] : sum[p][o] - mean[o];
        if (valid >> p & 1) v += pass == 0 ? d : d * d;
      }
      for (int step = high; step >= low; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
      if (first) scratch[warp * OT + channel(o)] = v;
    }
    __syncthreads();
    GPU_UNROLL for (int o = 0; o < C; ++o) {
      const int at = channel(o);
      const f32 total = (scratch[at] + scratch[OT + at]) + (scratch[2 * OT + at] + scratch[3 * OT + at]);
      if (pass == 0) {
        mean[o] = total / f32(count);
      } else if (warp == 0 && first && at < channels) {
        f64* p = stats + (at * tiles + tile) * 3;
        p[0] = f64(count);
        p[1] = f64(mean[o]);
        p[2] = f64(total);
      }
    }
    __syncthreads();
  }
}

template <int KD, int OT>
__global__ void __launch_bounds__(kTileThreads, 3) conv3d_fwd_tile_kernel(ConvShape s, ConvCall c, TileGrid g, int outBlocks,
                                                                            TileSplit split) {
  using T = ConvTile<KD, OT>;
  GPU_DYN_SHARED(f32, xs);
  f32* ws = xs + T::kX;
  const int t = int(threadIdx.x), lane = t % kWarp, warp = t / kWarp;
  GPU_SHARED(int, origin, 4);  // n, d, h, w: not in registers, which the sums need
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
  const int group = lane / T::kWarpRows, row = warp * T::kWarpRows + lane % T::kWarpRows;
  const int td = row / T::kH, th = row % T::kH;

  f32 sum[kTileW][8];
  GPU_UNROLL for (int o = 0; o < 8; ++o) {
    const int at = o0 + group * 8 + o;
    const f32 b = c.b && at < O ? c.b[at] : 0;
    GPU_UNROLL for (int p = 0; p < kTileW; ++p) sum[p][o] = b;
  }

  // This thread's part of the copies: one input channel, rows q, q + 16, …; positions from a start of its own on, so that
  // a warp's writes meet all banks.
  const int ci = t % kTileC, q = t / kTileC;
  const f32* xrow = xs + (td * T::kInH + th) * kTileRow;
  const f32* wrow = ws + group * 8;

  const int first = int(blockIdx.y) * split.channels, last = min(I, first + split.channels);
  for (int i0 = first; i0 < last; i0 += kTileC) {
    const int channels = min(kTileC, last - i0);
    if (i0 > first) __syncthreads();
    if (ci < channels) {
      const int n = origin[0], d0 = origin[1], h0 = origin[2], w0 = origin[3];
      const int right = min(kTileW + 2, W + 1 - w0);  // positions inside: [w0 == 0, right)
      for (int r = q; r < T::kInRows; r += kTileThreads / kTileC) {
        const int d = d0 + r / T::kInH - KD / 2, h = h0 + r % T::kInH - 1;
        const bool row = d >= 0 && d < D && h >= 0 && h < H;
        const f32* from = c.x + (((i64(n) * D + d) * H + h) * W + w0 - 1) * c.ldx + i0 + ci;
        f32* to = xs + ci * T::kPlane + r * kTileRow;
        int p = q & 3;
        for (int k = 0; k < kTileW + 2; ++k) {
          const bool in = row && p >= (w0 == 0) && p < right;
          cp_async4(to + p, in ? from + p * c.ldx : c.x, in ? 4 : 0);
          p = p == kTileW + 1 ? 0 : p + 1;
        }
      }
    }
    for (int e = t; e < T::kW / 4; e += kTileThreads) {
      const int o = e % (OT / 4) * 4, k = e / (OT / 4) % kTileC, tap = e / (OT / 4) / kTileC;
      if (k >= channels) continue;
      const bool in = o0 + o < padded;
      cp_async16(ws + e * 4, in ? c.wp + (i64(tap) * I + i0 + k) * padded + o0 + o : c.wp, in ? 16 : 0);
    }
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();

    for (int i = 0; i < channels; ++i)
      for (int kd = 0; kd < KD; ++kd) {
        const f32* x = xrow + i * T::kPlane + kd * T::kInH * kTileRow;
        const f32* w = wrow + (kd * 9 * kTileC + i) * OT;
        GPU_UNROLL for (int kh = 0; kh < 3; ++kh) {
          f32 xv[kTileRow];
          GPU_UNROLL for (int k = 0; k < kTileRow; k += 4) {
            const float4 v = *reinterpret_cast<const float4*>(x + kh * kTileRow + k);
            xv[k] = v.x, xv[k + 1] = v.y, xv[k + 2] = v.z, xv[k + 3] = v.w;
          }
          GPU_UNROLL for (int kw = 0; kw < 3; ++kw) {
            f32 wv[8];
            GPU_UNROLL for (int o = 0; o < 8; o += 4) {
              const float4 v = *reinterpret_cast<const float4*>(w + (kh * 3 + kw) * kTileC * OT + o);
              wv[o] = v.x, wv[o + 1] = v.y, wv[o + 2] = v.z, wv[o + 3] = v.w;
            }
            GPU_UNROLL for (int p = 0; p < kTileW; ++p)
              GPU_UNROLL for (int o = 0; o < 8; ++o) sum[p][o] += xv[p + kw] * wv[o];
          }
        }
      }
  }

  const int n = origin[0], d0 = origin[1], h0 = origin[2], w0 = origin[3];
  const int d = d0 + td, h = h0 + th, mine = d < D && h < H ? min(kTileW, W - w0) : 0;
  if (c.stats) {
    __syncthreads();
    const int count = min(T::kD, D - d0) * min(T::kH, H - h0) * min(kTileW, W - w0);
    tile_stats<OT>(sum, (1u << mine) - 1, 1, T::kWarpRows / 2, [&](int o) { return group * 8 + o; }, count, xs,
                   c.stats + o0 * g.tiles * 3, blockIdx.x / unsigned(outBlocks), g.tiles, O - o0);
  }
  const int ob = o0 + group * 8;
  if (mine == 0 || ob >= O) return;
  f32* y = c.y + blockIdx.y * split.stride + (((i64(n) * D + d) * H + h) * W + w0) * c.ldy + ob;
  const bool vectors = ob + 8 <= O && c.ldy % 4 == 0 && reinterpret_cast<u64>(c.y) % 16 == 0;
  GPU_UNROLL for (int p = 0; p < kTileW; ++p) {
    if (p >= mine) continue;
    GPU_UNROLL for (int o = 0; o < 8; ++o)
      if (c.act && sum[p][o] < 0) sum[p][o] *= c.slope;
    f32* to = y + p * c.ldy;
    if (vectors) {
      GPU_UNROLL for (int o = 0; o < 8; o += 4) {
        float4 v = make_float4(sum[p][o], sum[p][o + 1], sum[p][o + 2], sum[p][o + 3]);
        if (c.accumulate) {
          const float4 old = *reinterpret_cast<const float4*>(to + o);
          v = make_float4(old.x + v.x, old.y + v.y, old.z + v.z, old.w + v.w);
        }
        *reinterpret_cast<float4*>(to + o) = v;
      }
    } else {
      GPU_UNROLL for (int o = 0; o < 8; ++o)
        if (ob + o < O) to[o] = c.accumulate ? to[o] + sum[p][o] : sum[p][o];
    }
  }
}

// Depth-1 kernels see the samples as planes of one.
inline ConvShape fold_planes(ConvShape s) {
  if (s.kd == 1) {
    s.od = s.id = s.n * s.od;
    s.n = 1;
  }
  return s;
}

inline bool tile_fits(const ConvShape& s) {
  const i64 limit = i64(1) << 30;
  return s.kh == 3 && s.kw == 3 && unit_stride(s) && s.n * s.od < limit && s.oh < limit && s.ow < limit && s.i < limit / 32 &&
         s.o < limit / 32 && s.n * s.od * s.oh * s.ow / 32 * ceil_div(s.o, 16) < limit;
}

// Calls f with the kernel's depth and the output channels of a block.
template <class F>
inline auto with_tile(const ConvShape& s, F f) {
  constexpr std::integral_constant<int, 1> d1{};
  constexpr std::integral_constant<int, 3> d3{};
  constexpr std::integral_constant<int, 16> o16{};
  constexpr std::integral_constant<int, 32> o32{};
  if (s.kd == 3) return s.o <= 16 ? f(d3, o16) : f(d3, o32);
  return s.o <= 16 ? f(d1, o16) : f(d1, o32);
}

constexpr i64 kTileDevice = 132;  // multiprocessors that the split is made for

inline TileSplit tile_split(const ConvShape& s, i64 blocks) {
  const i64 wanted = ceil_div(2 * kTileDevice, blocks), most = s.i / 16;
  const i64 parts = blocks >= kTileDevice || most < 2 ? 1 : wanted < most ? wanted : most;
  const i64 channels = ceil_div(ceil_div(s.i, parts), kTileC) * kTileC;
  return {int(ceil_div(s.i, channels)), int(channels), s.n * s.od * s.oh * s.ow * s.o};
}

// y = b + the parts in order; then as the kernels' own ends.
__global__ void conv_split_combine_kernel(const f32* __restrict__ partial, int parts, i64 total, i64 channels, ConvCall c) {
  for (i64 e = blockIdx.x * i64(blockDim.x) + threadIdx.x; e < total; e += i64(gridDim.x) * blockDim.x) {
    f32 v = c.b ? c.b[e % channels] : 0;
    for (int k = 0; k < parts; ++k) v += partial[k * total + e];
    if (c.act && v < 0) v *= c.slope;
    f32* y = c.y + e / channels * c.ldy + e % channels;
    *y = c.accumulate ? *y + v : v;
  }
}

struct TilePlan {
  i64 partials;  // of statistics, a channel; 0: the kernel leaves none (it is split)
  i64 bytes;     // of partial sums
};
inline TilePlan tile_plan(const ConvShape& shape) {
  const ConvShape s = fold_planes(shape);
  return with_tile(s, [&](auto kd, auto ot) -> TilePlan {
    const TileGrid g = tile_grid<decltype(kd)::value, decltype(ot)::value>(s);
    const TileSplit split = tile_split(s, g.tiles * ceil_div(s.o, decltype(ot)::value));
    if (split.parts == 1) return {g.tiles, 0};
    return {0, split.parts * split.stride * i64(sizeof(f32))};
  });
}

struct ForwardFp32 {
  template <int KD, int OT>
  static void tile(const Launch& l, const ConvShape& s, const ConvCall& c, const TileGrid& g, int blocks,
                   const TileSplit& split) {
    launch({dim3(unsigned(g.tiles * blocks), unsigned(split.parts)), kTileThreads, ConvTile<KD, OT>::kBytes, l.stream},
           conv3d_fwd_tile_kernel<KD, OT>, s, c, g, blocks, split);
  }
};

// scratch: tile_plan's bytes.
template <class Forward>
inline void launch_conv3d_tile(const Launch& l, const ConvShape& shape, const ConvCall& c, f32* scratch) {
  const ConvShape s = fold_planes(shape);
  with_tile(s, [&](auto kd, auto ot) {
    constexpr int KD = decltype(kd)::value, OT = decltype(ot)::value;
    const TileGrid g = tile_grid<KD, OT>(s);
    const int blocks = int(ceil_div(s.o, OT));
    const TileSplit split = tile_split(s, g.tiles * blocks);
    if (split.parts == 1) {
      Forward::template tile<KD, OT>(l, s, c, g, blocks, split);
    } else {
      const ConvCall part{c.x, c.wp, nullptr, c.ldx, scratch, s.o, 0, 0, 0, nullptr};
      Forward::template tile<KD, OT>(l, s, part, g, blocks, split);
      launch({blocks_for(split.stride, 256), 256, 0, l.stream}, conv_split_combine_kernel, scratch, split.parts, split.stride,
             s.o, c);
    }
    return 0;
  });
}

}  // namespace
}  // namespace gpu
}  // namespace macl
