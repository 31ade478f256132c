// Helpers of the kernels that are not convolutions: vectors of 16, 8, 4 or 1 numbers under one name, so that a kernel's
// body is written once; exp and log. Not an operation.
//
// Plain builds (fp32 or float64) use one-number "vectors" alone; that instantiation is the reference of the others.
#pragma once
#include "checks.h"

namespace macl {
namespace {

typedef i32 vi4 __attribute__((vector_size(16)));
typedef i32 vi8 __attribute__((vector_size(32)));
typedef i32 vi16 __attribute__((vector_size(64)));

template <class V>
struct Vec;
template <>
struct Vec<f64> {
  static constexpr int lanes = 1;
  typedef f64 unaligned;
  typedef i64 Int;
};
template <>
struct Vec<f32> {
  static constexpr int lanes = 1;
  typedef f32 unaligned;
  typedef i32 Int;
};
template <>
struct Vec<vf4> {
  static constexpr int lanes = 4;
  typedef f32 unaligned __attribute__((vector_size(16), aligned(4), may_alias));
  typedef vi4 Int;
};
template <>
struct Vec<vf8> {
  static constexpr int lanes = 8;
  typedef f32 unaligned __attribute__((vector_size(32), aligned(4), may_alias));
  typedef vi8 Int;
};
template <>
struct Vec<vf16> {
  static constexpr int lanes = 16;
  typedef f32 unaligned __attribute__((vector_size(64), aligned(4), may_alias));
  typedef vi16 Int;
};

#define MACL_INLINE inline __attribute__((always_inline))

template <class T>
constexpr bool is_bf16 = false;
template <>
constexpr bool is_bf16<bf16> = true;

// Of numbers in memory of any element type.
template <class V, class T>
MACL_INLINE V load(const T* p) {
  if constexpr (!is_bf16<T>)
    return *reinterpret_cast<const typename Vec<V>::unaligned*>(p);
  else if constexpr (Vec<V>::lanes == 1)
    return *p;
  else {
    V v;
    bf16_load(p, v);
    return v;
  }
}
template <class V, class T>
MACL_INLINE void store(T* p, V v) {
  if constexpr (!is_bf16<T>)
    *reinterpret_cast<typename Vec<V>::unaligned*>(p) = v;
  else if constexpr (Vec<V>::lanes == 1)
    *p = v;
  else
    bf16_store(p, v);
}
template <class V, class T>
MACL_INLINE V splat(T s) {
  if constexpr (Vec<V>::lanes == 1) {
    return static_cast<V>(s);
  } else {
    const f32 f = static_cast<f32>(s);
#if defined(__wasm__)
    return V{f, f, f, f};
#else
    return f - V{};
#endif
  }
}
template <class V>
MACL_INLINE f64 lane(V v, int l) {
  if constexpr (Vec<V>::lanes == 1) {
    (void)l;
    return v;
  } else {
    return v[l];
  }
}

// The sum of all lanes in float64, and the largest, as a tree: a chain would wait for each addition.
template <class V>
MACL_INLINE f64 sum_lanes(V v) {
  if constexpr (Vec<V>::lanes == 1) {
    return v;
  } else {
    f64 t[Vec<V>::lanes];
    for (int l = 0; l < Vec<V>::lanes; ++l) t[l] = v[l];
    for (int n = Vec<V>::lanes / 2; n > 0; n /= 2)
      for (int l = 0; l < n; ++l) t[l] += t[l + n];
    return t[0];
  }
}
template <class V>
MACL_INLINE f64 max_lanes(V v) {
  if constexpr (Vec<V>::lanes == 1) {
    return v;
  } else {
    f32 t[Vec<V>::lanes];
    for (int l = 0; l < Vec<V>::lanes; ++l) t[l] = v[l];
    for (int n = Vec<V>::lanes / 2; n > 0; n /= 2)
      for (int l = 0; l < n; ++l) t[l] = t[l + n] > t[l] ? t[l + n] : t[l];
    return t[0];
  }
}

// Calls f.operator()<V>(i) for i in 0…n−1 in steps of V's lanes: the widest vectors first, then narrower, then numbers.
template <class F>
MACL_INLINE void lanes(i64 n, F f) {
  i64 i = 0;
#if !MACL_PLAIN
  if constexpr (kLanes >= 16)
    for (; i + 16 <= n; i += 16) f.template operator()<vf16>(i);
  if constexpr (kLanes >= 8)
    for (; i + 8 <= n; i += 8) f.template operator()<vf8>(i);
  for (; i + 4 <= n; i += 4) f.template operator()<vf4>(i);
#endif
  for (; i < n; ++i) f.template operator()<real>(i);
}

// The loss functions' own vectors: kLanes voxels at a time (one in plain builds).
#if MACL_PLAIN
typedef real vr;
constexpr int kWide = 1;
#else
typedef vf vr;
constexpr int kWide = kLanes;
#endif

template <class V, class I>
MACL_INLINE V as_float(I i) {
  V v;
  __builtin_memcpy(&v, &i, sizeof v);
  return v;
}
template <class I, class V>
MACL_INLINE I as_int(V v) {
  I i;
  __builtin_memcpy(&i, &v, sizeof i);
  return i;
}

// exp, for fp32 vectors within 2 ulp over −87…88 and clamped outside; NaN stays NaN. Degree-6 polynomial on ±ln2/2.
template <class V>
MACL_INLINE V exp_fast(V x) {
  typedef typename Vec<V>::Int I;
  const V low = splat<V>(-87.3f), high = splat<V>(88.3f);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const V magic = splat<V>(12582912.0f);  // 1.5 · 2^23: adding it rounds to a whole number in the low bits
  const V t = x * 1.44269504088896341f + magic;
  const V n = t - magic;
  V r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const I shift = (as_int<I>(t) - 0x4b400000 + 127) << 23;
  return p * as_float<V>(shift);
}

// log of positive normal fp32 numbers, within 2 ulp.
template <class V>
MACL_INLINE V log_fast(V x) {
  typedef typename Vec<V>::Int I;
  const I bits = as_int<I>(x);
  // Mantissa into √½…√2.
  const I offset = bits - 0x3f3504f3;
  const I exponent = offset >> 23;
  const V m = as_float<V>(bits - (exponent << 23)) - 1.0f;
  V e;
  if constexpr (Vec<V>::lanes == 1)
    e = static_cast<V>(exponent);
  else
    e = __builtin_convertvector(exponent, V);
  V p = m * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const V z = m * m;
  V y = p * m * z;
  y = y + e * -2.12194440e-4f;
  y = y - z * 0.5f;
  return m + y + e * 0.693359375f;
}

template <class V>
MACL_INLINE V vexp(V x) {
#if MACL_PLAIN
  if constexpr (sizeof(real) == 8)
    return __builtin_exp(x);
  else
    return __builtin_expf(x);
#else
  return exp_fast(x);
#endif
}
template <class V>
MACL_INLINE V vlog(V x) {
#if MACL_PLAIN
  if constexpr (sizeof(real) == 8)
    return __builtin_log(x);
  else
    return __builtin_logf(x);
#else
  return log_fast(x);
#endif
}
template <class V>
MACL_INLINE V vmax(V a, V b) {
  return a > b ? a : b;
}
// Pooling's maximum so far: the first of equal ones stays, NaN is taken.
template <class V>
MACL_INLINE V pool_max(V best, V v) {
  const auto better = (v > best) | (v != v);
  return better ? v : best;
}

inline f64 fabs64(f64 x) { return x < 0 ? -x : x; }
inline bool finite64(f64 x) { return x - x == 0; }

// Voxels in one task of a kernel that walks over them: 16 KiB of fp32, so that a second pass finds them in cache, and
// at most 512, so that fp32 sums of a chunk stay good.
inline i64 voxel_chunk(i64 channels) { return imin(512, imax(1, 4096 / imax(1, channels))); }
inline i64 voxel_chunks(const Tensor& t) { return cdiv(voxels(t), voxel_chunk(t.s[4])); }

}  // namespace
}  // namespace macl
