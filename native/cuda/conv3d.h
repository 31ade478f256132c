// What the device's convolutions share: shapes, the packed layout of weights, column sums of fixed chunks, statistics and
// the second stage of weight gradients. The kernels proper: conv3d_plain.h (any shape), conv3d_tile.h and
// conv3d_bwd_w.h (fp32, tuned), conv3d_tf32.h, gemm.h (1×1×1 and upconv3d).
//
// Packed weights: [tap][In][ceil(Out/16)·16], zeros past the last output. Out, In are the outputs and inputs of the kernel
// that reads it: O, I in mode 0 (forward); I, O in mode 1 (dx), for conv3d with the taps flipped.
#pragma once
#include "../ops/conv3d.h"
#include "launch.h"
#include "reduce.h"

namespace macl {
namespace gpu {
namespace {

// A convolution as forward and dx see it: out[p] = Σ_k in[(p·stride + k − kernel/2) / dilation] · wp[k], where only whole
// quotients inside the input count. Forward: dilation 1; dx: stride 1, dilation = the forward stride.
struct ConvShape {
  i64 n;
  i64 od, oh, ow, o;
  i64 id, ih, iw, i;
  i64 kd, kh, kw;
  i64 sd, sh, sw;
  i64 td, th, tw;
};

inline ConvShape conv_fwd_shape(const Tensor& x, const Tensor& y, const Conv3dAttrs& a) {
  return {x.s[0], y.s[1], y.s[2], y.s[3], y.s[4], x.s[1], x.s[2], x.s[3], x.s[4],
          a.kd,   a.kh,   a.kw,   a.sd,   a.sh,   a.sw,   1,      1,      1};
}
inline ConvShape conv_bwd_x_shape(const Tensor& dy, const Tensor& dx, const Conv3dAttrs& a) {
  return {dx.s[0], dx.s[1], dx.s[2], dx.s[3], dx.s[4], dy.s[1], dy.s[2], dy.s[3], dy.s[4],
          a.kd,    a.kh,    a.kw,    1,       1,       1,       a.sd,    a.sh,    a.sw};
}
inline i64 taps_of(const ConvShape& s) { return s.kd * s.kh * s.kw; }
inline bool unit_stride(const ConvShape& s) { return s.sd * s.sh * s.sw * s.td * s.th * s.tw == 1; }

__host__ __device__ inline i64 padded_channels(i64 c) { return (c + 15) / 16 * 16; }

// What forward and dx are given beside the shape.
struct ConvCall {
  const f32 *x, *wp, *b;
  i64 ldx;
  f32* y;
  i64 ldy;
  i32 accumulate, act;
  f32 slope;
  f64* stats;  // partial statistics, [channel][partial][3]; null: none
};

// 4 channels of a voxel to shared memory, zeros past the last channel or (channels ≤ 0) where the voxel is outside.
// vectors: `from` is 16-byte aligned wherever it counts.
__device__ inline void copy4(f32* to, const f32* from, int channels, bool vectors) {
  if (channels <= 0)
    *reinterpret_cast<float4*>(to) = make_float4(0, 0, 0, 0);
  else if (vectors)
    cp_async16(to, from);
  else
    GPU_UNROLL for (int k = 0; k < 4; ++k) cp_async4(to + k, k < channels ? from + k : from, k < channels ? 4 : 0);
}

// ---- packing ----

// w [O, I, taps] (first = o) or [I, O, taps] (first = i, upconv3d) → wp. `flip`: taps backwards.
template <bool Tf32>
__global__ void conv_pack_kernel(const f32* __restrict__ w, f32* __restrict__ wp, i64 out, i64 in, i64 taps, i64 strideOut,
                                 i64 strideIn, i32 flip) {
  const i64 padded = padded_channels(out), total = padded * in * taps;
  for (i64 e = blockIdx.x * i64(blockDim.x) + threadIdx.x; e < total; e += i64(gridDim.x) * blockDim.x) {
    const i64 o = e % padded, i = e / padded % in, tap = e / padded / in;
    f32 v = 0;
    if (o < out) v = w[o * strideOut + i * strideIn + (flip ? taps - 1 - tap : tap)];
    if constexpr (Tf32) v = __uint_as_float(to_tf32(v));
    wp[e] = v;
  }
}

template <bool Tf32>
inline void launch_pack(const Launch& l, const f32* w, f32* wp, i64 out, i64 in, i64 taps, i64 strideOut, i64 strideIn,
                        bool flip) {
  const i64 total = padded_channels(out) * in * taps;
  launch({blocks_for(total, 256), 256, 0, l.stream}, conv_pack_kernel<Tf32>, w, wp, out, in, taps, strideOut, strideIn,
         flip);
}

// ---- statistics ----
// A partial: count, mean and sum of squares about that mean, of one channel over some voxels; [channel][partial][3].

constexpr i64 kStatsVoxels = 2048;  // of a partial, where statistics are a pass of their own

inline i64 stats_bytes(i64 partials, i64 channels) { return partials * channels * 3 * i64(sizeof(f64)); }

// Channels of a block of column sums: a power of two up to 32, so that few lanes idle.
inline i32 column_lanes(i64 channels) {
  i32 lanes = 1;
  while (lanes < 32 && lanes < channels) lanes *= 2;
  return lanes;
}

// Sum over the block's voxel lanes of one value a thread, thread = voxel lane · lanes + channel lane; every thread gets
// its channel's sum. scratch: blockDim.x elements.
__device__ inline f64 column_sum(f64 v, i32 lanes, f64* scratch) {
  const i32 t = static_cast<i32>(threadIdx.x);
  scratch[t] = v;
  __syncthreads();
  for (i32 half = static_cast<i32>(blockDim.x) / 2; half >= lanes; half /= 2) {
    if (t < half) scratch[t] += scratch[t + half];
    __syncthreads();
  }
  const f64 sum = scratch[t % lanes];
  __syncthreads();
  return sum;
}

// One block (256 threads) a chunk of kStatsVoxels voxels and `lanes` channels.
__global__ void conv_stats_chunk_kernel(const f32* __restrict__ y, i64 ld, i64 count, i64 channels, i32 lanes,
                                        f64* __restrict__ stats) {
  GPU_SHARED(f64, scratch, 256);
  const i64 c = blockIdx.y * i64(lanes) + threadIdx.x % unsigned(lanes);
  const i64 step = blockDim.x / unsigned(lanes), lane = threadIdx.x / unsigned(lanes);
  const i64 begin = blockIdx.x * kStatsVoxels, end = begin + kStatsVoxels < count ? begin + kStatsVoxels : count;
  f64 sum = 0, m2 = 0;
  if (c < channels)
    for (i64 v = begin + lane; v < end; v += step) sum += y[v * ld + c];
  const f64 mean = column_sum(sum, lanes, scratch) / f64(end - begin);
  if (c < channels)
    for (i64 v = begin + lane; v < end; v += step) {
      const f64 d = y[v * ld + c] - mean;
      m2 += d * d;
    }
  m2 = column_sum(m2, lanes, scratch);
  if (c < channels && lane == 0) {
    f64* p = stats + (c * gridDim.x + blockIdx.x) * 3;
    p[0] = f64(end - begin);
    p[1] = mean;
    p[2] = m2;
  }
}

// One block (256 threads) a channel: its partials, in a fixed order.
__global__ void conv_stats_combine_kernel(const f64* __restrict__ stats, i64 partials, f32* __restrict__ mean,
                                          f32* __restrict__ var) {
  GPU_SHARED(f64, scratch, kWarp);
  const f64* p = stats + blockIdx.x * partials * 3;
  f64 n = 0, sum = 0, m2 = 0;
  for (i64 k = threadIdx.x; k < partials; k += blockDim.x) {
    n += p[k * 3];
    sum += p[k * 3] * p[k * 3 + 1];
  }
  n = block_sum(n, scratch);
  const f64 m = block_sum(sum, scratch) / n;
  for (i64 k = threadIdx.x; k < partials; k += blockDim.x) {
    const f64 d = p[k * 3 + 1] - m;
    m2 += p[k * 3 + 2] + p[k * 3] * d * d;
  }
  m2 = block_sum(m2, scratch);
  if (threadIdx.x == 0) {
    mean[blockIdx.x] = f32(m);
    var[blockIdx.x] = f32(m2 / n);
  }
}

inline i64 stats_chunks(i64 count) { return ceil_div(count, kStatsVoxels); }

inline void launch_stats_chunks(const Launch& l, const f32* y, i64 ld, i64 count, i64 channels, f64* stats) {
  const i32 lanes = column_lanes(channels);
  launch({dim3(unsigned(stats_chunks(count)), unsigned(ceil_div(channels, lanes))), 256, 0, l.stream},
         conv_stats_chunk_kernel, y, ld, count, channels, lanes, stats);
}

inline void launch_stats_combine(const Launch& l, const f64* stats, i64 partials, i64 channels, f32* mean, f32* var) {
  launch({unsigned(channels), 256, 0, l.stream}, conv_stats_combine_kernel, stats, partials, mean, var);
}

// ---- db: the sum of dy over voxels, by chunks ----

constexpr i64 kBiasVoxels = 1024;  // of a chunk, where that makes no more than kBiasChunks
constexpr i64 kBiasChunks = 1024;

inline i64 bias_chunk_voxels(i64 count) {
  const i64 even = ceil_div(count, kBiasChunks);
  return even > kBiasVoxels ? even : kBiasVoxels;
}
inline i64 bias_chunks(i64 count) { return ceil_div(count, bias_chunk_voxels(count)); }
inline i64 bias_bytes(i64 count, i64 channels) { return bias_chunks(count) * channels * i64(sizeof(f64)); }

__global__ void conv_bias_chunk_kernel(const f32* __restrict__ dy, i64 ld, i64 count, i64 chunk, i64 channels, i32 lanes,
                                       f64* __restrict__ partial) {
  GPU_SHARED(f64, scratch, 256);
  const i64 c = blockIdx.y * i64(lanes) + threadIdx.x % unsigned(lanes);
  const i64 step = blockDim.x / unsigned(lanes), lane = threadIdx.x / unsigned(lanes);
  const i64 begin = blockIdx.x * chunk, end = begin + chunk < count ? begin + chunk : count;
  f64 sum = 0;
  if (c < channels)
    for (i64 v = begin + lane; v < end; v += step) sum += dy[v * ld + c];
  sum = column_sum(sum, lanes, scratch);
  if (c < channels && lane == 0) partial[c * gridDim.x + blockIdx.x] = sum;
}

// One block (256 threads) a channel.
__global__ void conv_bias_combine_kernel(const f64* __restrict__ partial, i64 chunks, f32* __restrict__ db, i32 accumulate) {
  GPU_SHARED(f64, scratch, kWarp);
  f64 sum = 0;
  for (i64 k = threadIdx.x; k < chunks; k += blockDim.x) sum += partial[blockIdx.x * chunks + k];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) db[blockIdx.x] = accumulate ? db[blockIdx.x] + f32(sum) : f32(sum);
}

// partial: [channel][chunk].
inline void launch_bias_combine(const Launch& l, const f64* partial, i64 chunks, i64 channels, f32* db, bool accumulate) {
  launch({unsigned(channels), 256, 0, l.stream}, conv_bias_combine_kernel, partial, chunks, db, accumulate);
}

inline void launch_bias(const Launch& l, const Tensor& dy, f64* partial, f32* db, bool accumulate) {
  const i64 count = voxels(dy), channels = dy.s[4], chunks = bias_chunks(count);
  const i32 lanes = column_lanes(channels);
  launch({dim3(unsigned(chunks), unsigned(ceil_div(channels, lanes))), 256, 0, l.stream}, conv_bias_chunk_kernel,
         static_cast<const f32*>(dy.data), dy.ld, count, bias_chunk_voxels(count), channels, lanes, partial);
  launch_bias_combine(l, partial, chunks, channels, db, accumulate);
}

// ---- dw, second stage: partial sums [chunk][tap][I][O] → dw ----

// 32 elements × 8 lanes a block; lane l adds chunks l, l + 8, …; then the lanes in order. strideO, strideI: of dw.
__global__ void conv_dw_combine_kernel(const f32* __restrict__ partial, i64 chunks, i64 inputs, i64 outputs, i64 taps,
                                       i64 strideO, i64 strideI, f32* __restrict__ dw, i32 accumulate) {
  GPU_SHARED(f64, sums, 256);
  const i64 total = taps * inputs * outputs, e = blockIdx.x * i64(32) + threadIdx.x % 32;
  const i64 lane = threadIdx.x / 32;
  f64 sum = 0;
  if (e < total)
    for (i64 k = lane; k < chunks; k += 8) sum += partial[k * total + e];
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (lane == 0 && e < total) {
    for (int k = 1; k < 8; ++k) sum += sums[k * 32 + threadIdx.x];
    f32* p = dw + e % outputs * strideO + e / outputs % inputs * strideI + e / outputs / inputs;
    *p = accumulate ? *p + f32(sum) : f32(sum);
  }
}

inline void launch_dw_combine(const Launch& l, const f32* partial, i64 chunks, i64 inputs, i64 outputs, i64 taps,
                              i64 strideO, i64 strideI, f32* dw, bool accumulate) {
  launch({blocks_for(taps * inputs * outputs, 32), 256, 0, l.stream}, conv_dw_combine_kernel, partial, chunks, inputs,
         outputs, taps, strideO, strideI, dw, accumulate);
}

// db's partial sums lie in ws before dw's: of bias_chunks, or of dw's chunks where its kernel makes them.
constexpr i64 kDwChunks = 512;  // at most, then

inline i64 bias_region(i64 voxels, i64 outputs) {
  const i64 own = kDwChunks * outputs * i64(sizeof(f64)), pass = bias_bytes(voxels, outputs);
  return ceil_div(own > pass ? own : pass, 16) * 16;
}
inline i64 dw_bytes(i64 voxels, i64 outputs, i64 elements, i64 chunks) {
  return bias_region(voxels, outputs) + chunks * elements * i64(sizeof(f32));
}
inline f32* dw_partials(void* ws, i64 voxels, i64 outputs) {
  return reinterpret_cast<f32*>(static_cast<u8*>(ws) + bias_region(voxels, outputs));
}

}  // namespace
}  // namespace gpu
}  // namespace macl
