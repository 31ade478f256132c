// upconv3d (and the 1×1×1 convolution, its case of one tap) in fp32 as products of matrices whose rows are voxels.
//
// up_tile_kernel: forward and dx. A block of 128 threads makes 512 or 256 voxels × OT channels; a thread 8 × 8. Forward: a block
// has one tap, and its rows of y lie a stride apart. dx: the taps follow each other in the sum. Shared memory: a [channel][voxel], a
// thread's voxels are two runs of four, so that eight neighbours' 16-byte reads meet all banks.
//
// up_dw_tile_kernel: a block makes IT inputs × OT outputs of one tap over a chunk of voxels, its four warps by turns of voxels;
// conv_dw_combine_kernel adds the chunks.
#pragma once
#include "conv3d_bwd_w.h"
#include "upconv3d.h"

namespace macl {
namespace gpu {
namespace {

constexpr int kUpTileThreads = 128, kUpTileC = 8;

template <int OT>
struct UpTile {
  static constexpr int kGroups = OT / 8, kRows = kUpTileThreads / kGroups, kVoxels = kRows * 8;
  static constexpr int kPlane = kVoxels + 4;
  static constexpr int kA = kUpTileC * kPlane, kB = kUpTileC * OT;
  static constexpr i64 kBytes = 2 * (kA + kB) * i64(sizeof(f32)) + 2 * kVoxels * i64(sizeof(i32));
};

// y's voxel of x's voxel v and a tap, in 32 bits.
__device__ inline int up_voxel32(const UpShape& s, int v, int tap) {
  const int W = int(s.w), H = int(s.h), D = int(s.d), sw = int(s.sw), sh = int(s.sh), sd = int(s.sd);
  const int w = v % W, h = v / W % H, nd = v / W / H;
  const int c = tap % sw, b = tap / sw % sh, a = tap / sw / sh;
  return ((nd / D * D * sd + nd % D * sd + a) * H * sh + h * sh + b) * W * sw + w * sw + c;
}

template <int OT, bool Dx>
__global__ void __launch_bounds__(kUpTileThreads, 4) up_tile_kernel(UpShape s, ConvCall c, int outBlocks) {
  using T = UpTile<OT>;
  GPU_DYN_SHARED(f32, memory);
  i32* rows = reinterpret_cast<i32*>(memory + 2 * (T::kA + T::kB));  // dx: dy's rows of two taps by turns; forward: y's
  const int t = int(threadIdx.x), row = t % T::kRows, group = t / T::kRows;
  const int taps = int(s.sd * s.sh * s.sw), outTaps = Dx ? 1 : taps;
  const int K = int(Dx ? s.o : s.i), N = int(Dx ? s.i : s.o), padded = int(padded_channels(N));
  const int count = int(s.n * s.d * s.h * s.w);
  const int o0 = int(blockIdx.x % unsigned(outBlocks)) * OT;
  const int outTap = int(blockIdx.x / unsigned(outBlocks) % unsigned(outTaps));
  const int v0 = int(blockIdx.x / unsigned(outBlocks) / unsigned(outTaps)) * T::kVoxels;
  const int steps = (K + kUpTileC - 1) / kUpTileC, all = Dx ? steps * taps : steps;

  const auto fill_rows = [&](int tap, int which) {
    for (int m = t; m < T::kVoxels; m += kUpTileThreads)
      rows[which * T::kVoxels + m] = v0 + m < count ? up_voxel32(s, v0 + m, tap) : 0;
  };
  const auto copy = [&](int step, int buffer) {
    f32 *as = memory + buffer * (T::kA + T::kB), *bs = as + T::kA;
    const int tap = Dx ? step / steps : outTap, k0 = (Dx ? step % steps : step) * kUpTileC, k = t % kUpTileC;
    const bool in = k0 + k < K;
    for (int m = t / kUpTileC; m < T::kVoxels; m += kUpTileThreads / kUpTileC) {
      const bool here = in && v0 + m < count;
      const i64 from = Dx ? rows[(tap & 1) * T::kVoxels + m] : v0 + m;
      cp_async4(as + k * T::kPlane + m, here ? c.x + from * c.ldx + k0 + k : c.x, here ? 4 : 0);
    }
    for (int e = t; e < T::kB / 4; e += kUpTileThreads) {
      const int o = e % (OT / 4) * 4, kb = e / (OT / 4);
      const bool here = k0 + kb < K && o0 + o < padded;
      cp_async16(bs + e * 4, here ? c.wp + (i64(tap) * K + k0 + kb) * padded + o0 + o : c.wp, here ? 16 : 0);
    }
    cp_async_commit();
  };

  f32 sum[8][8];
  GPU_UNROLL for (int o = 0; o < 8; ++o) {
    const int at = o0 + group * 8 + o;
    const f32 b = c.b && at < N ? c.b[at] : 0;
    GPU_UNROLL for (int p = 0; p < 8; ++p) sum[p][o] = b;
  }
  fill_rows(outTap, 0);
  __syncthreads();
  copy(0, 0);
  for (int step = 0; step < all; ++step) {
    if (Dx && (step + 1) % steps == 0 && step + 1 < all) {  // the next copy is another tap's
      fill_rows((step + 1) / steps, (step + 1) / steps & 1);
      __syncthreads();
    }
    if (step + 1 < all)
      copy(step + 1, (step + 1) & 1);
    else
      cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    const f32* a = memory + (step & 1) * (T::kA + T::kB) + row * 4;
    const f32* b = memory + (step & 1) * (T::kA + T::kB) + T::kA + group * 8;
    GPU_UNROLL for (int k = 0; k < kUpTileC; ++k) {
      const float4 a0 = *reinterpret_cast<const float4*>(a + k * T::kPlane);
      const float4 a1 = *reinterpret_cast<const float4*>(a + k * T::kPlane + T::kVoxels / 2);
      const float4 b0 = *reinterpret_cast<const float4*>(b + k * OT), b1 = *reinterpret_cast<const float4*>(b + k * OT + 4);
      const f32 av[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w};
      const f32 bv[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
      GPU_UNROLL for (int p = 0; p < 8; ++p)
        GPU_UNROLL for (int o = 0; o < 8; ++o) sum[p][o] += av[p] * bv[o];
    }
    __syncthreads();
  }

  const int ob = o0 + group * 8;
  if (ob >= N) return;
  const bool vectors = ob + 8 <= N && c.ldy % 4 == 0 && reinterpret_cast<u64>(c.y) % 16 == 0;
  GPU_UNROLL for (int p = 0; p < 8; ++p) {
    const int m = p / 4 * (T::kVoxels / 2) + row * 4 + p % 4;
    if (v0 + m >= count) continue;
    f32* y = c.y + i64(Dx ? v0 + m : rows[m]) * c.ldy + ob;
    GPU_UNROLL for (int o = 0; o < 8; ++o)
      if (c.act && sum[p][o] < 0) sum[p][o] *= c.slope;
    if (vectors) {
      GPU_UNROLL for (int o = 0; o < 8; o += 4) {
        float4* to = reinterpret_cast<float4*>(y + o);
        float4 v = make_float4(sum[p][o], sum[p][o + 1], sum[p][o + 2], sum[p][o + 3]);
        if (c.accumulate) v = make_float4(to->x + v.x, to->y + v.y, to->z + v.z, to->w + v.w);
        *to = v;
      }
    } else {
      GPU_UNROLL for (int o = 0; o < 8; ++o)
        if (ob + o < N) y[o] = c.accumulate ? y[o] + sum[p][o] : sum[p][o];
    }
  }
}

inline bool up_fits(const UpShape& s) {
  const i64 limit = i64(1) << 30;
  return up_voxels(s) * up_taps(s) < limit && s.i < limit / 32 && s.o < limit / 32 &&
         ceil_div(up_voxels(s), 256) * up_taps(s) * ceil_div(s.o > s.i ? s.o : s.i, 16) < limit;
}

template <bool Dx>
inline void launch_up_tile(const Launch& l, const UpShape& s, const ConvCall& c) {
  const i64 out = Dx ? s.i : s.o, taps = Dx ? 1 : up_taps(s);
  if (out <= 16)
    launch({unsigned(ceil_div(up_voxels(s), UpTile<16>::kVoxels) * taps), kUpTileThreads, UpTile<16>::kBytes, l.stream},
           up_tile_kernel<16, Dx>, s, c, 1);
  else
    launch({unsigned(ceil_div(up_voxels(s), UpTile<32>::kVoxels) * taps * ceil_div(out, 32)), kUpTileThreads,
            UpTile<32>::kBytes, l.stream},
           up_tile_kernel<32, Dx>, s, c, ceil_div(out, 32));
}

// ---- dw ----

constexpr int kUpStage = 64;  // voxels of x

template <int IT, int OT>
struct UpDwTile {
  static constexpr int kIn = IT / 4, kOut = OT / 8, kVoxelRows = kWarp / (kIn * kOut);
  static constexpr int kX = kUpStage * IT, kY = kUpStage * OT;
  static constexpr int kSums = kUpTileThreads * 33;  // the last step's, in the same memory
  static constexpr int kMemory = 2 * (kX + kY) > kSums ? 2 * (kX + kY) : kSums;
};

template <int IT, int OT>
__global__ void __launch_bounds__(kUpTileThreads, 6) up_dw_tile_kernel(UpShape s, DwCall c, i64 stagesOfChunk, int inBlocks,
                                                                      int outBlocks) {
  using T = UpDwTile<IT, OT>;
  GPU_SHARED(f32, memory, T::kMemory);
  const int t = int(threadIdx.x), lane = t % kWarp, warp = t / kWarp;
  const int ig = lane % T::kIn, og = lane / T::kIn % T::kOut, vr = lane / (T::kIn * T::kOut);
  const int taps = int(s.sd * s.sh * s.sw), I = int(s.i), O = int(s.o), count = int(s.n * s.d * s.h * s.w);
  const int tap = int(blockIdx.x % unsigned(taps));
  const unsigned rest = blockIdx.x / unsigned(taps);
  const int o0 = int(rest % unsigned(outBlocks)) * OT, i0 = int(rest / unsigned(outBlocks) % unsigned(inBlocks)) * IT;
  const i64 chunk = rest / unsigned(outBlocks) / unsigned(inBlocks);
  const bool xv4 = I % 4 == 0 && c.ldx % 4 == 0 && reinterpret_cast<u64>(c.x) % 16 == 0;
  const bool yv4 = O % 4 == 0 && c.ldy % 4 == 0 && reinterpret_cast<u64>(c.dy) % 16 == 0;
  const i64 stages = (i64(count) + kUpStage - 1) / kUpStage, begin = chunk * stagesOfChunk;
  const i64 end = begin + stagesOfChunk < stages ? begin + stagesOfChunk : stages;
  const auto copy = [&](i64 stage, int buffer) {
    f32 *xs = memory + buffer * (T::kX + T::kY), *ys = xs + T::kX;
    const int v0 = int(stage * kUpStage);
    for (int e = t; e < T::kX / 4; e += kUpTileThreads) {
      const int i = e % (IT / 4) * 4, v = v0 + e / (IT / 4);
      copy4(xs + e * 4, c.x + i64(v) * c.ldx + i0 + i, v < count ? I - i0 - i : 0, xv4);
    }
    for (int e = t; e < T::kY / 4; e += kUpTileThreads) {
      const int o = e % (OT / 4) * 4, v = v0 + e / (OT / 4);
      copy4(ys + e * 4, c.dy + i64(v < count ? up_voxel32(s, v, tap) : 0) * c.ldy + o0 + o, v < count ? O - o0 - o : 0,
            yv4);
    }
    cp_async_commit();
  };
  f32 sum[4][8] = {};
  copy(begin, 0);
  for (i64 stage = begin; stage < end; ++stage) {
    const int buffer = int(stage - begin) & 1;
    if (stage + 1 < end)
      copy(stage + 1, buffer ^ 1);
    else
      cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    const f32 *x = memory + buffer * (T::kX + T::kY) + ig * 4, *y = memory + buffer * (T::kX + T::kY) + T::kX + og * 8;
    for (int v = warp * T::kVoxelRows + vr; v < kUpStage; v += 4 * T::kVoxelRows) {
      const float4 a = *reinterpret_cast<const float4*>(x + v * IT);
      const float4 b0 = *reinterpret_cast<const float4*>(y + v * OT), b1 = *reinterpret_cast<const float4*>(y + v * OT + 4);
      const f32 av[4] = {a.x, a.y, a.z, a.w}, bv[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
      GPU_UNROLL for (int i = 0; i < 4; ++i)
        GPU_UNROLL for (int o = 0; o < 8; ++o) sum[i][o] += av[i] * bv[o];
    }
    __syncthreads();
  }
  // Over lanes of other voxels, then over warps, in order.
  f32* all = memory + (warp * kWarp + lane) * 33;
  GPU_UNROLL for (int e = 0; e < 32; ++e) {
    f32 v = sum[e / 8][e % 8];
    for (int step = T::kVoxelRows / 2; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step * T::kIn * T::kOut);
    all[e] = v;
  }
  __syncthreads();
  for (int e = t; e < IT * OT; e += kUpTileThreads) {
    const int o = e % OT, i = e / OT, from = i / 4 + o / 8 * T::kIn;
    f32 v = 0;
    for (int k = 0; k < 4; ++k) v += memory[(k * kWarp + from) * 33 + i % 4 * 8 + o % 8];
    if (i0 + i < I && o0 + o < O) c.partial[((chunk * taps + tap) * I + i0 + i) * O + o0 + o] = v;
  }
}

struct UpDwSplit {
  i64 chunks, stagesOfChunk;
};
inline UpDwSplit up_dw_split(const UpShape& s) {
  DwGrid g{};
  g.stages = ceil_div(up_voxels(s), kUpStage);
  const i64 blocks = up_taps(s) * ceil_div(s.i, dw_tile_of(s.i)) * ceil_div(s.o, dw_tile_of(s.o));
  split_stages(g, blocks, 6, up_taps(s) * s.i * s.o * i64(sizeof(f32)));
  return {g.chunks, g.stagesOfChunk};
}

template <int IT, int OT>
inline void launch_up_dw(const Launch& l, const UpShape& s, const DwCall& c) {
  const UpDwSplit split = up_dw_split(s);
  const i64 in = ceil_div(s.i, IT), out = ceil_div(s.o, OT);
  launch({unsigned(split.chunks * in * out * up_taps(s)), kUpTileThreads, 0, l.stream}, up_dw_tile_kernel<IT, OT>, s, c,
         split.stagesOfChunk, in, out);
}

inline void launch_up_dw_tile(const Launch& l, const UpShape& s, const DwCall& c) {
  const bool i16 = dw_tile_of(s.i) == 16, o16 = dw_tile_of(s.o) == 16;
  if (i16)
    o16 ? launch_up_dw<16, 16>(l, s, c) : launch_up_dw<16, 32>(l, s, c);
  else
    o16 ? launch_up_dw<32, 16>(l, s, c) : launch_up_dw<32, 32>(l, s, c);
}

}  // namespace
}  // namespace gpu
}  // namespace macl
