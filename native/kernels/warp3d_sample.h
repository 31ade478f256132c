// Sampling one row of voxels from a stored volume: nearest, linear, cubic (Keys, a = −0.5); taps outside it are `fill`.
// Part of warp3d.h, which reads and checks descriptors and adds gain, bias and noise.
#pragma once
#include "math.h"

namespace macl {
namespace {

struct WarpSource {
  const u8* data;
  i64 size[3], stride[3];  // in voxels and in elements
  i32 dtype;
  f64 scale, offset, affine[12], gain, bias, noise, fill;
  u32 key[2];
};
constexpr i64 kWarpRow = 256;  // voxels sampled at a time

inline f64 floor64(f64 x) {
  if (!(x > -4e18 && x < 4e18)) return x;
  const f64 t = static_cast<f64>(static_cast<i64>(x));
  return t > x ? t - 1 : t;
}

// binary16 → fp32 by its bits: the exponent is moved by a multiplication, which makes subnormals right as well.
struct Half {
  u16 bits;
};
#if defined(__aarch64__)
MACL_INLINE f32 half_value(u16 h) { return static_cast<f32>(as_float<__fp16>(h)); }
#elif defined(__F16C__) && defined(__clang__)
MACL_INLINE f32 half_value(u16 h) { return static_cast<f32>(as_float<_Float16>(h)); }
#elif defined(__F16C__)
typedef i16 half8 __attribute__((vector_size(16)));
MACL_INLINE f32 half_value(u16 h) {
  return __builtin_ia32_vcvtph2ps(half8{static_cast<i16>(h), 0, 0, 0, 0, 0, 0, 0})[0];
}
#else
MACL_INLINE f32 half_value(u16 h) {
  const u32 magnitude = static_cast<u32>(h & 0x7fff) << 13;
  u32 bits = as_int<u32>(as_float<f32>(magnitude) * 5.192296858534828e33f);  // 2^112
  if (magnitude >= 0x0f800000u) bits = magnitude | 0x7f800000u;              // infinite, NaN
  return as_float<f32>(bits | static_cast<u32>(h & 0x8000) << 16);
}
#endif

// Element types by how they lie in the store, at any byte offset.
template <class T>
struct Stored {
  typedef T type __attribute__((aligned(1), may_alias));
  static MACL_INLINE real value(const u8* data, i64 i) {
    return static_cast<real>(reinterpret_cast<const type*>(data)[i]);
  }
};
template <>
struct Stored<Half> {
  typedef u16 type __attribute__((aligned(1), may_alias));
  static MACL_INLINE real value(const u8* data, i64 i) {
    return static_cast<real>(half_value(reinterpret_cast<const type*>(data)[i]));
  }
};

// The voxel's coordinates along a row: start + w · step.
struct WarpLine {
  f64 start[3], step[3];
};
inline WarpLine warp_line(const WarpSource& s, f64 d, f64 h) {
  WarpLine l;
  for (int i = 0; i < 3; ++i) {
    const f64* m = s.affine + 4 * i;
    l.start[i] = m[0] * d + m[1] * h + m[3];
    l.step[i] = m[2];
  }
  return l;
}

template <class T>
inline void nearest_row(const WarpSource& s, const WarpLine& l, i64 w0, i64 n, f64* out) {
  for (i64 k = 0; k < n; ++k) {
    const f64 w = static_cast<f64>(w0 + k);
    i64 at = 0;
    bool inside = true;
    for (int i = 0; i < 3; ++i) {
      const f64 x = l.start[i] + l.step[i] * w + 0.5;
      if (!(x >= 0 && x < static_cast<f64>(s.size[i]))) {
        inside = false;
        break;
      }
      at += static_cast<i64>(x) * s.stride[i];
    }
    out[k] = inside ? static_cast<f64>(Stored<T>::value(s.data, at)) * s.scale + s.offset : s.fill;
  }
}

// Taps of one axis with their weights; `fill` is taken where ok is false.
template <int Taps>
struct AxisTaps {
  i64 at[Taps];
  f64 weight[Taps];
  bool ok[Taps];
};
template <int Taps>
MACL_INLINE f64 tap_weight(int k, f64 f) {
  if constexpr (Taps == 2) {
    return k ? f : 1 - f;
  } else {
    // Keys' cubic, a = −½: t is the tap's distance.
    const f64 t = k == 0 ? 1 + f : (k == 1 ? f : (k == 2 ? 1 - f : 2 - f));
    if (k == 1 || k == 2) return (1.5 * t - 2.5) * t * t + 1;
    return ((-0.5 * t + 2.5) * t - 4) * t + 2;
  }
}
// False where all taps lie outside.
template <int Taps>
MACL_INLINE bool axis_taps(f64 x, i64 size, i64 stride, AxisTaps<Taps>& t) {
  constexpr int before = Taps / 2 - 1;
  if (!(x > -Taps && x < static_cast<f64>(size) + Taps)) return false;
  const f64 base = floor64(x), f = x - base;
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
// Any position, tap by tap.
template <class T, int Taps>
inline f64 sample_taps(const WarpSource& s, const f64* x) {
  AxisTaps<Taps> d, h, w;
  if (!axis_taps(x[0], s.size[0], s.stride[0], d) || !axis_taps(x[1], s.size[1], s.stride[1], h) ||
      !axis_taps(x[2], s.size[2], s.stride[2], w))
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
                          ? static_cast<f64>(Stored<T>::value(s.data, d.at[i] + h.at[j] + w.at[k])) * s.scale + s.offset
                          : s.fill;
        line += w.weight[k] * v;
      }
      sum += both * line;
    }
  }
  return sum;
}

