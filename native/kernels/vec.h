// What one instruction set looks like to the kernels: the element type `real`, the vector type and its width. No
// standard headers (see native/ops/types.h).
#pragma once
#include "bf16.h"

#if defined(MACL_ISA_REF64)
#define MACL_PLAIN 1
#elif defined(MACL_ISA_PLAIN)
#define MACL_PLAIN 1
#else
#define MACL_PLAIN 0
#endif

// Loops over register tiles must be unrolled whole, or the tile lives in memory.
#if defined(__clang__)
#define MACL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define MACL_UNROLL _Pragma("GCC unroll 64")
#endif

// Before a loop of float64 sums that stays number by number: WebAssembly fuses multiplications and additions of vectors alone
// (relaxed SIMD), and with the loop's form its bits would change.
#if defined(__clang__)
#define MACL_NUMBER_BY_NUMBER _Pragma("clang loop vectorize(disable) interleave(disable)")
#else
#define MACL_NUMBER_BY_NUMBER
#endif

namespace macl {
namespace {

#if defined(MACL_ISA_REF64)
using real = f64;
constexpr DType kReal = kF64;
#else
using real = f32;
constexpr DType kReal = kF32;
#endif

#if defined(MACL_ISA_AVX512)
constexpr int kLanes = 16;
#elif defined(MACL_ISA_AVX2)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

// kLanes fp32 numbers in one register of this instruction set; unaligned loads and stores by memcpy.
typedef f32 vf __attribute__((vector_size(4 * kLanes)));
typedef f32 vf_unaligned __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

inline vf vload(const f32* p) { return *reinterpret_cast<const vf_unaligned*>(p); }
inline void vstore(f32* p, vf v) { *reinterpret_cast<vf_unaligned*>(p) = v; }
inline vf vsplat(f32 s) {
#if defined(__wasm__)
  return vf{s, s, s, s};
#else
  return s - vf{};  // `s − 0` becomes a broadcast; `0 + s` an addition
#endif
}

inline vf vload(const bf16* p) {
  vf v;
  bf16_load(p, v);
  return v;
}
inline void vstore(bf16* p, vf v) { bf16_store(p, v); }

// Sums of products: of numbers, or of pairs of bf16.
template <bool Pairs>
inline void multiply_add(vf& sum, vf x, vf w) {
#if defined(MACL_ISA_AVX512)
  if constexpr (Pairs)
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
  else
#endif
    sum += x * w;
}

// What memory of E holds of a vector.
template <class E>
inline vf vrounded(vf v) {
  if constexpr (sizeof(E) == sizeof(f32)) {
    return v;
  } else {
    return widened(narrowed(v));
  }
}

// The first `lanes` numbers alone, zeros beyond them.
template <class E>
inline vf vload_some(const E* p, i64 lanes) {
  if (lanes == kLanes) return vload(p);
  vf v{};
  for (i64 l = 0; l < lanes; ++l) v[l] = p[l];
  return v;
}
template <class E>
inline void vstore_some(E* p, vf v, i64 lanes) {
  if (lanes == kLanes) return vstore(p, v);
  for (i64 l = 0; l < lanes; ++l) p[l] = v[l];
}

inline i64 cdiv(i64 a, i64 b) { return (a + b - 1) / b; }
inline i64 imin(i64 a, i64 b) { return a < b ? a : b; }
inline i64 imax(i64 a, i64 b) { return a > b ? a : b; }
// Sizes of a program reach 2^47 each: a product of two may not fit, and then no memory is that large either.
inline i64 times(i64 a, i64 b) {
  i64 product;
  return __builtin_mul_overflow(a, b, &product) ? i64(1) << 62 : product;
}

template <class T>
inline T* ptr(const Args& a, int i) { return static_cast<T*>(a.t[i].data); }
template <class A>
inline const A& attrs(const Args& a) { return *static_cast<const A*>(a.attrs); }
inline i64 voxels(const Tensor& t) { return t.s[0] * t.s[1] * t.s[2] * t.s[3]; }
inline i64 elements(const Tensor& t) { return voxels(t) * t.s[4]; }

}  // namespace
}  // namespace macl
