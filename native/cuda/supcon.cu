// supcon: the position-aware contrastive loss at each of S positions, forward, backward, and both in one. Equation:
// native/ops/supcon.h. A block has a position: unit vectors u [2B, C] and similarities [2B, 2B] in shared memory (in ws where
// they do not fit), the masked log-sum-exp, and the gradient through the normalisation, all in one launch; a second one
// adds the positions' losses in order. A sample's own other view always is a positive.
//
// The projection's u·du needs no du: Σ_c u_ic du_ic = Σ_j H_ij (u_i·u_j), with H = G + Gᵀ and du = H u.
#include "../ops/supcon.h"

#include "launch.h"
#include "reduce.h"
#include "rows.h"

namespace macl {
namespace gpu {
namespace {

struct SupconPlaces {  // indices of a kernel's tensors; −1 where it has none
  int dloss, loss, cosine, dz1, dz2, ws;
};
constexpr SupconPlaces kSupconFwd = {-1, 3, 4, -1, -1, 5};
constexpr SupconPlaces kSupconBwd = {3, -1, -1, 4, 5, 6};
constexpr SupconPlaces kSupconFwdBwd = {3, 4, 5, 6, 7, 8};

constexpr i64 kSharedBytes = 96 * 1024;  // every device of compute capability 8.0 and more has that much for a block
constexpr i64 kMostChannels = 1 << 21;   // offsets within a position's vectors are 32-bit; more is refused
constexpr int kRows = 8;                 // vectors of a thread's tile
constexpr int kColumns = 4;              // the other vectors of the similarities' tile; channels of the gradient's

inline i64 round_up(i64 v, i64 to) { return ceil_div(v, to) * to; }

struct SupconSizes {
  i64 positions;
  int batch, vectors, channels, quads;  // quads: groups of four channels
  int u_pitch, g_pitch;                 // floats; an odd number of quads, so that rows lie in different banks
  int mask_words, slices, threads;
  i64 small, scratch;  // bytes: what always is in shared memory; u and two matrices
  bool in_shared;
  i64 blocks;
};
SupconSizes supcon_sizes(const Tensor& z) {
  SupconSizes s;
  s.positions = z.s[1] * z.s[2] * z.s[3];
  // `bytes` is asked before `check` has refused what is larger.
  s.batch = static_cast<int>(z.s[0] < 256 ? z.s[0] : 256);
  s.vectors = 2 * s.batch;
  s.channels = static_cast<int>(z.s[4] < kMostChannels ? z.s[4] : kMostChannels);
  s.quads = static_cast<int>(ceil_div(s.channels, 4));
  s.u_pitch = (s.quads | 1) * 4;
  s.g_pitch = static_cast<int>(ceil_div(s.vectors, 8) * 2 | 1) * 4;
  s.mask_words = static_cast<int>(ceil_div(s.batch, 32));
  s.threads = s.vectors <= 32 ? 128 : 256;
  // The channels of a tile of similarities are shared out where tiles alone would leave threads idle.
  const int tiles = static_cast<int>(ceil_div(s.vectors, kRows) * ceil_div(s.vectors, kColumns));
  s.slices = tiles * 4 <= s.threads ? 4 : (tiles * 2 <= s.threads ? 2 : 1);
  s.small = round_up(s.vectors * 24 + static_cast<i64>(s.batch) * s.mask_words * 4, 16);
  s.scratch = (round_up(s.vectors, kRows) * s.u_pitch + static_cast<i64>(s.vectors) * 2 * s.g_pitch) * 4;
  s.in_shared = s.small + s.scratch <= kSharedBytes;
  // Scratch in ws: at most 64 MiB and 264 blocks, each of which walks over positions.
  const i64 many = (i64(64) << 20) / s.scratch, most = many < 1 ? 1 : (many < 264 ? many : 264);
  s.blocks = s.in_shared || s.positions < most ? s.positions : most;
  return s;
}
i64 supcon_head(const SupconSizes& s) { return round_up(s.positions * 16, 64); }
i64 supcon_bytes(const Args& a, i32) {
  using T = SupconFwd;
  const SupconSizes s = supcon_sizes(a.t[T::z1]);
  return supcon_head(s) + (s.in_shared ? 0 : s.blocks * s.scratch);
}

struct SupconArgs {
  SupconSizes s;
  F32View z[2], dz[2];
  const f64 *pos, *dloss;
  f64 *partial, tau, scale, threshold[3];
  f32* scratch;  // of all blocks, where it is not in shared memory
  int axes;
  bool gradient, add, wide;  // wide: z and dz can be read four channels at a time
};

struct alignas(16) Quad {
  f32 v[4];
};
__device__ inline Quad quad_at(const f32* p) { return *reinterpret_cast<const Quad*>(p); }

// A block's memory.
struct SupconBlock {
  f64 *row_loss, *row_cosine;  // [2B]
  f32 *inverse, *dot;          // [2B]: 1 / max(|z|, 1e-12), negative where |z| is below; u · du
  u32* near;                   // [B, mask_words]: which samples are positives of a sample, itself among them
  f32 *u, *gram, *grad;        // [2B filled up to whole tiles, u_pitch], [2B, g_pitch] twice
  int lane, warp, warps;
  __device__ SupconBlock(const SupconArgs& a, u8* shared, f32* scratch) {
    const int n = a.s.vectors;
    row_loss = reinterpret_cast<f64*>(shared);
    row_cosine = row_loss + n;
    inverse = reinterpret_cast<f32*>(row_cosine + n);
    dot = inverse + n;
    near = reinterpret_cast<u32*>(dot + n);
    u = scratch;
    gram = u + static_cast<i64>((n + kRows - 1) / kRows * kRows) * a.s.u_pitch;
    grad = gram + static_cast<i64>(n) * a.s.g_pitch;
    lane = static_cast<int>(threadIdx.x) % kWarp;
    warp = static_cast<int>(threadIdx.x) / kWarp;
    warps = static_cast<int>(blockDim.x) / kWarp;
  }
  __device__ bool positive(const SupconArgs& a, int i, int j) const {
    const int p = i < a.s.batch ? i : i - a.s.batch, q = j < a.s.batch ? j : j - a.s.batch;
    return near[p * a.s.mask_words + q / 32] >> (q % 32) & 1;
  }
};
// A vector's first channel in z or dz.
__device__ inline f32* vector_at(const SupconArgs& a, const F32View (&z)[2], int i, i64 position) {
  const int which = i < a.s.batch ? 0 : 1;
  return z[which].data + (static_cast<i64>(i - which * a.s.batch) * a.s.positions + position) * z[which].ld;
}

__device__ inline void find_positives(const SupconArgs& a, const SupconBlock& b) {
  for (int id = threadIdx.x; id < a.s.batch * a.s.mask_words; id += blockDim.x) {
    const int i = id / a.s.mask_words, first = (id - i * a.s.mask_words) * 32;
    u32 bits = 0;
    for (int j = first; j < first + 32 && j < a.s.batch; ++j) {
      bool near = true;
      for (int k = 0; k < a.axes; ++k)
        near = near && fabs(a.pos[i * a.axes + k] - a.pos[j * a.axes + k]) < a.threshold[k];
      if (near || i == j) bits |= 1u << (j - first);
    }
    b.near[id] = bits;
  }
}

// A warp reads eight vectors at a time.
__device__ inline void normalise(const SupconArgs& a, const SupconBlock& b, i64 position) {
  constexpr int kTogether = 8;
  for (int i0 = b.warp; i0 < a.s.vectors; i0 += b.warps * kTogether) {
    f32 square[kTogether];
    for (int r = 0; r < kTogether; ++r) square[r] = 0;
    for (int q = b.lane; q < a.s.quads; q += kWarp) {
      Quad v[kTogether];
      GPU_UNROLL
      for (int r = 0; r < kTogether; ++r) {
        const int i = i0 + r * b.warps;
        if (i >= a.s.vectors) continue;
        const f32* z = vector_at(a, a.z, i, position) + q * 4;
        if (a.wide)
          v[r] = quad_at(z);
        else
          for (int k = 0; k < 4; ++k) v[r].v[k] = q * 4 + k < a.s.channels ? z[k] : 0.0f;
      }
      GPU_UNROLL
      for (int r = 0; r < kTogether; ++r) {
        const int i = i0 + r * b.warps;
        if (i >= a.s.vectors) continue;
        for (int k = 0; k < 4; ++k) square[r] += v[r].v[k] * v[r].v[k];
        *reinterpret_cast<Quad*>(b.u + static_cast<i64>(i) * a.s.u_pitch + q * 4) = v[r];
      }
    }
    for (int r = 0; r < kTogether; ++r) {
      const int i = i0 + r * b.warps;
      const f64 norm = sqrt(warp_sum(static_cast<f64>(square[r])));
      if (i >= a.s.vectors) continue;
      const bool tiny = norm < 1e-12;
      const f32 inverse = static_cast<f32>(tiny ? 1e12 : 1 / norm);
      for (int q = b.lane; q < a.s.quads; q += kWarp) {
        f32* u = b.u + static_cast<i64>(i) * a.s.u_pitch + q * 4;
        Quad v = quad_at(u);
        for (int k = 0; k < 4; ++k) v.v[k] *= inverse;
        *reinterpret_cast<Quad*>(u) = v;
      }
      if (b.lane == 0) b.inverse[i] = tiny ? -inverse : inverse;
    }
  }
}

// u_i · u_j over quads q0 … q1 for i = ti + r · row_tiles, j = tj + k · column_tiles: rows side by side lie in different
// banks. What vectors beyond the last give is not kept.
struct GramTile {
  int ti, tj, row_tiles, column_tiles;
  __device__ GramTile(const SupconSizes& s, int tile)
      : row_tiles((s.vectors + kRows - 1) / kRows), column_tiles((s.vectors + kColumns - 1) / kColumns) {
    ti = tile / column_tiles;
    tj = tile - ti * column_tiles;
  }
  __device__ int row(int r) const { return ti + r * row_tiles; }
  __device__ int column(int k) const { return tj + k * column_tiles; }
};
__device__ inline void gram_tile(const SupconSizes& s, const f32* u, const GramTile& t, int q0, int q1,
                                 f32 (&acc)[kRows][kColumns]) {
  const f32 *rows = u + t.ti * s.u_pitch, *columns = u + t.tj * s.u_pitch;
  const int row_step = t.row_tiles * s.u_pitch, column_step = t.column_tiles * s.u_pitch;
  GPU_UNROLL
  for (int r = 0; r < kRows; ++r)
    GPU_UNROLL
    for (int k = 0; k < kColumns; ++k) acc[r][k] = 0;
  for (int q = q0; q < q1; ++q) {
    Quad right[kColumns];
    GPU_UNROLL
    for (int k = 0; k < kColumns; ++k) right[k] = quad_at(columns + k * column_step + q * 4);
    GPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const Quad left = quad_at(rows + r * row_step + q * 4);
      GPU_UNROLL
      for (int k = 0; k < kColumns; ++k)
        GPU_UNROLL
        for (int c = 0; c < 4; ++c) acc[r][k] += left.v[c] * right[k].v[c];
    }
  }
}
// Writes, or adds to, the tile's entries of a matrix.
__device__ inline void put_tile(const SupconSizes& s, const GramTile& t, const f32 (&acc)[kRows][kColumns], f32* to,
                                bool add) {
  GPU_UNROLL
  for (int r = 0; r < kRows; ++r)
    GPU_UNROLL
    for (int k = 0; k < kColumns; ++k) {
      if (t.row(r) >= s.vectors || t.column(k) >= s.vectors) continue;
      f32& o = to[static_cast<i64>(t.row(r)) * s.g_pitch + t.column(k)];
      o = add ? o + acc[r][k] : acc[r][k];
    }
}
// Similarities into gram; with slices of channels gram + grad is their sum.
__device__ inline void similarities(const SupconArgs& a, const SupconBlock& b) {
  const SupconSizes& s = a.s;
  const int tiles = (s.vectors + kRows - 1) / kRows * ((s.vectors + kColumns - 1) / kColumns);
  f32 acc[kRows][kColumns];
  if (s.slices == 1) {
    for (int id = threadIdx.x; id < tiles; id += blockDim.x) {
      const GramTile t(s, id);
      gram_tile(s, b.u, t, 0, s.quads, acc);
      put_tile(s, t, acc, b.gram, false);
    }
    __syncthreads();
    return;
  }
  const int slice = static_cast<int>(threadIdx.x) / tiles, each = (s.quads + s.slices - 1) / s.slices;
  const GramTile t(s, static_cast<int>(threadIdx.x) - slice * tiles);
  f32* to = slice % 2 == 0 ? b.gram : b.grad;
  if (slice < s.slices) gram_tile(s, b.u, t, slice * each, min(slice * each + each, s.quads), acc);
  if (slice < 2) put_tile(s, t, acc, to, false);
  __syncthreads();
  if (slice >= 2 && slice < s.slices) put_tile(s, t, acc, to, true);
  __syncthreads();
}

// A warp a row: its loss and cosine; where gradients are wanted, row i of grad becomes d loss_i / d (u_i · u_j) · τ.
__device__ inline void loss_rows(const SupconArgs& a, const SupconBlock& b) {
  const SupconSizes& s = a.s;
  const f32 inverse_tau = static_cast<f32>(1 / a.tau);
  for (int i = b.warp; i < s.vectors; i += b.warps) {
    f32 *g = b.gram + static_cast<i64>(i) * s.g_pitch, *e = b.grad + static_cast<i64>(i) * s.g_pitch;
    f32 all = 0, near = 0, top = -3.0e38f;
    int count = 0;
    for (int j = b.lane; j < s.vectors; j += kWarp) {
      const f32 v = s.slices > 1 ? g[j] + e[j] : g[j];
      g[j] = v;
      if (j == i) continue;
      all += v;
      top = v > top ? v : top;
      if (b.positive(a, i, j)) {
        near += v;
        ++count;
      }
    }
    top = warp_max(top);
    all = warp_sum(all);
    near = warp_sum(near);
    count = warp_sum(count);
    f32 sum = 0;
    for (int j = b.lane; j < s.vectors; j += kWarp) {
      const f32 v = j == i ? 0.0f : expf((g[j] - top) * inverse_tau);
      e[j] = v;
      sum += v;
    }
    sum = warp_sum(sum);
    const f32 inverse_sum = 1.0f / sum, less = 1.0f / static_cast<f32>(count);
    if (a.gradient)
      for (int j = b.lane; j < s.vectors; j += kWarp)
        e[j] = j == i ? 0.0f : e[j] * inverse_sum - (b.positive(a, i, j) ? less : 0.0f);
    if (b.lane == 0) {
      // log-sum-exp less the mean positive logit, both relative to the maximum.
      b.row_loss[i] = log(static_cast<f64>(sum)) +
                      (static_cast<f64>(top) - static_cast<f64>(near) / static_cast<f64>(count)) / a.tau;
      b.row_cosine[i] = all;
    }
  }
  __syncthreads();
}
// gram becomes H = G + Gᵀ (l_ij and l_ji are one number); dot_i = Σ_j H_ij (u_i · u_j).
__device__ inline void symmetrise(const SupconArgs& a, const SupconBlock& b) {
  const SupconSizes& s = a.s;
  for (int i = b.warp; i < s.vectors; i += b.warps) {
    f32* g = b.gram + static_cast<i64>(i) * s.g_pitch;
    f32 dot = 0;
    for (int j = b.lane; j < s.vectors; j += kWarp) {
      const f32 h = b.grad[static_cast<i64>(i) * s.g_pitch + j] + b.grad[static_cast<i64>(j) * s.g_pitch + i];
      dot += h * g[j];
      g[j] = h;
    }
    dot = warp_sum(dot);
    if (b.lane == 0) b.dot[i] = dot;
  }
  __syncthreads();
}
// du = H u, eight vectors by four channels a thread, and dz = (du − (du·u) u) / |z|.
__device__ inline void gradients(const SupconArgs& a, const SupconBlock& b, i64 position) {
  const SupconSizes& s = a.s;
  const f64 factor = *a.dloss * a.scale / a.tau / (static_cast<f64>(s.vectors) * static_cast<f64>(s.positions));
  const int items = (s.vectors + kRows - 1) / kRows * s.quads;
  for (int id = threadIdx.x; id < items; id += blockDim.x) {
    const int i0 = id / s.quads * kRows, q = id - id / s.quads * s.quads;
    f32 acc[kRows][4];
    GPU_UNROLL
    for (int r = 0; r < kRows; ++r)
      for (int k = 0; k < 4; ++k) acc[r][k] = 0;
    const f32 *h = b.gram + i0, *u = b.u + q * 4;
    for (int j = 0; j < s.vectors; ++j) {
      const Quad low = quad_at(h + j * s.g_pitch), high = quad_at(h + j * s.g_pitch + 4);
      const Quad right = quad_at(u + j * s.u_pitch);
      GPU_UNROLL
      for (int r = 0; r < kRows; ++r)
        GPU_UNROLL
        for (int k = 0; k < 4; ++k) acc[r][k] += (r < 4 ? low.v[r & 3] : high.v[r & 3]) * right.v[k];
    }
    GPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int i = i0 + r;
      if (i >= s.vectors) continue;
      const f32 inverse = b.inverse[i], along = inverse < 0 ? 0.0f : b.dot[i];
      const f32 size = static_cast<f32>(fabs(static_cast<f64>(inverse)) * factor);
      const Quad own = quad_at(u + static_cast<i64>(i) * s.u_pitch);
      f32* to = vector_at(a, a.dz, i, position) + q * 4;
      Quad out;
      for (int k = 0; k < 4; ++k) out.v[k] = (acc[r][k] - own.v[k] * along) * size;
      if (a.wide) {
        if (a.add) {
          const Quad before = quad_at(to);
          for (int k = 0; k < 4; ++k) out.v[k] += before.v[k];
        }
        *reinterpret_cast<Quad*>(to) = out;
      } else {
        for (int k = 0; k < 4 && q * 4 + k < s.channels; ++k) to[k] = a.add ? to[k] + out.v[k] : out.v[k];
      }
    }
  }
}

template <bool InShared, int Threads>
__global__ void __launch_bounds__(Threads, Threads == 128 ? 4 : 2) supcon_positions_kernel(SupconArgs a) {
  GPU_DYN_SHARED(u8, shared);
  f32* scratch = InShared ? reinterpret_cast<f32*>(shared + a.s.small)
                          : a.scratch + static_cast<i64>(blockIdx.x) * (a.s.scratch / 4);
  const SupconBlock b(a, shared, scratch);
  find_positives(a, b);
  for (i64 position = blockIdx.x; position < a.s.positions; position += gridDim.x) {
    normalise(a, b, position);
    __syncthreads();
    similarities(a, b);
    loss_rows(a, b);
    if (b.warp == 0) {
      f64 loss = 0, cosine = 0;
      for (int i = b.lane; i < a.s.vectors; i += kWarp) {
        loss += b.row_loss[i];
        cosine += b.row_cosine[i];
      }
      loss = warp_sum(loss);
      cosine = warp_sum(cosine);
      if (b.lane == 0) {
        a.partial[2 * position] = loss * a.scale / static_cast<f64>(a.s.vectors);
        a.partial[2 * position + 1] = cosine / (static_cast<f64>(a.s.vectors) * static_cast<f64>(a.s.vectors - 1));
      }
    }
    if (a.gradient) {
      symmetrise(a, b);
      gradients(a, b, position);
    }
    __syncthreads();
  }
}
__global__ void supcon_combine_kernel(const f64* partial, i64 positions, f64* loss, f64* cosine) {
  GPU_SHARED(f64, scratch, kWarp);
  f64 l = 0, c = 0;
  for (i64 k = threadIdx.x; k < positions; k += blockDim.x) {
    l += partial[2 * k];
    c += partial[2 * k + 1];
  }
  l = block_sum(l, scratch);
  c = block_sum(c, scratch);
  if (threadIdx.x != 0) return;
  *loss = l / static_cast<f64>(positions);
  *cosine = c / static_cast<f64>(positions);
}

__global__ void supcon_refuse_kernel(u32* fault, i32 instruction) { set_fault(fault, instruction, kBadShape); }

void launch_supcon(const Args& a, const Launch& l, const SupconPlaces& p) {
  using T = SupconFwd;
  if (a.t[T::z1].s[4] > kMostChannels) {
    launch({dim3(1), dim3(1), 0, l.stream}, supcon_refuse_kernel, l.fault, l.instruction);
    return;
  }
  const auto& attrs = attrs_of<SupconAttrs>(a);
  SupconArgs k;
  k.s = supcon_sizes(a.t[T::z1]);
  k.z[0] = view(a, T::z1);
  k.z[1] = view(a, T::z2);
  k.dz[0] = view(a, p.dz1);
  k.dz[1] = view(a, p.dz2);
  k.pos = pointer<f64>(a, T::pos);
  k.gradient = p.dz1 >= 0;
  k.dloss = k.gradient ? pointer<f64>(a, p.dloss) : nullptr;
  k.partial = pointer<f64>(a, p.ws);
  k.tau = attrs.tau;
  k.scale = attrs.scale;
  k.threshold[0] = attrs.threshold0;
  k.threshold[1] = attrs.threshold1;
  k.threshold[2] = attrs.threshold2;
  k.scratch = reinterpret_cast<f32*>(pointer<u8>(a, p.ws) + supcon_head(k.s));
  k.axes = static_cast<int>(a.t[T::pos].s[1]);
  k.add = attrs.accumulate != 0;
  k.wide = pack_width(a, k.s.channels, 0, 1, p.dz1, p.dz2) == 4;
  const i64 shared = k.s.small + (k.s.in_shared ? k.s.scratch : 0);
  launch({dim3(static_cast<unsigned>(k.s.blocks)), dim3(k.s.threads), shared, l.stream},
         k.s.threads == 128 ? (k.s.in_shared ? supcon_positions_kernel<true, 128> : supcon_positions_kernel<false, 128>)
                            : (k.s.in_shared ? supcon_positions_kernel<true, 256> : supcon_positions_kernel<false, 256>),
         k);
  if (p.loss >= 0)
    launch({dim3(1), dim3(512), 0, l.stream}, supcon_combine_kernel, k.partial, k.s.positions, pointer<f64>(a, p.loss),
           pointer<f64>(a, p.cosine));
}
void launch_supcon_fwd(const Args& a, const Launch& l) { launch_supcon(a, l, kSupconFwd); }
void launch_supcon_bwd(const Args& a, const Launch& l) { launch_supcon(a, l, kSupconBwd); }
void launch_supcon_fwdbwd(const Args& a, const Launch& l) { launch_supcon(a, l, kSupconFwdBwd); }

}  // namespace

extern const GpuKernel supcon_gpu[] = {MACL_GPU_KERNEL(supcon_fwd, SupconAttrs, launch_supcon_fwd, supcon_bytes),
                                       MACL_GPU_KERNEL(supcon_bwd, SupconAttrs, launch_supcon_bwd, supcon_bytes),
                                       MACL_GPU_KERNEL(supcon_fwdbwd, SupconAttrs, launch_supcon_fwdbwd, supcon_bytes),
                                       {}};

}  // namespace gpu
}  // namespace macl
