// normact: batch statistics, normalise + activation (+ max-pool), its gradient, running statistics. Equations:
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
inline NormParams norm_params(const Args& a, int first, const NormactAttrs& p) {
  return {pointer<f32>(a, first),    pointer<f32>(a, first + 1), pointer<f32>(a, first + 2),
          pointer<f32>(a, first + 3), p.eps,                      static_cast<f32>(p.slope),
          p.norm != 0};
}

template <int N>
struct Coefs {
  f32 mean[N], scale[N], shift[N];
  __device__ Coefs(const NormParams& p, i64 c) {
    for (int i = 0; i < N; ++i) {
      mean[i] = p.norm ? p.mean[c + i] : 0.0f;
      const f64 gamma = p.gamma ? static_cast<f64>(p.gamma[c + i]) : 1.0;
      scale[i] = p.norm ? static_cast<f32>(gamma / sqrt(static_cast<f64>(p.var[c + i]) + p.eps)) : 1.0f;
      shift[i] = p.beta ? p.beta[c + i] : 0.0f;
    }
  }
};
__device__ inline f32 affine(f32 centred, f32 scale, f32 shift) { return centred * scale + shift; }
__device__ inline f32 leaky(f32 v, f32 slope) { return v > 0.0f ? v : v * slope; }

// ---- statistics ----
// ws: float64 [C, chunks, 2], a chunk's mean and M2. A thread merges tiles of 8 rows, counted from its first value.
template <int N>
__global__ void normact_stats_chunks_kernel(const f32* x, i64 ld, i64 total, i64 chunk, RowTile t, f64* ws) {
  GPU_SHARED(f64, means, kRowThreads* N);
  GPU_SHARED(f64, squares, kRowThreads* N);
  const RowPlace at(t);
  const i64 k = blockIdx.x, first_row = k * chunk, rows = chunk < total - first_row ? chunk : total - first_row;
  if (at.group < t.groups) {
    const f32* p = x + first_row * ld + at.group * N;
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
    f64* out = ws + ((static_cast<i64>(blockIdx.y) * columns + c) * gridDim.x + k) * 2;
    out[0] = mean;
    out[1] = m2;
  }
}

// A block a channel.
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

i64 stats_bytes(const Args& a, i32) { return sum_chunks(voxels(a.t[0]), a.t[0].s[4]) * a.t[0].s[4] * 16; }
void launch_stats(const Args& a, const Launch& l) {
  const Tensor& x = a.t[0];
  const i64 total = voxels(x), chunk = sum_chunk(total, x.s[4]), chunks = sum_chunks(total, x.s[4]);
  const int width = pack_width(a, x.s[4], 0);
  const RowTile t = row_tile(x.s[4], width);
  f64* ws = pointer<f64>(a, 3);
  const Shape s{dim3(static_cast<unsigned>(chunks), t.tiles()), dim3(t.threads()), 0, l.stream};
  launch(s, width == 4 ? normact_stats_chunks_kernel<4> : normact_stats_chunks_kernel<1>, pointer<f32>(a, 0), x.ld, total,
         chunk, t, ws);
  launch({dim3(static_cast<unsigned>(x.s[4])), dim3(128), 0, l.stream}, normact_stats_combine_kernel, ws, total, chunk,
         chunks, pointer<f32>(a, 1), pointer<f32>(a, 2));
}

