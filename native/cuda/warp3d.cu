// warp3d: y [N, D, H, W, C] sampled from volumes in the store segment through descriptors. Equation and descriptor:
// native/ops/warp3d.h. A block has one descriptor, read and checked once, and a run of voxels. Coordinates are float64: at
// 512 voxels fp32 would be off by 1e-5 of a voxel. A descriptor that leaves the store is a fault, and its voxels are 0.
#include "../ops/warp3d.h"

#include "launch.h"
#include "rows.h"

namespace macl {
namespace gpu {
namespace {

constexpr int kThreads = 256;
constexpr i64 kBlockVoxels = kThreads * 8;

struct WarpSource {
  const u8* data;
  i64 size[3], stride[3];  // in voxels and in elements
  f64 scale, offset, affine[12], gain, bias, noise, fill;
  u32 key[2];
  i32 dtype;
  bool aligned;  // to its elements: a descriptor may begin at any byte
  bool good;
};

__device__ inline bool is_finite(f64 x) { return x - x == 0; }
__device__ inline bool is_whole(f64 x, f64 low, f64 high) {
  return x >= low && x <= high && static_cast<f64>(static_cast<i64>(x)) == x;
}
// False where any number is out of bounds or the volume leaves the store.
__device__ inline bool read_descriptor(const f64* w, const u8* store, i64 store_bytes, WarpSource& s) {
  constexpr f64 kExact = 9007199254740992.0;  // 2^53
  if (!store || !is_whole(w[0], 0, kExact)) return false;
  f64 last = 0;  // of the elements; inexact only where it is far beyond any store
  for (int i = 0; i < 3; ++i) {
    if (!is_whole(w[1 + i], 1, 1e9) || !is_whole(w[4 + i], 0, kExact)) return false;
    s.size[i] = static_cast<i64>(w[1 + i]);
    s.stride[i] = static_cast<i64>(w[4 + i]);
    last += (w[1 + i] - 1) * w[4 + i];
  }
  if (!is_whole(w[7], 0, 255)) return false;
  s.dtype = static_cast<i32>(w[7]);
  if (s.dtype != kU8 && s.dtype != kI16 && s.dtype != kF16 && s.dtype != kF32) return false;
  const i64 bytes = s.dtype == kU8 ? 1 : (s.dtype == kF32 ? 4 : 2);
  if (!(w[0] + (last + 1) * static_cast<f64>(bytes) <= static_cast<f64>(store_bytes))) return false;
  for (int i = 8; i < 25; ++i)
    if (!is_finite(w[i])) return false;
  if (!is_whole(w[25], 0, 4294967295.0) || !is_whole(w[26], 0, 4294967295.0) || !is_finite(w[27])) return false;
  s.data = store + static_cast<i64>(w[0]);
  s.aligned = reinterpret_cast<unsigned long long>(s.data) % bytes == 0;
  s.scale = w[8];
  s.offset = w[9];
  for (int i = 0; i < 12; ++i) s.affine[i] = w[10 + i];
  s.gain = w[22];
  s.bias = w[23];
  s.noise = w[24];
  s.key[0] = static_cast<u32>(static_cast<u64>(w[25]));
  s.key[1] = static_cast<u32>(static_cast<u64>(w[26]));
  s.fill = w[27];
  return true;
}

// ---- element types by how they lie in the store ----
// binary16 → fp32 by its bits: the exponent is moved by a multiplication, which makes subnormals right as well.
__device__ inline f32 half_value(u32 h) {
  const u32 magnitude = (h & 0x7fffu) << 13;
  u32 bits = __float_as_uint(__uint_as_float(magnitude) * 5.192296858534828e33f);  // 2^112
  if (magnitude >= 0x0f800000u) bits = magnitude | 0x7f800000u;                     // infinite, NaN
  return __uint_as_float(bits | (h & 0x8000u) << 16);
}
template <class T>
struct Stored {
  const u8* p;
  __device__ f32 value(i64 i) const { return static_cast<f32>(reinterpret_cast<const T*>(p)[i]); }
};
struct StoredHalf {
  const u8* p;
  __device__ f32 value(i64 i) const { return half_value(reinterpret_cast<const u16*>(p)[i]); }
};
// Any of them at any address, byte by byte: for the voxels at a volume's border and volumes that are not aligned.
struct StoredBytes {
  const u8* p;
  i32 dtype;
  __device__ f32 value(i64 i) const {
    if (dtype == kU8) return static_cast<f32>(p[i]);
    if (dtype == kF32) {
      const u8* b = p + 4 * i;
      return __uint_as_float(b[0] | b[1] << 8 | b[2] << 16 | static_cast<u32>(b[3]) << 24);
    }
    const u32 h = static_cast<u32>(p[2 * i] | p[2 * i + 1] << 8);
    return dtype == kF16 ? half_value(h) : static_cast<f32>(static_cast<i16>(h));
  }
};

// ---- sampling at x ----
template <int Taps>
struct AxisTaps {
  i64 at[Taps];
  f64 weight[Taps];
  bool ok[Taps];
};
template <int Taps>
__device__ inline f64 tap_weight(int k, f64 f) {
  if (Taps == 2) return k ? f : 1 - f;
  // Keys' cubic, a = −½: t is the tap's distance.
  const f64 t = k == 0 ? 1 + f : (k == 1 ? f : (k == 2 ? 1 - f : 2 - f));
  if (k == 1 || k == 2) return (1.5 * t - 2.5) * t * t + 1;
  return ((-0.5 * t + 2.5) * t - 4) * t + 2;
}
// False where all taps lie outside.
template <int Taps>
__device__ inline bool axis_taps(f64 x, i64 size, i64 stride, AxisTaps<Taps>& t) {
  constexpr int before = Taps / 2 - 1;
  if (!(x > -Taps && x < static_cast<f64>(size) + Taps)) return false;
  const f64 base = floor(x), f = x - base;
  const i64 first = static_cast<i64>(base) - before;
  bool any = false;
  for (int k = 0; k < Taps; ++k) {
    t.ok[k] = first + k >= 0 && first + k < size;
    t.at[k] = (first + k) * stride;
    t.weight[k] = tap_weight<Taps>(k, f);
    any = any || t.ok[k];
  }
  return any;
}
// Any position, tap by tap; `fill` where a tap lies outside.
template <int Taps>
__device__ inline f64 sample_taps(const WarpSource& s, const f64* x) {
  const StoredBytes stored{s.data, s.dtype};
  AxisTaps<Taps> d, h, w;
  if (!axis_taps<Taps>(x[0], s.size[0], s.stride[0], d) || !axis_taps<Taps>(x[1], s.size[1], s.stride[1], h) ||
      !axis_taps<Taps>(x[2], s.size[2], s.stride[2], w))
    return s.fill;
  f64 sum = 0;
  for (int i = 0; i < Taps; ++i) {
    if (d.weight[i] == 0) continue;
    for (int j = 0; j < Taps; ++j) {
      const f64 both = d.weight[i] * h.weight[j];
      if (both == 0) continue;
      const bool row = d.ok[i] && h.ok[j];
      f64 line = 0;
      for (int k = 0; k < Taps; ++k) {
        const f64 v = row && w.ok[k]
                          ? static_cast<f64>(stored.value(d.at[i] + h.at[j] + w.at[k])) * s.scale + s.offset
                          : s.fill;
        line += w.weight[k] * v;
      }
      sum += both * line;
    }
  }
  return sum;
}

// Where no tap can lie outside. The last voxel counts as inside for linear (weight 1 on the tap after the last but one),
// and so does an axis of one voxel (both taps the same).
template <int Interp>
__device__ inline bool is_inside(const WarpSource& s, const f64* x) {
  bool inside = s.aligned;
  for (int i = 0; i < 3; ++i) {
    const f64 size = static_cast<f64>(s.size[i]);
    if (Interp == 0) inside = inside && x[i] + 0.5 >= 0 && x[i] + 0.5 < size;
    if (Interp == 1) inside = inside && x[i] >= 0 && x[i] <= size - 1;
    if (Interp == 2) inside = inside && x[i] >= 1 && x[i] < size - 2;
  }
  return inside;
}
template <int Interp, class S>
__device__ inline f32 inside_value(const WarpSource& s, S stored, const f64* x) {
  i64 at = 0;
  if constexpr (Interp == 0) {
    for (int i = 0; i < 3; ++i) at += static_cast<i64>(x[i] + 0.5) * s.stride[i];
    return stored.value(at);
  } else if constexpr (Interp == 1) {
    i64 next[3];
    f32 f[3];
    for (int i = 0; i < 3; ++i) {
      const i64 last = s.size[i] > 2 ? s.size[i] - 2 : 0, whole = static_cast<i64>(x[i]);
      const i64 base = whole < last ? whole : last;
      f[i] = static_cast<f32>(x[i] - static_cast<f64>(base));
      next[i] = s.size[i] > 1 ? s.stride[i] : 0;
      at += base * s.stride[i];
    }
    f32 v[8];
    GPU_UNROLL
    for (int l = 0; l < 8; ++l)
      v[l] = stored.value(at + (l & 4 ? next[0] : 0) + (l & 2 ? next[1] : 0) + (l & 1 ? next[2] : 0));
    for (int l = 0; l < 8; l += 2) v[l] += (v[l + 1] - v[l]) * f[2];
    for (int l = 0; l < 8; l += 4) v[l] += (v[l + 2] - v[l]) * f[1];
    return v[0] + (v[4] - v[0]) * f[0];
  } else {
    f32 weight[3][4];
    for (int i = 0; i < 3; ++i) {
      const i64 base = static_cast<i64>(x[i]);
      at += (base - 1) * s.stride[i];
      for (int k = 0; k < 4; ++k) weight[i][k] = static_cast<f32>(tap_weight<4>(k, x[i] - static_cast<f64>(base)));
    }
    f32 sum = 0;
    GPU_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (weight[0][i] == 0) continue;  // a slice on a grid plane takes 16 taps
      GPU_UNROLL
      for (int j = 0; j < 4; ++j) {
        const i64 row = at + i * s.stride[0] + j * s.stride[1];
        f32 line = 0;
        for (int k = 0; k < 4; ++k) line += weight[2][k] * stored.value(row + k * s.stride[2]);
        sum += weight[0][i] * weight[1][j] * line;
      }
    }
    return sum;
  }
}
template <int Interp>
__device__ inline f64 sample(const WarpSource& s, const f64* x) {
  if (!is_inside<Interp>(s, x)) {
    if (Interp != 0) return sample_taps<Interp == 1 ? 2 : 4>(s, x);
    i64 at = 0;
    for (int i = 0; i < 3; ++i) {
      if (!(x[i] + 0.5 >= 0 && x[i] + 0.5 < static_cast<f64>(s.size[i]))) return s.fill;
      at += static_cast<i64>(x[i] + 0.5) * s.stride[i];
    }
    return static_cast<f64>(StoredBytes{s.data, s.dtype}.value(at)) * s.scale + s.offset;
  }
  f32 v;
  if (s.dtype == kU8)
    v = inside_value<Interp>(s, Stored<u8>{s.data}, x);
  else if (s.dtype == kI16)
    v = inside_value<Interp>(s, Stored<i16>{s.data}, x);
  else if (s.dtype == kF16)
    v = inside_value<Interp>(s, StoredHalf{s.data}, x);
  else
    v = inside_value<Interp>(s, Stored<f32>{s.data}, x);
  return static_cast<f64>(v) * s.scale + s.offset;
}

// Noise of unit deviation: a sum of four uniforms of Philox 4×32-10, so that no libm is in it.
__device__ inline f64 philox_noise(u32 k0, u32 k1, u32 voxel, u32 channel) {
  u32 c0 = voxel, c1 = channel, c2 = 0, c3 = 0;
    GPU_UNROLL
  for (int round = 0; round < 10; ++round) {
    const u64 p0 = static_cast<u64>(0xd2511f53u) * c0, p1 = static_cast<u64>(0xcd9e8d57u) * c2;
    const u32 n0 = static_cast<u32>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<u32>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<u32>(p1);
    c3 = static_cast<u32>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  // Whole numbers below 2^35: exact in any order.
  const f64 words = (static_cast<f64>(c0) + static_cast<f64>(c1)) + (static_cast<f64>(c2) + static_cast<f64>(c3));
  return ((words + 2.0) * 2.3283064365386962890625e-10 - 2.0) * 1.7320508075688772;
}
__device__ inline i32 rounded(f64 v) {
  const f64 r = floor(v + 0.5);
  return r > -2147483648.0 ? (r < 2147483647.0 ? static_cast<i32>(r) : 2147483647) : -2147483647 - 1;
}

struct WarpTarget {
  void* data;  // fp32 or (nearest only) int32
  i64 ld, channels;
  Grid3 grid;
  i64 per;     // voxels of a sample
  i64 blocks;  // of a sample's channel
  bool labels;
};
// blockIdx.x counts samples, channels, runs of voxels.
template <int Interp>
__global__ void warp3d_fwd_voxels_kernel(const f64* desc, const u8* store, i64 store_bytes, WarpTarget y, u32* fault,
                                         i32 instruction) {
  GPU_SHARED(f64, words, kWarpWords);
  GPU_SHARED(WarpSource, shared, 1);
  const i64 descriptor = quotient(blockIdx.x, y.blocks), n = quotient(descriptor, y.channels);
  const i64 c = descriptor - n * y.channels, first = (blockIdx.x - descriptor * y.blocks) * kBlockVoxels;
  if (threadIdx.x < kWarpWords) words[threadIdx.x] = desc[descriptor * kWarpWords + threadIdx.x];
  __syncthreads();
  if (threadIdx.x == 0) {
    shared->good = read_descriptor(words, store, store_bytes, *shared);
    if (!shared->good) set_fault(fault, instruction, kBadVolume);
  }
  __syncthreads();
  const WarpSource& s = *shared;
  for (i64 r = first + threadIdx.x; r < first + kBlockVoxels && r < y.per; r += kThreads) {
    f64 v = 0;
    const i64 voxel = n * y.per + r;
    if (s.good) {
      const Place3 p(r, y.grid);
      f64 x[3];
      for (int i = 0; i < 3; ++i) {
        const f64* m = s.affine + 4 * i;
        const f64 start = m[0] * static_cast<f64>(p.d) + m[1] * static_cast<f64>(p.h) + m[3];
        x[i] = start + m[2] * static_cast<f64>(p.w);
      }
      v = s.gain * sample<Interp>(s, x) + s.bias;
      if (s.noise != 0) v += s.noise * philox_noise(s.key[0], s.key[1], static_cast<u32>(voxel), static_cast<u32>(c));
    }
    const i64 at = voxel * y.ld + c;
    if (y.labels)
      static_cast<i32*>(y.data)[at] = rounded(v);
    else
      static_cast<f32*>(y.data)[at] = static_cast<f32>(v);
  }
}
void launch_warp3d(const Args& a, const Launch& l) {
  using T = Warp3dFwd;
  const Tensor& y = a.t[T::y];
  const i64 interp = attrs_of<Warp3dAttrs>(a).interp, per = y.s[1] * y.s[2] * y.s[3];
  const WarpTarget to{y.data, y.ld, y.s[4], grid_of(y), per, ceil_div(per, kBlockVoxels), y.dtype == kI32};
  const Segment& store = a.segments[kStore];
  launch({dim3(static_cast<unsigned>(y.s[0] * y.s[4] * to.blocks)), dim3(kThreads), 0, l.stream},
         interp == 0   ? warp3d_fwd_voxels_kernel<0>
         : interp == 1 ? warp3d_fwd_voxels_kernel<1>
                       : warp3d_fwd_voxels_kernel<2>,
         pointer<f64>(a, T::desc), store.data, store.bytes, to, l.fault, l.instruction);
}

}  // namespace

extern const GpuKernel warp3d_gpu[] = {MACL_GPU_KERNEL(warp3d_fwd, Warp3dAttrs, launch_warp3d, nullptr), {}};

}  // namespace gpu
}  // namespace macl
