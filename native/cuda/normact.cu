// normact: statistics, normalise + activation (+ max-pool), its gradient, running statistics. Equations:
// native/ops/normact.h. Forward and backward compute (x − mean) · scale + shift with one expression, so that they agree
// on its sign. Memory-bound: statistics read x once, forward reads and writes once, backward reads dy and x twice.
#include "../ops/normact.h"

#include "launch.h"
#include "pool_window.h"
#include "reduce.h"
#include "rows.h"

namespace macl {
namespace gpu {
namespace {

constexpr int kTile = 8;  // rows that a thread has in registers

struct NormParams {
  const f32 *mean, *var, *gamma, *beta;
  f64 eps;
  f32 slope;
  bool norm;
};
// T: NormactFwd, NormactSums or NormactBwd.
template <class T>
inline NormParams norm_params(const Args& a, f64 eps, f64 slope, bool norm) {
  return {pointer<f32>(a, T::mean), pointer<f32>(a, T::var), pointer<f32>(a, T::gamma), pointer<f32>(a, T::beta), eps,
          static_cast<f32>(slope), norm};
}

// The groups that statistics are taken over: one of all samples, or one a sample.
struct NormGroups {
  i64 count, voxels;  // voxels of one group
};
inline NormGroups norm_groups(const Tensor& x, const Tensor& mean) {
  const i64 count = mean.data != nullptr || mean.segment >= 0 ? elements(mean) / x.s[4] : 1;
  return {count, voxels(x) / count};
}
constexpr i64 kMostGroups = 65535;  // of a grid's z
inline dim3 with_groups(dim3 grid, i64 groups) {
  grid.z = static_cast<unsigned>(groups < kMostGroups ? groups : kMostGroups);
  return grid;
}

// Of channels c … c + N − 1, whose statistics start at `at` (c, or those of a later group).
template <int N>
struct Coefs {
  f32 mean[N], scale[N], shift[N];
  __device__ Coefs(const NormParams& p, i64 c, i64 at) {
    for (int i = 0; i < N; ++i) {
      mean[i] = p.norm ? p.mean[at + i] : 0.0f;
      const f64 gamma = p.gamma ? static_cast<f64>(p.gamma[c + i]) : 1.0;
      scale[i] = p.norm ? static_cast<f32>(gamma / sqrt(static_cast<f64>(p.var[at + i]) + p.eps)) : 1.0f;
      shift[i] = p.beta ? p.beta[c + i] : 0.0f;
    }
  }
};
__device__ inline f32 affine(f32 centred, f32 scale, f32 shift) { return centred * scale + shift; }
__device__ inline f32 leaky(f32 v, f32 slope) { return v > 0.0f ? v : v * slope; }

// ---- statistics ----
// ws: float64 [groups, C, chunks, 2], a chunk's mean and M2. A thread merges tiles of 8 rows, counted from its first value.
// blockIdx.x counts the chunks of all groups.
struct Chunk {
  i64 group, index, first, rows;  // first: a row of the whole tensor
};
__device__ inline Chunk chunk_of(i64 id, i64 chunks, i64 chunk, i64 total) {
  const i64 group = quotient(id, chunks), index = id - group * chunks, left = total - index * chunk;
  return {group, index, group * total + index * chunk, chunk < left ? chunk : left};
}
template <int N>
__global__ void normact_stats_chunks_kernel(const f32* x, i64 ld, i64 total, i64 chunk, i64 chunks, RowTile t, f64* ws) {
  GPU_SHARED(f64, means, kRowThreads* N);
  GPU_SHARED(f64, squares, kRowThreads* N);
  const RowPlace at(t);
  const Chunk k = chunk_of(blockIdx.x, chunks, chunk, total);
  const i64 rows = k.rows;
  if (at.group < t.groups) {
    const f32* p = x + k.first * ld + at.group * N;
    f32 first[N], mean[N], m2[N], n = 0;
    for (int i = 0; i < N; ++i) first[i] = mean[i] = m2[i] = 0;
    if (at.y < rows) {
      const Pack<f32, N> v = load_pack<N>(p + at.y * ld);
      for (int i = 0; i < N; ++i) first[i] = v.v[i];
    }
    for (i64 r = at.y; r < rows; r += kTile * t.ty) {
      Pack<f32, N> v[kTile] = {};
      const i64 left = (rows - r + t.ty - 1) / t.ty;
      const int count = left < kTile ? static_cast<int>(left) : kTile;
    GPU_UNROLL
      for (int j = 0; j < kTile; ++j)
        if (j < count) v[j] = load_pack<N>(p + (r + j * t.ty) * ld);
      const f32 inverse = 1.0f / static_cast<f32>(count), share = static_cast<f32>(count) / (n + static_cast<f32>(count));
      for (int i = 0; i < N; ++i) {
        f32 sum = 0, q = 0;
    GPU_UNROLL
        for (int j = 0; j < kTile; ++j)
          if (j < count) sum += v[j].v[i] - first[i];
        const f32 own = sum * inverse;
    GPU_UNROLL
        for (int j = 0; j < kTile; ++j)
          if (j < count) {
            const f32 e = (v[j].v[i] - first[i]) - own;
            q += e * e;
          }
        const f32 delta = own - mean[i];
        mean[i] += delta * share;
        m2[i] += q + delta * delta * (n * share);
      }
      n += static_cast<f32>(count);
    }
    for (int i = 0; i < N; ++i) {
      means[(at.y * t.tx + at.x) * N + i] = static_cast<f64>(first[i]) + static_cast<f64>(mean[i]);
      squares[(at.y * t.tx + at.x) * N + i] = m2[i];
    }
  }
  __syncthreads();
  const i64 here = (t.groups - static_cast<i64>(blockIdx.y) * t.tx) * N;
  const int columns = t.tx * N, used = here < columns ? static_cast<int>(here) : columns;
  for (int c = threadIdx.x; c < used; c += blockDim.x) {
    f64 sum = 0, m2 = 0;
    for (int y = 0; y < t.ty && y < rows; ++y)
      sum += means[y * columns + c] * static_cast<f64>((rows - y + t.ty - 1) / t.ty);
    const f64 mean = sum / static_cast<f64>(rows);
    for (int y = 0; y < t.ty && y < rows; ++y) {
      const f64 off = means[y * columns + c] - mean;
      m2 += squares[y * columns + c] + off * off * static_cast<f64>((rows - y + t.ty - 1) / t.ty);
    }
    f64* out = ws + ((k.group * t.channels + static_cast<i64>(blockIdx.y) * columns + c) * chunks + k.index) * 2;
    out[0] = mean;
    out[1] = m2;
  }
}

// A block a channel of a group.
__global__ void normact_stats_combine_kernel(const f64* ws, i64 total, i64 chunk, i64 chunks, f32* mean, f32* var) {
  GPU_SHARED(f64, scratch, kWarp);
  const i64 c = blockIdx.x;
  const f64* own = ws + c * chunks * 2;
  f64 sum = 0, m2 = 0;
  for (i64 k = threadIdx.x; k < chunks; k += blockDim.x) {
    const i64 left = total - k * chunk;
    sum += own[2 * k] * static_cast<f64>(left < chunk ? left : chunk);
  }
  const f64 m = block_sum(sum, scratch) / static_cast<f64>(total);
  for (i64 k = threadIdx.x; k < chunks; k += blockDim.x) {
    const i64 left = total - k * chunk;
    const f64 off = own[2 * k] - m;
    m2 += own[2 * k + 1] + off * off * static_cast<f64>(left < chunk ? left : chunk);
  }
  m2 = block_sum(m2, scratch);
  if (threadIdx.x == 0) {
    mean[c] = static_cast<f32>(m);
    var[c] = static_cast<f32>(m2 / static_cast<f64>(total));
  }
}

// −1 where the shapes do not fit: sizes are asked before anything is checked.
i64 chunk_bytes(const Tensor& x, const Tensor& mean) {
  if (elements(mean) < x.s[4] || voxels(x) < elements(mean) / x.s[4]) return -1;
  const NormGroups g = norm_groups(x, mean);
  return g.count * sum_chunks(g.voxels, x.s[4]) * x.s[4] * 16;
}
i64 stats_bytes(const Args& a, i32) { return chunk_bytes(a.t[NormactStats::x], a.t[NormactStats::mean]); }
void launch_stats(const Args& a, const Launch& l) {
  using T = NormactStats;
  const Tensor& x = a.t[T::x];
  const NormGroups g = norm_groups(x, a.t[T::mean]);
  const i64 chunk = sum_chunk(g.voxels, x.s[4]), chunks = sum_chunks(g.voxels, x.s[4]);
  const int width = pack_width(a, x.s[4], T::x);
  const RowTile t = row_tile(x.s[4], width);
  f64* ws = pointer<f64>(a, T::ws);
  const Shape s{dim3(static_cast<unsigned>(g.count * chunks), t.tiles()), dim3(t.threads()), 0, l.stream};
  launch(s, width == 4 ? normact_stats_chunks_kernel<4> : normact_stats_chunks_kernel<1>, pointer<f32>(a, T::x), x.ld,
         g.voxels, chunk, chunks, t, ws);
  launch({dim3(static_cast<unsigned>(g.count * x.s[4])), dim3(128), 0, l.stream}, normact_stats_combine_kernel, ws,
         g.voxels, chunk, chunks, pointer<f32>(a, T::mean), pointer<f32>(a, T::var));
}

// ---- forward ----
// Here and below blockIdx.z counts groups; `total` is the voxels of one.
template <int N>
__global__ void normact_fwd_rows_kernel(F32View x, F32View y, i64 total, i64 groups, RowTile t, NormParams p) {
  const RowPlace at(t);
  if (at.group >= t.groups) return;
  const i64 c = at.group * N, stride = static_cast<i64>(gridDim.x) * t.ty;
  constexpr int kRows = 4;
  GPU_ROLLED
  for (i64 group = blockIdx.z; group < groups; group += gridDim.z) {
    const Coefs<N> k(p, c, group * t.channels + c);
    const f32* xs = x.data + group * total * x.ld + c;
    f32* ys = y.data + group * total * y.ld + c;
    for (i64 v = static_cast<i64>(blockIdx.x) * t.ty + at.y; v < total; v += stride * kRows) {
      Pack<f32, N> in[kRows] = {};
      GPU_UNROLL
      for (int j = 0; j < kRows; ++j)
        if (v + j * stride < total) in[j] = load_pack<N>(xs + (v + j * stride) * x.ld);
      GPU_UNROLL
      for (int j = 0; j < kRows; ++j) {
        if (v + j * stride >= total) continue;
        for (int i = 0; i < N; ++i) in[j].v[i] = leaky(affine(in[j].v[i] - k.mean[i], k.scale[i], k.shift[i]), p.slope);
        store_pack<N>(ys + (v + j * stride) * y.ld, in[j]);
      }
    }
  }
}
// A thread a pooling window; windows cut short by the volume's end give y alone. `windows`: of one group.
template <int N>
__global__ void normact_fwd_windows_kernel(F32View x, F32View y, F32View pooled, i64 windows, i64 groups, PoolWindows w,
                                           RowTile t, NormParams p) {
  const RowPlace at(t);
  if (at.group >= t.groups) return;
  const i64 c = at.group * N;
  GPU_ROLLED
  for (i64 group = blockIdx.z; group < groups; group += gridDim.z) {
    const Coefs<N> k(p, c, group * t.channels + c);
    for (i64 id = static_cast<i64>(blockIdx.x) * t.ty + at.y; id < windows; id += static_cast<i64>(gridDim.x) * t.ty) {
      const PoolWindow own(group * windows + id, w);
      Pack<f32, N> v[8] = {};
      GPU_UNROLL
      for (int l = 0; l < 8; ++l)
        if (own.has(l)) v[l] = load_pack<N>(x.data + own.voxel(l) * x.ld + c);
      Pack<f32, N> best;
      for (int i = 0; i < N; ++i) best.v[i] = 0;
      GPU_UNROLL
      for (int l = 0; l < 8; ++l) {
        if (!own.has(l)) continue;
        for (int i = 0; i < N; ++i) {
          v[l].v[i] = leaky(affine(v[l].v[i] - k.mean[i], k.scale[i], k.shift[i]), p.slope);
          if (l == 0 || pool_better(v[l].v[i], best.v[i])) best.v[i] = v[l].v[i];
        }
        store_pack<N>(y.data + own.voxel(l) * y.ld + c, v[l]);
      }
      if (own.whole) store_pack<N>(pooled.data + own.pooled * pooled.ld + c, best);
    }
  }
}
void launch_fwd(const Args& a, const Launch& l) {
  using T = NormactFwd;
  const auto& attrs = attrs_of<NormactFwdAttrs>(a);
  const Tensor& x = a.t[T::x];
  const NormParams p = norm_params<T>(a, attrs.eps, attrs.slope, attrs.norm != kNoNorm);
  const NormGroups g = norm_groups(x, a.t[T::mean]);
  const int width = pack_width(a, x.s[4], T::x, T::y, T::pooled);
  const RowTile t = row_tile(x.s[4], width);
  if (given(a, T::pooled)) {
    const PoolWindows w = pool_windows(x, attrs.sd, attrs.sh, attrs.sw);
    const i64 windows = x.s[0] * w.grid.d * w.grid.h * w.grid.w / g.count;
    launch({with_groups(t.grid(windows, 1, l), g.count), dim3(t.threads()), 0, l.stream},
           width == 4 ? normact_fwd_windows_kernel<4> : normact_fwd_windows_kernel<1>, view(a, T::x), view(a, T::y),
           view(a, T::pooled), windows, g.count, w, t, p);
  } else {
    launch({with_groups(t.grid(g.voxels, 4, l), g.count), dim3(t.threads()), 0, l.stream},
           width == 4 ? normact_fwd_rows_kernel<4> : normact_fwd_rows_kernel<1>, view(a, T::x), view(a, T::y), g.voxels,
           g.count, t, p);
  }
}

// ---- sums of the backward pass ----
// ws: float64 [groups, C, chunks, 2], a chunk's Σg and Σg·(x − mean) with g = dy · act'.
template <int N>
__global__ void normact_sums_chunks_kernel(F32View dy, F32View x, i64 total, i64 chunk, i64 chunks, RowTile t,
                                           NormParams p, f64* ws) {
  GPU_SHARED(f32, gs, kRowThreads* N);
  GPU_SHARED(f32, hs, kRowThreads* N);
  const RowPlace at(t);
  const Chunk k = chunk_of(blockIdx.x, chunks, chunk, total);
  const i64 rows = k.rows;
  if (at.group < t.groups) {
    const i64 c = at.group * N;
    const Coefs<N> n(p, c, k.group * t.channels + c);
    const f32 *dp = dy.data + k.first * dy.ld + c, *xp = x.data + k.first * x.ld + c;
    f32 g[N], h[N];
    for (int i = 0; i < N; ++i) g[i] = h[i] = 0;
    constexpr int kRows = 4;
    for (i64 r = at.y; r < rows; r += kRows * t.ty) {
      Pack<f32, N> d[kRows] = {}, v[kRows] = {};
    GPU_UNROLL
      for (int j = 0; j < kRows; ++j)
        if (r + j * t.ty < rows) {
          d[j] = load_pack<N>(dp + (r + j * t.ty) * dy.ld);
          v[j] = load_pack<N>(xp + (r + j * t.ty) * x.ld);
        }
    GPU_UNROLL
      for (int j = 0; j < kRows; ++j) {
        if (r + j * t.ty >= rows) continue;
        for (int i = 0; i < N; ++i) {
          const f32 e = v[j].v[i] - n.mean[i];
          const f32 own = affine(e, n.scale[i], n.shift[i]) > 0.0f ? d[j].v[i] : d[j].v[i] * p.slope;
          g[i] += own;
          h[i] += own * e;
        }
      }
    }
    for (int i = 0; i < N; ++i) {
      gs[(at.y * t.tx + at.x) * N + i] = g[i];
      hs[(at.y * t.tx + at.x) * N + i] = h[i];
    }
  }
  __syncthreads();
  const i64 here = (t.groups - static_cast<i64>(blockIdx.y) * t.tx) * N;
  const int columns = t.tx * N, used = here < columns ? static_cast<int>(here) : columns;
  for (int c = threadIdx.x; c < used; c += blockDim.x) {
    f64 g = 0, h = 0;
    for (int y = 0; y < t.ty; ++y) {
      g += gs[y * columns + c];
      h += hs[y * columns + c];
    }
    f64* out = ws + ((k.group * t.channels + static_cast<i64>(blockIdx.y) * columns + c) * chunks + k.index) * 2;
    out[0] = g;
    out[1] = h;
  }
}
// A block a channel: the totals of each group, dgamma, dbeta.
__global__ void normact_sums_combine_kernel(const f64* ws, i64 chunks, i64 groups, NormParams p, f64* sums, f32* dgamma,
                                            f32* dbeta, bool add) {
  GPU_SHARED(f64, scratch, kWarp);
  const i64 c = blockIdx.x, channels = gridDim.x;
  f64 scaled = 0, shifted = 0;
  for (i64 group = 0; group < groups; ++group) {
    const i64 at = group * channels + c;
    f64 g = 0, h = 0;
    for (i64 k = threadIdx.x; k < chunks; k += blockDim.x) {
      g += ws[(at * chunks + k) * 2];
      h += ws[(at * chunks + k) * 2 + 1];
    }
    g = block_sum(g, scratch);
    h = block_sum(h, scratch);
    if (threadIdx.x == 0) {
      sums[at * 2] = g;
      sums[at * 2 + 1] = h;
    }
    const f64 own = h / sqrt(static_cast<f64>(p.var[at]) + p.eps);
    scaled = group == 0 ? own : scaled + own;
    shifted = group == 0 ? g : shifted + g;
  }
  if (threadIdx.x != 0) return;
  if (dgamma) dgamma[c] = static_cast<f32>(add ? static_cast<f64>(dgamma[c]) + scaled : scaled);
  if (dbeta) dbeta[c] = static_cast<f32>(add ? static_cast<f64>(dbeta[c]) + shifted : shifted);
}
i64 sums_bytes(const Args& a, i32) { return chunk_bytes(a.t[NormactSums::x], a.t[NormactSums::mean]); }
void launch_sums(const Args& a, const Launch& l) {
  using T = NormactSums;
  const auto& attrs = attrs_of<NormactSumsAttrs>(a);
  const Tensor& x = a.t[T::x];
  const NormParams p = norm_params<T>(a, attrs.eps, attrs.slope, true);
  const NormGroups g = norm_groups(x, a.t[T::mean]);
  const i64 chunk = sum_chunk(g.voxels, x.s[4]), chunks = sum_chunks(g.voxels, x.s[4]);
  const int width = pack_width(a, x.s[4], T::dy, T::x);
  const RowTile t = row_tile(x.s[4], width);
  f64* ws = pointer<f64>(a, T::ws);
  launch({dim3(static_cast<unsigned>(g.count * chunks), t.tiles()), dim3(t.threads()), 0, l.stream},
         width == 4 ? normact_sums_chunks_kernel<4> : normact_sums_chunks_kernel<1>, view(a, T::dy), view(a, T::x),
         g.voxels, chunk, chunks, t, p, ws);
  launch({dim3(static_cast<unsigned>(x.s[4])), dim3(128), 0, l.stream}, normact_sums_combine_kernel, ws, chunks, g.count, p,
         pointer<f64>(a, T::sums), pointer<f32>(a, T::dgamma), pointer<f32>(a, T::dbeta), attrs.accumulate != 0);
}

// ---- backward ----
// dx = γ·rstd·(g − Σg/n − (x − mean)·rstd²·Σg(x − mean)/n); without sums (null) the two terms are left out. From the last
// voxel to the first: what the sums read last is in the cache still.
template <int N>
__global__ void normact_bwd_rows_kernel(F32View dy, F32View x, F32View dx, i64 total, i64 groups, RowTile t, NormParams p,
                                        const f64* sums, f64 n_values, bool add) {
  const RowPlace at(t);
  if (at.group >= t.groups) return;
  const i64 c = at.group * N, stride = static_cast<i64>(gridDim.x) * t.ty;
  GPU_ROLLED
  for (i64 group = groups - 1 - blockIdx.z; group >= 0; group -= gridDim.z) {
    const i64 own = group * t.channels + c;
    const Coefs<N> n(p, c, own);
    f32 k1[N], k2[N];
    for (int i = 0; i < N; ++i) {
      k1[i] = k2[i] = 0.0f;
      if (!sums) continue;
      const f64 rstd = 1.0 / sqrt(static_cast<f64>(p.var[own + i]) + p.eps);
      const f64 gamma = p.gamma ? static_cast<f64>(p.gamma[c + i]) : 1.0;
      k1[i] = static_cast<f32>(gamma * rstd * sums[(own + i) * 2] / n_values);
      k2[i] = static_cast<f32>(gamma * rstd * rstd * rstd * sums[(own + i) * 2 + 1] / n_values);
    }
    const f32 *dys = dy.data + group * total * dy.ld + c, *xs = x.data + group * total * x.ld + c;
    f32* dxs = dx.data + group * total * dx.ld + c;
    constexpr int kRows = 2;
    for (i64 v = total - 1 - (static_cast<i64>(blockIdx.x) * t.ty + at.y); v >= 0; v -= stride * kRows) {
      Pack<f32, N> d[kRows] = {}, in[kRows] = {}, out[kRows] = {};
      GPU_UNROLL
      for (int j = 0; j < kRows; ++j) {
        const i64 row = v - j * stride;
        if (row < 0) continue;
        d[j] = load_pack<N>(dys + row * dy.ld);
        in[j] = load_pack<N>(xs + row * x.ld);
        if (add) out[j] = load_pack<N>(dxs + row * dx.ld);
      }
      GPU_UNROLL
      for (int j = 0; j < kRows; ++j) {
        const i64 row = v - j * stride;
        if (row < 0) continue;
        for (int i = 0; i < N; ++i) {
          const f32 e = in[j].v[i] - n.mean[i];
          const f32 g = affine(e, n.scale[i], n.shift[i]) > 0.0f ? d[j].v[i] : d[j].v[i] * p.slope;
          const f32 r = (g * n.scale[i] - k1[i]) - e * k2[i];
          out[j].v[i] = add ? out[j].v[i] + r : r;
        }
        store_pack<N>(dxs + row * dx.ld, out[j]);
      }
    }
  }
}
void launch_bwd(const Args& a, const Launch& l) {
  using T = NormactBwd;
  const auto& attrs = attrs_of<NormactBwdAttrs>(a);
  const Tensor& x = a.t[T::x];
  const NormParams p = norm_params<T>(a, attrs.eps, attrs.slope, attrs.norm != kNoNorm);
  const NormGroups g = norm_groups(x, a.t[T::mean]);
  const int width = pack_width(a, x.s[4], T::dy, T::x, T::dx);
  const RowTile t = row_tile(x.s[4], width);
  launch({with_groups(t.grid(g.voxels, 4, l), g.count), dim3(t.threads()), 0, l.stream},
         width == 4 ? normact_bwd_rows_kernel<4> : normact_bwd_rows_kernel<1>, view(a, T::dy), view(a, T::x),
         view(a, T::dx), g.voxels, g.count, t, p, attrs.norm == kOwnNorm ? pointer<f64>(a, T::sums) : nullptr, attrs.count,
         attrs.accumulateX != 0);
}

// ---- running statistics (commit): a block a norm, a thread a channel, passes in order ----
__global__ void running_step_kernel(f32* running, const f32* batch, RunningTable table, f64 momentum, const i32* skip,
                                    u32* fault, i32 instruction) {
  if (skipped(skip)) return;
  i64 first = 0, last = 0;
  bool good = running_rows(table, blockIdx.x, first, last);
  for (i64 r = first; good && r < last; ++r) {
    RunningRow row;
    good = running_row(table, r, row);
    if (!good) break;
    f32 *rm = running + row.running, *rv = rm + row.channels;
    const f32 *mean = batch + row.batch, *var = mean + row.channels;
    // All passes of a norm have one place, so a channel is the same thread's each time.
    for (i64 c = threadIdx.x; c < row.channels; c += blockDim.x) {
      rm[c] = static_cast<f32>((1 - momentum) * static_cast<f64>(rm[c]) + momentum * static_cast<f64>(mean[c]));
      rv[c] = static_cast<f32>((1 - momentum) * static_cast<f64>(rv[c]) +
                               momentum * (static_cast<f64>(var[c]) * row.unbiased));
    }
  }
  if (!good && threadIdx.x == 0) set_fault(fault, instruction, kBadShape);
}
void launch_running(const Args& a, const Launch& l) {
  using T = RunningStep;
  const auto& p = attrs_of<RunningStepAttrs>(a);
  const RunningTable table = {pointer<f64>(a, T::table), p.norms, (elements(a.t[T::table]) - p.norms - 1) / 4,
                              elements(a.t[T::running]), elements(a.t[T::batch])};
  launch({dim3(static_cast<unsigned>(p.norms)), dim3(128), 0, l.stream}, running_step_kernel, pointer<f32>(a, T::running),
         pointer<f32>(a, T::batch), table, p.momentum, l.skip, l.fault, l.instruction);
}

}  // namespace

extern const GpuKernel normact_gpu[] = {MACL_GPU_KERNEL(normact_stats, NormactStatsAttrs, launch_stats, stats_bytes),
                                        MACL_GPU_KERNEL(normact_fwd, NormactFwdAttrs, launch_fwd, nullptr),
                                        MACL_GPU_KERNEL(normact_sums, NormactSumsAttrs, launch_sums, sums_bytes),
                                        MACL_GPU_KERNEL(normact_bwd, NormactBwdAttrs, launch_bwd, nullptr),
                                        MACL_GPU_COMMIT_KERNEL(running_step, RunningStepAttrs, launch_running, nullptr),
                                        {}};

}  // namespace gpu
}  // namespace macl