// ---- forward ----
template <int N>
__global__ void normact_fwd_rows_kernel(F32View x, F32View y, i64 total, RowTile t, NormParams p) {
  const RowPlace at(t);
  if (at.group >= t.groups) return;
  const i64 c = at.group * N, stride = static_cast<i64>(gridDim.x) * t.ty;
  const Coefs<N> k(p, c);
  constexpr int kRows = 4;
  for (i64 v = static_cast<i64>(blockIdx.x) * t.ty + at.y; v < total; v += stride * kRows) {
    Pack<f32, N> in[kRows] = {};
    GPU_UNROLL
    for (int j = 0; j < kRows; ++j)
      if (v + j * stride < total) in[j] = load_pack<N>(x.data + (v + j * stride) * x.ld + c);
    GPU_UNROLL
    for (int j = 0; j < kRows; ++j) {
      if (v + j * stride >= total) continue;
      for (int i = 0; i < N; ++i) in[j].v[i] = leaky(affine(in[j].v[i] - k.mean[i], k.scale[i], k.shift[i]), p.slope);
      store_pack<N>(y.data + (v + j * stride) * y.ld + c, in[j]);
    }
  }
}
// A thread a pooling window; windows cut short by the volume's end give y alone.
template <int N>
__global__ void normact_fwd_windows_kernel(F32View x, F32View y, F32View pooled, i64 windows, PoolWindows w, RowTile t,
                                           NormParams p) {
  const RowPlace at(t);
  if (at.group >= t.groups) return;
  const i64 c = at.group * N;
  const Coefs<N> k(p, c);
  for (i64 id = static_cast<i64>(blockIdx.x) * t.ty + at.y; id < windows; id += static_cast<i64>(gridDim.x) * t.ty) {
    const PoolWindow own(id, w);
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
void launch_fwd(const Args& a, const Launch& l) {
  const auto& attrs = attrs_of<NormactAttrs>(a);
  const Tensor& x = a.t[0];
  const NormParams p = norm_params(a, 1, attrs);
  const int width = pack_width(a, x.s[4], 0, 5, 6);
  const RowTile t = row_tile(x.s[4], width);
  if (given(a, 6)) {
    const PoolWindows w = pool_windows(x, attrs.sd, attrs.sh, attrs.sw);
    const i64 windows = x.s[0] * w.grid.d * w.grid.h * w.grid.w;
    launch({t.grid(windows, 1, l), dim3(t.threads()), 0, l.stream},
           width == 4 ? normact_fwd_windows_kernel<4> : normact_fwd_windows_kernel<1>, view(a, 0), view(a, 5), view(a, 6),
           windows, w, t, p);
  } else {
    launch({t.grid(voxels(x), 4, l), dim3(t.threads()), 0, l.stream},
           width == 4 ? normact_fwd_rows_kernel<4> : normact_fwd_rows_kernel<1>, view(a, 0), view(a, 5), voxels(x), t, p);
  }
}

// ---- backward ----
// ws: float64 [C, chunks, 2] a chunk's Σg and Σg·(x − mean) with g = dy · act'; then [C, 2], the totals.
template <int N>
__global__ void normact_bwd_sums_kernel(F32View dy, F32View x, i64 total, i64 chunk, RowTile t, NormParams p, f64* ws) {
  GPU_SHARED(f32, gs, kRowThreads* N);
  GPU_SHARED(f32, hs, kRowThreads* N);
  const RowPlace at(t);
  const i64 k = blockIdx.x, first_row = k * chunk, rows = chunk < total - first_row ? chunk : total - first_row;
  if (at.group < t.groups) {
    const i64 c = at.group * N;
    const Coefs<N> n(p, c);
    const f32 *dp = dy.data + first_row * dy.ld + c, *xp = x.data + first_row * x.ld + c;
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
    f64* out = ws + ((static_cast<i64>(blockIdx.y) * columns + c) * gridDim.x + k) * 2;
    out[0] = g;
    out[1] = h;
  }
}
// A block a channel: the totals, dgamma, dbeta.
__global__ void normact_bwd_combine_kernel(f64* ws, i64 chunks, NormParams p, f32* dgamma, f32* dbeta, bool add) {
  GPU_SHARED(f64, scratch, kWarp);
  const i64 c = blockIdx.x;
  f64 g = 0, h = 0;
  for (i64 k = threadIdx.x; k < chunks; k += blockDim.x) {
    g += ws[(c * chunks + k) * 2];
    h += ws[(c * chunks + k) * 2 + 1];
  }
  g = block_sum(g, scratch);
  h = block_sum(h, scratch);
  if (threadIdx.x != 0) return;
  f64* totals = ws + static_cast<i64>(gridDim.x) * chunks * 2 + c * 2;
  totals[0] = g;
  totals[1] = h;
  if (dgamma) {
    const f64 own = h / sqrt(static_cast<f64>(p.var[c]) + p.eps);
    dgamma[c] = static_cast<f32>(add ? static_cast<f64>(dgamma[c]) + own : own);
  }
  if (dbeta) dbeta[c] = static_cast<f32>(add ? static_cast<f64>(dbeta[c]) + g : g);
}
// dx = γ·rstd·(g − Σg/n − (x − mean)·rstd²·Σg(x − mean)/n); without a norm dx = g. From the last voxel to the first: what
// the sums read last is in the cache still.
template <int N>
__global__ void normact_bwd_rows_kernel(F32View dy, F32View x, F32View dx, i64 total, RowTile t, NormParams p,
                                        const f64* totals, bool add) {
  const RowPlace at(t);
  if (at.group >= t.groups) return;
  const i64 c = at.group * N, stride = static_cast<i64>(gridDim.x) * t.ty;
  const Coefs<N> n(p, c);
  f32 k1[N], k2[N];
  for (int i = 0; i < N; ++i) {
    k1[i] = k2[i] = 0.0f;
    if (!p.norm) continue;
    const f64 rstd = 1.0 / sqrt(static_cast<f64>(p.var[c + i]) + p.eps);
    const f64 gamma = p.gamma ? static_cast<f64>(p.gamma[c + i]) : 1.0;
    k1[i] = static_cast<f32>(gamma * rstd * totals[(c + i) * 2] / static_cast<f64>(total));
    k2[i] = static_cast<f32>(gamma * rstd * rstd * rstd * totals[(c + i) * 2 + 1] / static_cast<f64>(total));
  }
  constexpr int kRows = 2;
  for (i64 v = total - 1 - (static_cast<i64>(blockIdx.x) * t.ty + at.y); v >= 0; v -= stride * kRows) {
    Pack<f32, N> d[kRows] = {}, in[kRows] = {}, out[kRows] = {};
    GPU_UNROLL
    for (int j = 0; j < kRows; ++j) {
      const i64 row = v - j * stride;
      if (row < 0) continue;
      d[j] = load_pack<N>(dy.data + row * dy.ld + c);
      in[j] = load_pack<N>(x.data + row * x.ld + c);
      if (add) out[j] = load_pack<N>(dx.data + row * dx.ld + c);
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
      store_pack<N>(dx.data + row * dx.ld + c, out[j]);
    }
  }
}
i64 bwd_bytes(const Args& a, i32) { return (sum_chunks(voxels(a.t[0]), a.t[0].s[4]) + 1) * a.t[0].s[4] * 16; }
void launch_bwd(const Args& a, const Launch& l) {
  const auto& attrs = attrs_of<NormactAttrs>(a);
  const Tensor& x = a.t[1];
  const NormParams p = norm_params(a, 2, attrs);
  const i64 total = voxels(x), chunk = sum_chunk(total, x.s[4]), chunks = sum_chunks(total, x.s[4]);
  const int width = pack_width(a, x.s[4], 0, 1, 6);
  const RowTile t = row_tile(x.s[4], width);
  f64* ws = p.norm ? pointer<f64>(a, 9) : nullptr;
  if (p.norm) {
    launch({dim3(static_cast<unsigned>(chunks), t.tiles()), dim3(t.threads()), 0, l.stream},
           width == 4 ? normact_bwd_sums_kernel<4> : normact_bwd_sums_kernel<1>, view(a, 0), view(a, 1), total, chunk, t,
           p, ws);
    launch({dim3(static_cast<unsigned>(x.s[4])), dim3(128), 0, l.stream}, normact_bwd_combine_kernel, ws, chunks, p,
           pointer<f32>(a, 7), pointer<f32>(a, 8), attrs.accumulate != 0);
  }
  launch({t.grid(total, 4, l), dim3(t.threads()), 0, l.stream},
         width == 4 ? normact_bwd_rows_kernel<4> : normact_bwd_rows_kernel<1>, view(a, 0), view(a, 1), view(a, 6), total,
         t, p, ws ? ws + x.s[4] * chunks * 2 : nullptr, attrs.accumulateX != 0);
}

// ---- running statistics (commit) ----
__global__ void normact_running_kernel(const f32* mean, const f32* var, f32* rm, f32* rv, i64 n, f64 momentum,
                                       f64 unbiased, const i32* skip) {
  if (skipped(skip)) return;
  const i64 c = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= n) return;
  rm[c] = static_cast<f32>((1 - momentum) * static_cast<f64>(rm[c]) + momentum * static_cast<f64>(mean[c]));
  rv[c] = static_cast<f32>((1 - momentum) * static_cast<f64>(rv[c]) + momentum * (static_cast<f64>(var[c]) * unbiased));
}
void launch_running(const Args& a, const Launch& l) {
  const auto& p = attrs_of<NormactRunningAttrs>(a);
  const i64 n = elements(a.t[0]);
  launch({dim3(blocks_for(n, 128)), dim3(128), 0, l.stream}, normact_running_kernel, pointer<f32>(a, 0),
         pointer<f32>(a, 1), pointer<f32>(a, 2), pointer<f32>(a, 3), n, p.momentum,
         p.count > 1 ? p.count / (p.count - 1) : 1.0, l.skip);
}

}  // namespace

extern const GpuKernel normact_gpu[] = {{"normact_stats", launch_stats, stats_bytes},
                                        {"normact_fwd", launch_fwd, nullptr},
                                        {"normact_bwd", launch_bwd, bwd_bytes},
                                        {"normact_running", launch_running, nullptr},
                                        {nullptr, nullptr, nullptr}};

}  // namespace gpu
}  // namespace macl
