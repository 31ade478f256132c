// maxpool3d and avgpool. Equations: native/ops/pool.h. A thread has one pooling window and up to four channels; avgpool
// sums chunks of a sample's voxels, then a block a channel adds them.
#include "../ops/pool.h"

#include "launch.h"
#include "pool_window.h"
#include "reduce.h"
#include "rows.h"

namespace macl {
namespace gpu {
namespace {

// ---- maxpool3d ----
template <int N>
__device__ inline void read_window(const PoolWindow& own, F32View x, i64 c, Pack<f32, N> (&v)[8]) {
    GPU_UNROLL
  for (int l = 0; l < 8; ++l)
    if (own.has(l)) v[l] = load_pack<N>(x.data + own.voxel(l) * x.ld + c);
}
template <int N>
__global__ void maxpool3d_fwd_windows_kernel(F32View x, F32View y, i64 windows, PoolWindows w, RowTile t) {
  const RowPlace at(t);
  if (at.group >= t.groups) return;
  const i64 c = at.group * N;
  for (i64 id = static_cast<i64>(blockIdx.x) * t.ty + at.y; id < windows; id += static_cast<i64>(gridDim.x) * t.ty) {
    const PoolWindow own(id, w);
    if (!own.whole) continue;
    Pack<f32, N> v[8] = {};
    read_window<N>(own, x, c, v);
    Pack<f32, N> best = v[0];
    GPU_UNROLL
    for (int l = 1; l < 8; ++l)
      if (own.has(l))
        for (int i = 0; i < N; ++i)
          if (pool_better(v[l].v[i], best.v[i])) best.v[i] = v[l].v[i];
    store_pack<N>(y.data + own.pooled * y.ld + c, best);
  }
}
// Windows cut short by the volume's end get 0 (or nothing added).
template <int N>
__global__ void maxpool3d_bwd_windows_kernel(F32View x, F32View dy, F32View dx, i64 windows, PoolWindows w, RowTile t,
                                             bool add) {
  const RowPlace at(t);
  if (at.group >= t.groups) return;
  const i64 c = at.group * N;
  for (i64 id = static_cast<i64>(blockIdx.x) * t.ty + at.y; id < windows; id += static_cast<i64>(gridDim.x) * t.ty) {
    const PoolWindow own(id, w);
    if (add && !own.whole) continue;
    Pack<f32, N> g;
    int chosen[N];
    for (int i = 0; i < N; ++i) {
      g.v[i] = 0;
      chosen[i] = -1;
    }
    if (own.whole) {
      Pack<f32, N> v[8] = {};
      read_window<N>(own, x, c, v);
      g = load_pack<N>(dy.data + own.pooled * dy.ld + c);
      Pack<f32, N> best = v[0];
      for (int i = 0; i < N; ++i) chosen[i] = 0;
    GPU_UNROLL
      for (int l = 1; l < 8; ++l)
        if (own.has(l))
          for (int i = 0; i < N; ++i)
            if (pool_better(v[l].v[i], best.v[i])) {
              best.v[i] = v[l].v[i];
              chosen[i] = l;
            }
    }
    GPU_UNROLL
    for (int l = 0; l < 8; ++l) {
      if (!own.has(l)) continue;
      f32* o = dx.data + own.voxel(l) * dx.ld + c;
      Pack<f32, N> out = {};
      if (add) out = load_pack<N>(o);
      for (int i = 0; i < N; ++i) {
        const f32 own_share = chosen[i] == l ? g.v[i] : 0.0f;
        out.v[i] = add ? out.v[i] + own_share : own_share;
      }
      store_pack<N>(o, out);
    }
  }
}
void launch_maxpool3d_fwd(const Args& a, const Launch& l) {
  using T = Maxpool3dFwd;
  const auto& p = attrs_of<Maxpool3dAttrs>(a);
  const Tensor& x = a.t[T::x];
  const int width = pack_width(a, x.s[4], 0, 1);
  const RowTile t = row_tile(x.s[4], width);
  const PoolWindows w = pool_windows(x, p.sd, p.sh, p.sw);
  const i64 windows = x.s[0] * w.grid.d * w.grid.h * w.grid.w;
  launch({t.grid(windows, 1, l), dim3(t.threads()), 0, l.stream},
         width == 4 ? maxpool3d_fwd_windows_kernel<4> : maxpool3d_fwd_windows_kernel<1>, view(a, T::x), view(a, T::y), windows,
         w, t);
}
void launch_maxpool3d_bwd(const Args& a, const Launch& l) {
  using T = Maxpool3dBwd;
  const auto& p = attrs_of<Maxpool3dAttrs>(a);
  const Tensor& x = a.t[T::x];
  const int width = pack_width(a, x.s[4], 0, 1, 2);
  const RowTile t = row_tile(x.s[4], width);
  const PoolWindows w = pool_windows(x, p.sd, p.sh, p.sw);
  const i64 windows = x.s[0] * w.grid.d * w.grid.h * w.grid.w;
  launch({t.grid(windows, 1, l), dim3(t.threads()), 0, l.stream},
         width == 4 ? maxpool3d_bwd_windows_kernel<4> : maxpool3d_bwd_windows_kernel<1>, view(a, T::x), view(a, T::dy),
         view(a, T::dx), windows, w, t, p.accumulate != 0);
}

// ---- avgpool ----
// ws: float64 [N, C, chunks]. blockIdx.x counts samples and their chunks.
template <int N>
__global__ void avgpool_fwd_chunks_kernel(F32View x, i64 per, i64 chunk, i64 chunks, RowTile t, f64* ws) {
  GPU_SHARED(f32, sums, kRowThreads* N);
  const RowPlace at(t);
  const i64 n = quotient(blockIdx.x, chunks), k = blockIdx.x - n * chunks, first_row = k * chunk;
  const i64 rows = chunk < per - first_row ? chunk : per - first_row;
  if (at.group < t.groups) {
    const f32* p = x.data + (n * per + first_row) * x.ld + at.group * N;
    f32 sum[N];
    for (int i = 0; i < N; ++i) sum[i] = 0;
    for (i64 r = at.y; r < rows; r += t.ty) {
      const Pack<f32, N> v = load_pack<N>(p + r * x.ld);
      for (int i = 0; i < N; ++i) sum[i] += v.v[i];
    }
    for (int i = 0; i < N; ++i) sums[(at.y * t.tx + at.x) * N + i] = sum[i];
  }
  __syncthreads();
  const i64 here = (t.groups - static_cast<i64>(blockIdx.y) * t.tx) * N;
  const int columns = t.tx * N, used = here < columns ? static_cast<int>(here) : columns;
  for (int c = threadIdx.x; c < used; c += blockDim.x) {
    f64 sum = 0;
    for (int y = 0; y < t.ty; ++y) sum += sums[y * columns + c];
    ws[(n * t.channels + static_cast<i64>(blockIdx.y) * columns + c) * chunks + k] = sum;
  }
}
// A block a sample and channel.
__global__ void avgpool_fwd_combine_kernel(const f64* ws, i64 per, i64 chunks, i64 channels, F32View y) {
  GPU_SHARED(f64, scratch, kWarp);
  const i64 id = blockIdx.x, n = quotient(id, channels);
  f64 sum = 0;
  for (i64 k = threadIdx.x; k < chunks; k += blockDim.x) sum += ws[id * chunks + k];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) y.data[n * y.ld + (id - n * channels)] = static_cast<f32>(sum / static_cast<f64>(per));
}
i64 sample_voxels(const Tensor& x) { return x.s[1] * x.s[2] * x.s[3]; }
i64 avgpool_bytes(const Args& a, i32) {
  using T = AvgpoolFwd;
  const Tensor& x = a.t[T::x];
  return x.s[0] * x.s[4] * sum_chunks(sample_voxels(x), x.s[4]) * 8;
}
void launch_avgpool_fwd(const Args& a, const Launch& l) {
  using T = AvgpoolFwd;
  const Tensor& x = a.t[T::x];
  const i64 per = sample_voxels(x), chunk = sum_chunk(per, x.s[4]), chunks = sum_chunks(per, x.s[4]);
  const int width = pack_width(a, x.s[4], 0);
  const RowTile t = row_tile(x.s[4], width);
  f64* ws = pointer<f64>(a, T::ws);
  launch({dim3(static_cast<unsigned>(x.s[0] * chunks), t.tiles()), dim3(t.threads()), 0, l.stream},
         width == 4 ? avgpool_fwd_chunks_kernel<4> : avgpool_fwd_chunks_kernel<1>, view(a, T::x), per, chunk, chunks, t, ws);
  launch({dim3(static_cast<unsigned>(x.s[0] * x.s[4])), dim3(64), 0, l.stream}, avgpool_fwd_combine_kernel, ws, per,
         chunks, x.s[4], view(a, T::y));
}

template <int N>
__global__ void avgpool_bwd_rows_kernel(F32View dy, F32View dx, i64 total, i64 per, RowTile t, bool add) {
  const RowPlace at(t);
  if (at.group >= t.groups) return;
  const i64 c = at.group * N;
  for (i64 v = static_cast<i64>(blockIdx.x) * t.ty + at.y; v < total; v += static_cast<i64>(gridDim.x) * t.ty) {
    const Pack<f32, N> g = load_pack<N>(dy.data + quotient(v, per) * dy.ld + c);
    Pack<f32, N> out = {};
    if (add) out = load_pack<N>(dx.data + v * dx.ld + c);
    for (int i = 0; i < N; ++i) {
      const f32 share = g.v[i] / static_cast<f32>(per);
      out.v[i] = add ? out.v[i] + share : share;
    }
    store_pack<N>(dx.data + v * dx.ld + c, out);
  }
}
void launch_avgpool_bwd(const Args& a, const Launch& l) {
  using T = AvgpoolBwd;
  const Tensor& dx = a.t[T::dx];
  const int width = pack_width(a, dx.s[4], 0, 1);
  const RowTile t = row_tile(dx.s[4], width);
  launch({t.grid(voxels(dx), 4, l), dim3(t.threads()), 0, l.stream},
         width == 4 ? avgpool_bwd_rows_kernel<4> : avgpool_bwd_rows_kernel<1>, view(a, T::dy), view(a, T::dx), voxels(dx),
         sample_voxels(dx), t, attrs_of<AvgpoolAttrs>(a).accumulate != 0);
}

}  // namespace

extern const GpuKernel pool_gpu[] = {MACL_GPU_KERNEL(maxpool3d_fwd, Maxpool3dAttrs, launch_maxpool3d_fwd, nullptr),
                                     MACL_GPU_KERNEL(maxpool3d_bwd, Maxpool3dAttrs, launch_maxpool3d_bwd, nullptr),
                                     MACL_GPU_KERNEL(avgpool_fwd, AvgpoolAttrs, launch_avgpool_fwd, avgpool_bytes),
                                     MACL_GPU_KERNEL(avgpool_bwd, AvgpoolAttrs, launch_avgpool_bwd, nullptr),
                                     {}};

}  // namespace gpu
}  // namespace macl
