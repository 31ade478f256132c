// l1, softmaxce, dice: each forward, backward, and both in one. Equations: native/ops/losses.h. Sums are float64 partials
// of fixed chunks, added in order by a second launch. Logits pass through shared memory, a voxel a row, so that loads and
// stores coalesce whatever the number of classes. Both in one reads logits once for softmaxce (its denominator comes from
// the labels alone) and a and b once for l1 unless it is relative; dice needs its sums first.
#include "../ops/losses.h"

#include "launch.h"
#include "reduce.h"
#include "rows.h"

namespace macl {
namespace gpu {
namespace {

constexpr int kThreads = 256;

// ---- l1 ----
struct L1Places {  // indices of a kernel's tensors; −1 where it has none
  int loss, sums, meansq, dloss, da, db, ws;
};
constexpr L1Places kL1Fwd = {2, 3, 4, -1, -1, -1, 5};
constexpr L1Places kL1Bwd = {-1, 2, -1, 3, 4, 5, -1};
constexpr L1Places kL1FwdBwd = {3, 4, 5, 2, 6, 7, 8};

struct L1Gradient {
  const f64 *dloss, *sums;
  f64 elements;
  bool relative, add;
};
struct L1Factors {
  f32 diff, size;
  __device__ explicit L1Factors(const L1Gradient& g) {
    const f64 dloss = *g.dloss, below = g.relative ? g.sums[1] + 1e-12 : g.elements;
    diff = static_cast<f32>(dloss / below);
    size = static_cast<f32>(g.relative ? dloss * g.sums[0] / below / below * 0.5 : 0.0);
  }
};
__device__ inline f32 signed_as(f32 x, f32 c) { return x > 0.0f ? c : (x < 0.0f ? -c : 0.0f); }
template <int N>
__device__ inline void l1_write(F32View to, i64 row, i64 c, const f32 (&g)[N], bool add) {
  f32* o = to.data + row * to.ld + c;
  Pack<f32, N> v;
  if (add) v = load_pack<N>(o);
  for (int i = 0; i < N; ++i) v.v[i] = add ? v.v[i] + g[i] : g[i];
  store_pack<N>(o, v);
}
template <int N>
__device__ inline void l1_gradient(const Pack<f32, N>& u, const Pack<f32, N>& w, const L1Factors& k, F32View da,
                                   F32View db, i64 row, i64 c, bool add) {
  f32 gu[N], gw[N];
  for (int i = 0; i < N; ++i) {
    const f32 d = signed_as(u.v[i] - w.v[i], k.diff);
    gu[i] = d - signed_as(u.v[i], k.size);
    gw[i] = -d - signed_as(w.v[i], k.size);
  }
  l1_write<N>(da, row, c, gu, add);
  l1_write<N>(db, row, c, gw, add);
}

// ws: [chunks · tiles, 3]: Σ|a − b|, ½Σ(|a| + |b|), Σa². With `write` the (not relative) gradient as well.
template <int N>
__global__ void l1_chunks_kernel(F32View a, F32View b, i64 total, i64 chunk, RowTile t, f64* ws, F32View da, F32View db,
                                 L1Gradient g, bool write) {
  GPU_SHARED(f64, scratch, kWarp);
  const RowPlace at(t);
  const i64 r0 = blockIdx.x * chunk, r1 = r0 + chunk < total ? r0 + chunk : total, c = at.group * N;
  f32 diff[N], size[N], square[N];
  for (int i = 0; i < N; ++i) diff[i] = size[i] = square[i] = 0;
  if (at.y < t.ty && at.group < t.groups) {
    L1Factors k{g.dloss && write ? L1Factors(g) : L1Factors(L1Gradient{&g.elements, &g.elements, g.elements, false, false})};
    for (i64 r = r0 + at.y; r < r1; r += t.ty) {
      const Pack<f32, N> u = load_pack<N>(a.data + r * a.ld + c), w = load_pack<N>(b.data + r * b.ld + c);
      for (int i = 0; i < N; ++i) {
        diff[i] += fabsf(u.v[i] - w.v[i]);
        size[i] += fabsf(u.v[i]) + fabsf(w.v[i]);
        square[i] += u.v[i] * u.v[i];
      }
      if (write) l1_gradient<N>(u, w, k, da, db, r, c, g.add);
    }
  }
  f64 sums[3] = {0, 0, 0};
  for (int i = 0; i < N; ++i) {
    sums[0] += diff[i];
    sums[1] += size[i];
    sums[2] += square[i];
  }
  for (int i = 0; i < 3; ++i) sums[i] = block_sum(sums[i], scratch);
  if (threadIdx.x != 0) return;
  f64* out = ws + (static_cast<i64>(blockIdx.x) * gridDim.y + blockIdx.y) * 3;
  out[0] = sums[0];
  out[1] = sums[1] * 0.5;
  out[2] = sums[2];
}
__global__ void l1_combine_kernel(const f64* ws, i64 count, f64 n, bool relative, f64* loss, f64* sums, f64* meansq) {
  GPU_SHARED(f64, scratch, kWarp);
  f64 sum[3] = {0, 0, 0};
  for (i64 k = threadIdx.x; k < count; k += blockDim.x)
    for (int i = 0; i < 3; ++i) sum[i] += ws[3 * k + i];
  for (int i = 0; i < 3; ++i) sum[i] = block_sum(sum[i], scratch);
  if (threadIdx.x != 0) return;
  sums[0] = sum[0];
  sums[1] = sum[1];
  *loss = relative ? sum[0] / (sum[1] + 1e-12) : sum[0] / n;
  if (meansq) *meansq = sum[2] / n;
}
template <int N>
__global__ void l1_bwd_rows_kernel(F32View a, F32View b, i64 total, RowTile t, F32View da, F32View db, L1Gradient g) {
  const RowPlace at(t);
  if (at.group >= t.groups) return;
  const L1Factors k(g);
  const i64 c = at.group * N;
  for (i64 r = static_cast<i64>(blockIdx.x) * t.ty + at.y; r < total; r += static_cast<i64>(gridDim.x) * t.ty)
    l1_gradient<N>(load_pack<N>(a.data + r * a.ld + c), load_pack<N>(b.data + r * b.ld + c), k, da, db, r, c, g.add);
}
i64 l1_bytes(const Args& a, i32) {
  using T = L1Fwd;
  const i64 channels = a.t[T::a].s[4];
  return sum_chunks(voxels(a.t[T::a]), channels) * ceil_div(channels, kRowThreads) * 24;
}
void launch_l1(const Args& a, const Launch& l, const L1Places& p) {
  using T = L1Fwd;
  const Tensor& x = a.t[T::a];
  const auto& attrs = attrs_of<L1Attrs>(a);
  const i64 total = voxels(x), chunk = sum_chunk(total, x.s[4]), chunks = sum_chunks(total, x.s[4]);
  const int width = pack_width(a, x.s[4], 0, 1, p.da, p.db);
  const RowTile t = row_tile(x.s[4], width);
  const bool relative = attrs.relative != 0, backward = p.da >= 0;
  const L1Gradient g{backward ? pointer<f64>(a, p.dloss) : nullptr, pointer<f64>(a, p.sums),
                     static_cast<f64>(elements(x)), relative, attrs.accumulate != 0};
  if (p.loss >= 0) {
    f64* ws = pointer<f64>(a, p.ws);
    launch({dim3(static_cast<unsigned>(chunks), t.tiles()), dim3(kRowThreads), 0, l.stream},
           width == 4 ? l1_chunks_kernel<4> : l1_chunks_kernel<1>, view(a, T::a), view(a, T::b), total, chunk, t, ws,
           view(a, p.da), view(a, p.db), g, backward && !relative);
    launch({dim3(1), dim3(kThreads), 0, l.stream}, l1_combine_kernel, ws, chunks * t.tiles(), g.elements, relative,
           pointer<f64>(a, p.loss), pointer<f64>(a, p.sums), pointer<f64>(a, p.meansq));
    if (!relative) return;
  }
  if (backward)
    launch({t.grid(total, 4, l), dim3(t.threads()), 0, l.stream},
           width == 4 ? l1_bwd_rows_kernel<4> : l1_bwd_rows_kernel<1>, view(a, T::a), view(a, T::b), total, t, view(a, p.da),
           view(a, p.db), g);
}
void launch_l1_fwd(const Args& a, const Launch& l) { launch_l1(a, l, kL1Fwd); }
void launch_l1_bwd(const Args& a, const Launch& l) { launch_l1(a, l, kL1Bwd); }
void launch_l1_fwdbwd(const Args& a, const Launch& l) { launch_l1(a, l, kL1FwdBwd); }

// ---- softmax over tiles of voxels ----
constexpr int kMaxTile = 1024;
struct Logits {
  F32View x;
  View<i32> y;
  i64 voxels;       // of all samples, or of one (dice)
  i64 chunk;        // voxels of a block
  int classes, pitch, tile;  // floats from one voxel to the next in shared memory, an odd number; voxels of a tile
  i32 ignore;
  u32* fault;
  i32 instruction;
  i64 bytes() const { return static_cast<i64>(tile) * pitch * 4; }
};
i64 loss_chunk(i64 n) {
  const i64 many = ceil_div(n, 2048);
  return ceil_div(many > 1024 ? many : 1024, kThreads) * kThreads;
}
// Tiles of 20 KiB, so that several blocks share a processor; never less than a warp of voxels.
Logits logits(const Args& a, const Launch& l, i64 ignore, i64 voxels_) {
  using T = SoftmaxceFwd;
  const int classes = static_cast<int>(a.t[T::x].s[4]), pitch = classes | 1;
  const int fits = 20480 / (4 * pitch), tile = fits < kThreads ? fits / kWarp * kWarp : fits / kThreads * kThreads;
  return {view(a, T::x), view<i32>(a, T::y), voxels_, loss_chunk(voxels_), classes, pitch, tile < kMaxTile ? tile : kMaxTile,
          static_cast<i32>(ignore), l.fault, l.instruction};
}
// A thread's logits of a tile in turn, threads side by side.
struct LogitPlace {
  int v, k, step_v, step_k;
  __device__ explicit LogitPlace(const Logits& s) {
    const int threads = blockDim.x;
    step_v = threads / s.classes;
    step_k = threads - step_v * s.classes;
    v = static_cast<int>(threadIdx.x) / s.classes;
    k = static_cast<int>(threadIdx.x) - v * s.classes;
  }
  __device__ void next(const Logits& s) {
    v += step_v;
    k += step_k;
    if (k >= s.classes) {
      k -= s.classes;
      ++v;
    }
  }
};
// There after the next barrier.
__device__ inline void read_tile(const Logits& s, i64 v0, int rows, f32* tile) {
  const f32* from = s.x.data + v0 * s.x.ld;
  for (LogitPlace p(s); p.v < rows; p.next(s)) cp_async4(tile + p.v * s.pitch + p.k, from + p.v * s.x.ld + p.k);
  cp_async_commit();
  cp_async_wait<0>();
}
__device__ inline void write_tile(const Logits& s, i64 v0, int rows, const f32* tile, F32View dx, bool add) {
  f32* to = dx.data + v0 * dx.ld;
  LogitPlace p(s);
  if (!add) {
    for (; p.v < rows; p.next(s)) to[p.v * dx.ld + p.k] = tile[p.v * s.pitch + p.k];
    return;
  }
  constexpr int kTogether = 4;
  while (p.v < rows) {
    f32 *place[kTogether], before[kTogether] = {}, more[kTogether] = {};
    GPU_UNROLL
    for (int i = 0; i < kTogether; ++i) {
      place[i] = p.v < rows ? to + p.v * dx.ld + p.k : nullptr;
      if (place[i]) {
        before[i] = *place[i];
        more[i] = tile[p.v * s.pitch + p.k];
      }
      p.next(s);
    }
    GPU_UNROLL
    for (int i = 0; i < kTogether; ++i)
      if (place[i]) *place[i] = before[i] + more[i];
  }
}
// The voxel's class, −1 where it does not count; a label that is neither a class nor `ignore` is a fault.
__device__ inline int read_label(const Logits& s, i64 v) {
  const i32 label = s.y.data[v * s.y.ld];
  if (label == s.ignore) return -1;
  if (static_cast<u32>(label) < static_cast<u32>(s.classes)) return label;
  set_fault(s.fault, s.instruction, kBadLabel);
  return -1;
}
// A voxel's logits become exp(x − max); returns their sum.
__device__ inline f32 exponentials(f32* row, int classes, f32& max) {
  max = row[0];
  for (int k = 1; k < classes; ++k) max = row[k] > max ? row[k] : max;
  f32 sum = 0;
  for (int k = 0; k < classes; ++k) {
    const f32 e = expf(row[k] - max);
    row[k] = e;
    sum += e;
  }
  return sum;
}

// ---- softmaxce ----
struct CePlaces {
  int loss, count, dloss, dx, ws;
};
constexpr CePlaces kCeFwd = {3, 4, -1, -1, 5};
constexpr CePlaces kCeBwd = {-1, 3, 4, 5, -1};
constexpr CePlaces kCeFwdBwd = {4, 5, 3, 6, 7};

struct CeGradient {
  const f64 *dloss, *count;
  F32View dx;  // data null: no gradient
  bool add;
};
// ws [chunks, 2]: Σ of weighted losses (where ws is given), Σ of weights (labels alone where `counting`).
__global__ void softmaxce_chunks_kernel(Logits s, const f64* cw, f64* ws, bool counting, CeGradient g) {
  GPU_SHARED(f64, scratch, kWarp);
  GPU_DYN_SHARED(f32, tile);
  const i64 first = blockIdx.x * s.chunk, last = first + s.chunk < s.voxels ? first + s.chunk : s.voxels;
  const int t = threadIdx.x;
  f32 factor = 0;
  if (g.dx.data && !counting) {
    const f64 count = *g.count;
    factor = static_cast<f32>(count != 0 ? *g.dloss / count : 0.0);
  }
  f64 loss = 0, weight = 0;
  for (i64 v0 = first; v0 < last; v0 += s.tile) {
    const int rows = last - v0 < s.tile ? static_cast<int>(last - v0) : s.tile;
    if (!counting) {
      read_tile(s, v0, rows, tile);
      __syncthreads();
    }
    for (int v = t; v < rows; v += kThreads) {
      const int label = read_label(s, v0 + v);
      const f64 w = label < 0 ? 0.0 : (cw ? cw[label] : 1.0);
      weight += w;
      if (!counting) {
        f32 *row = tile + v * s.pitch, max = 0;
        const f32 own = label < 0 ? 0.0f : row[label];
        const f32 sum = exponentials(row, s.classes, max);
        if (label >= 0) loss += static_cast<f64>(logf(sum) - (own - max)) * w;
        const f32 inverse = 1.0f / sum, scale = static_cast<f32>(w) * factor;
        if (g.dx.data)
          for (int k = 0; k < s.classes; ++k)
            row[k] = label < 0 ? 0.0f : (row[k] * inverse - (k == label ? 1.0f : 0.0f)) * scale;
      }
    }
    if (counting) continue;
    __syncthreads();
    if (g.dx.data) {
      write_tile(s, v0, rows, tile, g.dx, g.add);
      __syncthreads();
    }
  }
  if (!ws) return;
  loss = block_sum(loss, scratch);
  weight = block_sum(weight, scratch);
  if (t != 0) return;
  ws[2 * static_cast<i64>(blockIdx.x)] = loss;
  ws[2 * static_cast<i64>(blockIdx.x) + 1] = weight;
}
// loss is null where the weights alone were summed.
__global__ void softmaxce_combine_kernel(const f64* ws, i64 chunks, f64* loss, f64* count) {
  GPU_SHARED(f64, scratch, kWarp);
  f64 sum = 0, weight = 0;
  for (i64 k = threadIdx.x; k < chunks; k += blockDim.x) {
    sum += ws[2 * k];
    weight += ws[2 * k + 1];
  }
  sum = block_sum(sum, scratch);
  weight = block_sum(weight, scratch);
  if (threadIdx.x != 0) return;
  if (loss) *loss = weight != 0 ? sum / weight : 0;
  *count = weight;
}
i64 softmaxce_bytes(const Args& a, i32) {
  using T = SoftmaxceFwd;
  const i64 n = voxels(a.t[T::x]);
  return ceil_div(n, loss_chunk(n)) * 16;
}
void launch_softmaxce(const Args& a, const Launch& l, const CePlaces& p) {
  using T = SoftmaxceFwd;
  const auto& attrs = attrs_of<SoftmaxceAttrs>(a);
  const Logits s = logits(a, l, attrs.ignore, voxels(a.t[T::x]));
  const i64 chunks = ceil_div(s.voxels, s.chunk);
  const f64* cw = pointer<f64>(a, T::cw);
  f64 *ws = p.loss >= 0 ? pointer<f64>(a, p.ws) : nullptr, *count = pointer<f64>(a, p.count);
  const CeGradient g{p.dx >= 0 ? pointer<f64>(a, p.dloss) : nullptr, count, view(a, p.dx), attrs.accumulate != 0};
  const auto chunked = [&](i64 shared) {
    return Shape{dim3(static_cast<unsigned>(chunks)), dim3(kThreads), shared, l.stream};
  };
  const Shape one{dim3(1), dim3(kThreads), 0, l.stream};
  if (p.loss >= 0 && p.dx >= 0) {
    launch(chunked(0), softmaxce_chunks_kernel, s, cw, ws, true, g);
    launch(one, softmaxce_combine_kernel, ws, chunks, nullptr, count);
  }
  launch(chunked(s.bytes()), softmaxce_chunks_kernel, s, cw, ws, false, g);
  if (p.loss >= 0) launch(one, softmaxce_combine_kernel, ws, chunks, pointer<f64>(a, p.loss), count);
}
void launch_softmaxce_fwd(const Args& a, const Launch& l) { launch_softmaxce(a, l, kCeFwd); }
void launch_softmaxce_bwd(const Args& a, const Launch& l) { launch_softmaxce(a, l, kCeBwd); }
void launch_softmaxce_fwdbwd(const Args& a, const Launch& l) { launch_softmaxce(a, l, kCeFwdBwd); }

// ---- dice ----
struct DicePlaces {
  int loss, sums, dloss, dx, ws;
};
constexpr DicePlaces kDiceFwd = {2, 3, -1, -1, 4};
constexpr DicePlaces kDiceBwd = {-1, 2, 3, 4, -1};
constexpr DicePlaces kDiceFwdBwd = {3, 4, 2, 5, 6};
constexpr int kMaxClasses = 128;

// A block's voxels: blockIdx.x (or its mirror image) counts samples and their chunks.
struct DiceChunk {
  i64 sample, first, last;
  __device__ DiceChunk(const Logits& s, i64 block, i64 chunks) {
    sample = quotient(block, chunks);
    const i64 start = (block - sample * chunks) * s.chunk, end = start + s.chunk < s.voxels ? start + s.chunk : s.voxels;
    first = sample * s.voxels + start;
    last = sample * s.voxels + end;
  }
};
// ws [N · chunks, K, 3]: Σ p·y, Σ p, Σ y. A thread has one class and every so manieth voxel of a tile.
__global__ void dice_chunks_kernel(Logits s, i64 chunks, f64* ws) {
  GPU_SHARED(f64, partial, kThreads * 3);
  GPU_SHARED(int, labels, kMaxTile);
  GPU_DYN_SHARED(f32, tile);
  const DiceChunk own(s, blockIdx.x, chunks);
  const int t = threadIdx.x, parts = kThreads / s.classes, part = t / s.classes, k = t - part * s.classes;
  f64 sums[3] = {0, 0, 0};
  for (i64 v0 = own.first; v0 < own.last; v0 += s.tile) {
    const int rows = own.last - v0 < s.tile ? static_cast<int>(own.last - v0) : s.tile;
    read_tile(s, v0, rows, tile);
    __syncthreads();
    for (int v = t; v < rows; v += kThreads) {
      f32 *row = tile + v * s.pitch, max = 0;
      const int label = read_label(s, v0 + v);
      const f32 sum = exponentials(row, s.classes, max), scale = label < 0 ? 0.0f : 1.0f / sum;
      for (int j = 0; j < s.classes; ++j) row[j] = label < 0 ? 0.0f : row[j] * scale;
      labels[v] = label;
    }
    __syncthreads();
    if (part < parts) {
      f32 both = 0, p = 0, y = 0;
      for (int v = part; v < rows; v += parts) {
        const f32 here = tile[v * s.pitch + k];
        p += here;
        if (labels[v] == k) {
          both += here;
          y += 1;
        }
      }
      sums[0] += both;
      sums[1] += p;
      sums[2] += y;
    }
    __syncthreads();
  }
  for (int i = 0; i < 3; ++i) partial[t * 3 + i] = sums[i];
  __syncthreads();
  if (t >= s.classes) return;
  for (int i = 0; i < 3; ++i) {
    f64 sum = 0;
    for (int j = 0; j < parts; ++j) sum += partial[(j * s.classes + t) * 3 + i];
    ws[(static_cast<i64>(blockIdx.x) * s.classes + t) * 3 + i] = sum;
  }
}
// A block a class (of a sample): the chunks in order.
__global__ void dice_combine_kernel(const f64* ws, i64 chunks, int classes, f64* sums) {
  GPU_SHARED(f64, scratch, kWarp);
  const i64 id = blockIdx.x, sample = quotient(id, classes), k = id - sample * classes;
  f64 sum[3] = {0, 0, 0};
  for (i64 c = threadIdx.x; c < chunks; c += blockDim.x)
    for (int i = 0; i < 3; ++i) sum[i] += ws[((sample * chunks + c) * classes + k) * 3 + i];
  for (int i = 0; i < 3; ++i) sum[i] = block_sum(sum[i], scratch);
  if (threadIdx.x == 0)
    for (int i = 0; i < 3; ++i) sums[id * 3 + i] = sum[i];
}
// The classes that count are first … K − 1.
__global__ void dice_loss_kernel(const f64* sums, i64 samples, int classes, int first, f64 smooth, f64* loss) {
  GPU_SHARED(f64, scratch, kWarp);
  f64 mean = 0;
  for (i64 id = threadIdx.x; id < samples * classes; id += blockDim.x)
    if (id - quotient(id, classes) * classes >= first)
      mean += (2 * sums[3 * id] + smooth) / (sums[3 * id + 1] + sums[3 * id + 2] + smooth);
  mean = block_sum(mean, scratch);
  if (threadIdx.x == 0) *loss = 1 - mean / static_cast<f64>(samples * (classes - first));
}
// d loss / d p_k = other[k], and extra[k] more where k is the label; through the softmax dx_k = p_k (g_k − Σ_j g_j p_j).
// From the last chunk to the first: what the sums read last is in the cache still.
__global__ void dice_bwd_tiles_kernel(Logits s, i64 chunks, const f64* sums, const f64* dloss, bool per_sample,
                                      i64 samples, int first, f64 smooth, F32View dx, bool add) {
  GPU_SHARED(f32, other, kMaxClasses);
  GPU_SHARED(f32, extra, kMaxClasses);
  GPU_DYN_SHARED(f32, tile);
  const DiceChunk own(s, static_cast<i64>(gridDim.x) - 1 - blockIdx.x, chunks);
  const int t = threadIdx.x;
  if (t < s.classes) {
    const f64* sum = sums + ((per_sample ? own.sample : 0) * s.classes + t) * 3;
    const f64 share = *dloss / static_cast<f64>(samples * (s.classes - first));
    const f64 below = sum[1] + sum[2] + smooth, dice = (2 * sum[0] + smooth) / below;
    other[t] = static_cast<f32>(t >= first ? share * dice / below : 0.0);
    extra[t] = static_cast<f32>(t >= first ? -2 * share / below : 0.0);
  }
  for (i64 v0 = own.first; v0 < own.last; v0 += s.tile) {
    const int rows = own.last - v0 < s.tile ? static_cast<int>(own.last - v0) : s.tile;
    read_tile(s, v0, rows, tile);
    __syncthreads();
    for (int v = t; v < rows; v += kThreads) {
      f32 *row = tile + v * s.pitch, max = 0;
      const int label = read_label(s, v0 + v);
      const f32 inverse = 1.0f / exponentials(row, s.classes, max);
      f32 inner = 0;
      for (int k = 0; k < s.classes; ++k) {
        row[k] *= inverse;
        inner += row[k] * (other[k] + (k == label ? extra[k] : 0.0f));
      }
      for (int k = 0; k < s.classes; ++k)
        row[k] = label < 0 ? 0.0f : row[k] * (other[k] + (k == label ? extra[k] : 0.0f) - inner);
    }
    __syncthreads();
    write_tile(s, v0, rows, tile, dx, add);
    __syncthreads();
  }
}
i64 sample_voxels(const Tensor& x) { return x.s[1] * x.s[2] * x.s[3]; }
i64 dice_chunks(const Tensor& x) { return ceil_div(sample_voxels(x), loss_chunk(sample_voxels(x))); }
i64 dice_bytes(const Args& a, i32) {
  using T = DiceFwd;
  return a.t[T::x].s[0] * dice_chunks(a.t[T::x]) * a.t[T::x].s[4] * 24;
}
void launch_dice(const Args& a, const Launch& l, const DicePlaces& p) {
  using T = DiceFwd;
  const auto& attrs = attrs_of<DiceAttrs>(a);
  const Tensor& x = a.t[T::x];
  const Logits s = logits(a, l, attrs.ignore, sample_voxels(x));
  const i64 chunks = dice_chunks(x), samples = attrs.perSample ? x.s[0] : 1, of_sum = chunks * (x.s[0] / samples);
  const int first = attrs.background ? 0 : 1;
  const Shape tiled{dim3(static_cast<unsigned>(x.s[0] * chunks)), dim3(kThreads), s.bytes(), l.stream};
  f64* sums = pointer<f64>(a, p.sums);
  if (p.loss >= 0) {
    f64* ws = pointer<f64>(a, p.ws);
    launch(tiled, dice_chunks_kernel, s, chunks, ws);
    launch({dim3(static_cast<unsigned>(samples * s.classes)), dim3(128), 0, l.stream}, dice_combine_kernel, ws, of_sum,
           s.classes, sums);
    launch({dim3(1), dim3(kThreads), 0, l.stream}, dice_loss_kernel, sums, samples, s.classes, first, attrs.smooth,
           pointer<f64>(a, p.loss));
  }
  if (p.dx >= 0)
    launch(tiled, dice_bwd_tiles_kernel, s, chunks, sums, pointer<f64>(a, p.dloss), attrs.perSample != 0, samples, first,
           attrs.smooth, view(a, p.dx), attrs.accumulate != 0);
}
void launch_dice_fwd(const Args& a, const Launch& l) { launch_dice(a, l, kDiceFwd); }
void launch_dice_bwd(const Args& a, const Launch& l) { launch_dice(a, l, kDiceBwd); }
void launch_dice_fwdbwd(const Args& a, const Launch& l) { launch_dice(a, l, kDiceFwdBwd); }

}  // namespace

extern const GpuKernel losses_gpu[] = {MACL_GPU_KERNEL(l1_fwd, L1Attrs, launch_l1_fwd, l1_bytes),
                                       MACL_GPU_KERNEL(l1_bwd, L1Attrs, launch_l1_bwd, nullptr),
                                       MACL_GPU_KERNEL(l1_fwdbwd, L1Attrs, launch_l1_fwdbwd, l1_bytes),
                                       MACL_GPU_KERNEL(softmaxce_fwd, SoftmaxceAttrs, launch_softmaxce_fwd, softmaxce_bytes),
                                       MACL_GPU_KERNEL(softmaxce_bwd, SoftmaxceAttrs, launch_softmaxce_bwd, nullptr),
                                       MACL_GPU_KERNEL(softmaxce_fwdbwd, SoftmaxceAttrs, launch_softmaxce_fwdbwd, softmaxce_bytes),
                                       MACL_GPU_KERNEL(dice_fwd, DiceAttrs, launch_dice_fwd, dice_bytes),
                                       MACL_GPU_KERNEL(dice_bwd, DiceAttrs, launch_dice_bwd, nullptr),
                                       MACL_GPU_KERNEL(dice_fwdbwd, DiceAttrs, launch_dice_fwdbwd, dice_bytes),
                                       {}};

}  // namespace gpu
}  // namespace macl