// Where all 64 taps lie inside; a slice on a grid plane (weights 0, 1, 0, 0) takes 16.
template <class T>
inline f64 cubic_inside(const WarpSource& s, const f64* x) {
  i64 at = 0;
  real weight[3][4];
  for (int i = 0; i < 3; ++i) {
    const i64 base = static_cast<i64>(x[i]);
    at += (base - 1) * s.stride[i];
    for (int k = 0; k < 4; ++k) weight[i][k] = static_cast<real>(tap_weight<4>(k, x[i] - static_cast<f64>(base)));
  }
  real sum = 0;
  for (int i = 0; i < 4; ++i) {
    if (weight[0][i] == 0) continue;
    for (int j = 0; j < 4; ++j) {
      const i64 row = at + i * s.stride[0] + j * s.stride[1];
      real line = 0;
      for (int k = 0; k < 4; ++k) line += weight[2][k] * Stored<T>::value(s.data, row + k * s.stride[2]);
      sum += weight[0][i] * weight[1][j] * line;
    }
  }
  return static_cast<f64>(sum) * s.scale + s.offset;
}

template <class T>
inline void cubic_row(const WarpSource& s, const WarpLine& l, i64 w0, i64 n, f64* out) {
  for (i64 k = 0; k < n; ++k) {
    const f64 w = static_cast<f64>(w0 + k);
    const f64 x[3] = {l.start[0] + l.step[0] * w, l.start[1] + l.step[1] * w, l.start[2] + l.step[2] * w};
    bool inside = true;
    for (int i = 0; i < 3; ++i) inside = inside && x[i] >= 1 && x[i] < static_cast<f64>(s.size[i] - 2);
    out[k] = inside ? cubic_inside<T>(s, x) : sample_taps<T, 4>(s, x);
  }
}

// Linear: where all eight taps lie inside, without a test a tap. The last voxel counts as inside (weight 1 on the tap
// after the last but one), and so does an axis of one voxel (both taps the same).
template <class T>
inline void linear_row(const WarpSource& s, const WarpLine& l, i64 w0, i64 n, f64* out) {
  f64 top[3];
  i64 last[3], next[3];
  for (int i = 0; i < 3; ++i) {
    top[i] = static_cast<f64>(s.size[i] - 1);
    last[i] = imax(0, s.size[i] - 2);
    next[i] = s.size[i] > 1 ? s.stride[i] : 0;
  }
  for (i64 k = 0; k < n; ++k) {
    const f64 w = static_cast<f64>(w0 + k);
    const f64 x[3] = {l.start[0] + l.step[0] * w, l.start[1] + l.step[1] * w, l.start[2] + l.step[2] * w};
    const bool inside =
        (x[0] >= 0) & (x[0] <= top[0]) & (x[1] >= 0) & (x[1] <= top[1]) & (x[2] >= 0) & (x[2] <= top[2]);
    if (!inside) {
      out[k] = sample_taps<T, 2>(s, x);
      continue;
    }
    const i64 i0 = imin(static_cast<i64>(x[0]), last[0]), i1 = imin(static_cast<i64>(x[1]), last[1]);
    const i64 i2 = imin(static_cast<i64>(x[2]), last[2]);
    const real f0 = static_cast<real>(x[0] - static_cast<f64>(i0)), f1 = static_cast<real>(x[1] - static_cast<f64>(i1));
    const real f2 = static_cast<real>(x[2] - static_cast<f64>(i2));
    const i64 p = i0 * s.stride[0] + i1 * s.stride[1] + i2 * s.stride[2];
    const auto line = [&](i64 at) {
      const real v0 = Stored<T>::value(s.data, at), v1 = Stored<T>::value(s.data, at + next[2]);
      return v0 + (v1 - v0) * f2;
    };
    const real a0 = line(p), a1 = line(p + next[1]), b0 = line(p + next[0]), b1 = line(p + next[0] + next[1]);
    const real a = a0 + (a1 - a0) * f1, b = b0 + (b1 - b0) * f1;
    out[k] = static_cast<f64>(a + (b - a) * f0) * s.scale + s.offset;
  }
}

template <class T>
inline void warp_row_of(const WarpSource& s, i64 interp, const WarpLine& l, i64 w0, i64 n, f64* out) {
  if (interp == 0)
    nearest_row<T>(s, l, w0, n, out);
  else if (interp == 1)
    linear_row<T>(s, l, w0, n, out);
  else
    cubic_row<T>(s, l, w0, n, out);
}
// n values of the row (d, h) from w0 on, as stored · scale + offset.
inline void warp_row(const WarpSource& s, i64 interp, f64 d, f64 h, i64 w0, i64 n, f64* out) {
  const WarpLine l = warp_line(s, d, h);
  switch (s.dtype) {
    case kU8:
      return warp_row_of<u8>(s, interp, l, w0, n, out);
    case kI16:
      return warp_row_of<i16>(s, interp, l, w0, n, out);
    case kF16:
      return warp_row_of<Half>(s, interp, l, w0, n, out);
    default:
      return warp_row_of<f32>(s, interp, l, w0, n, out);
  }
}

}  // namespace
}  // namespace macl
