// warp3d: y [N, D, H, W, C] sampled from volumes in the store segment through descriptors. Equation and descriptor:
// native/ops/warp3d.h. y may be a slice of channels; it is the element type or bf16, or
// (nearest only) int32.
//
// A task is a run of rows along W of one sample (about 1,024 voxels). Coordinates are float64: at 512 voxels fp32 would
// be off by 1e-5 of a voxel. Uniforms of the noise are (word + ½) / 2^32.
#pragma once
#include "../ops/warp3d.h"
#include "math.h"
#include "warp3d_sample.h"

namespace macl {
namespace {

inline bool is_whole(f64 x, f64 low, f64 high) {
  return x >= low && x <= high && static_cast<f64>(static_cast<i64>(x)) == x;
}
inline i64 stored_bytes(i64 dtype) { return dtype == kU8 ? 1 : (dtype == kF32 ? 4 : 2); }

// Reads and checks one descriptor; false where any number is out of bounds or the volume leaves the store.
inline bool read_descriptor(const f64* w, const Segment& store, WarpSource& s) {
  constexpr f64 kExact = 9007199254740992.0;  // 2^53
  if (!store.data || !is_whole(w[0], 0, kExact)) return false;
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
  const f64 bytes = static_cast<f64>(stored_bytes(s.dtype));
  if (!(w[0] + (last + 1) * bytes <= static_cast<f64>(store.bytes))) return false;
  for (int i = 8; i < 25; ++i)
    if (!finite64(w[i])) return false;
  if (!is_whole(w[25], 0, 4294967295.0) || !is_whole(w[26], 0, 4294967295.0) || !finite64(w[27])) return false;
  s.data = store.data + static_cast<i64>(w[0]);
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

// Noise of unit deviation for the voxels first, first + 1, … of channel c: a sum of four uniforms, so that no libm is
// in it.
inline void philox_noise(u32 key0, u32 key1, u64 first, u32 channel, i64 n, f64* out) {
  for (i64 i = 0; i < n; ++i) {
    u32 c0 = static_cast<u32>(first + static_cast<u64>(i)), c1 = channel, c2 = 0, c3 = 0, k0 = key0, k1 = key1;
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
    out[i] = ((words + 2.0) * 2.3283064365386962890625e-10 - 2.0) * 1.7320508075688772;
  }
}

inline i64 warp_rows(const Tensor& y) { return imax(1, 1024 / y.s[3]); }
inline i64 warp_tasks_of_sample(const Tensor& y) { return cdiv(y.s[1] * y.s[2], warp_rows(y)); }

inline i32 warp3d_fwd_check(const Args& a) {
  using T = Warp3dFwd;
  const Tensor &desc = a.t[T::desc], &y = a.t[T::y];
  const i64 interp = attrs<Warp3dAttrs>(a).interp;
  MACL_NEED(interp >= 0 && interp <= 2, kBadAttr);
  MACL_NEED(given(y) && (is_element(y.dtype) || (y.dtype == kI32 && interp == 0)), kBadDType);
  MACL_NEED(elements(y) > 0 && y.ld >= y.s[4], kBadShape);
  MACL_NEED(is_flat(desc, y.s[0] * y.s[4] * kWarpWords, kF64) ||
                (given(desc) && desc.dtype == kF64 && elements(desc) == y.s[0] * y.s[4] * kWarpWords),
            kBadShape);
  return kOk;
}
inline i64 warp3d_fwd_tasks(const Args& a, i32) { return a.t[Warp3dFwd::y].s[0] * warp_tasks_of_sample(a.t[Warp3dFwd::y]); }

inline void warp_put(i32* p, f64 v) {
  const f64 r = floor64(v + 0.5);
  *p = r > -2147483648.0 ? (r < 2147483647.0 ? static_cast<i32>(r) : 2147483647) : -2147483647 - 1;
}
template <class E>
inline void warp_put(E* p, f64 v) {
  *p = static_cast<real>(v);
}
// value → gain · value + bias + noise → n voxels of y, whose numbers are T.
template <class T>
inline void warp_finish(T* y, i64 ld, const WarpSource& s, const f64* values, i64 voxel, i64 c, i64 n) {
  f64 noise[kWarpRow];
  if (s.noise != 0) philox_noise(s.key[0], s.key[1], static_cast<u64>(voxel), static_cast<u32>(c), n, noise);
  for (i64 i = 0; i < n; ++i) {
    f64 v = s.gain * values[i] + s.bias;
    if (s.noise != 0) v += s.noise * noise[i];
    warp_put(y + (voxel + i) * ld + c, v);
  }
}

inline i32 warp3d_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  using T = Warp3dFwd;
  const Tensor& y = a.t[T::y];
  const i64 interp = attrs<Warp3dAttrs>(a).interp, per = warp_tasks_of_sample(y);
  for (i64 task = begin; task < end; ++task) {
    const i64 n = task / per, r0 = task % per * warp_rows(y), r1 = imin(r0 + warp_rows(y), y.s[1] * y.s[2]);
    for (i64 c = 0; c < y.s[4]; ++c) {
      WarpSource s;
      if (!read_descriptor(ptr<f64>(a, T::desc) + (n * y.s[4] + c) * kWarpWords, a.segments[kStore], s)) return kBadVolume;
      for (i64 r = r0; r < r1; ++r) {
        const f64 d = static_cast<f64>(r / y.s[2]), h = static_cast<f64>(r % y.s[2]);
        for (i64 w0 = 0; w0 < y.s[3]; w0 += kWarpRow) {
          const i64 count = imin(kWarpRow, y.s[3] - w0);
          f64 values[kWarpRow];
          warp_row(s, interp, d, h, w0, count, values);
          const auto finish = [&]<class N>(N) {
            warp_finish(ptr<N>(a, T::y), y.ld, s, values, (n * y.s[1] * y.s[2] + r) * y.s[3] + w0, c, count);
          };
          if (y.dtype == kI32)
            finish(i32{});
          else
            of_element(y, finish);
        }
      }
    }
  }
  return kOk;
}

#define WARP3D_KERNELS                                                                  \
  MACL_KERNEL(warp3d_fwd, Warp3dAttrs, 1, warp3d_fwd_tasks, nullptr, warp3d_fwd_check)

}  // namespace
}  // namespace macl
