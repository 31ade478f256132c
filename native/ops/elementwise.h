// Small pieces of arithmetic.
// add: y = a + b (y may be a or b). copy: y = x, or y += x where accumulate = 1; either may be a channel slice.
// concat: y = [a, b] along the channels. fill: every element of y = value.
// wsum: total = Σ_i w_i · s_i over up to four float64 scalars. scale: y = factor · x on float64 scalars.
// round: y = x rounded to the nearest number of the narrower dtype `dtype` (bf16, the only one so far), ties to even, held in
// x's own dtype; y may be x. Beyond half a step above its largest number it becomes infinite, below its smallest normal one it
// is rounded to its subnormal ones, and NaN stays NaN. A float64 number is rounded once, not by way of float32.
#pragma once
#include "types.h"

namespace macl {

#define ADD_ATTRS(X) X(i64, unused)
MACL_ATTRS(AddAttrs, ADD_ATTRS)
#define ADD_FWD_TENSORS(T, O, TO) T(a) T(b) TO T(y)
MACL_TENSORS(AddFwd, add_fwd, ADD_FWD_TENSORS)

#define COPY_ATTRS(X) X(i64, accumulate)
MACL_ATTRS(CopyAttrs, COPY_ATTRS)
#define COPY_FWD_TENSORS(T, O, TO) T(x) TO T(y)
MACL_TENSORS(CopyFwd, copy_fwd, COPY_FWD_TENSORS)

#define CONCAT_ATTRS(X) X(i64, unused)
MACL_ATTRS(ConcatAttrs, CONCAT_ATTRS)
#define CONCAT_FWD_TENSORS(T, O, TO) T(a) T(b) TO T(y)
MACL_TENSORS(ConcatFwd, concat_fwd, CONCAT_FWD_TENSORS)
#define CONCAT_BWD_TENSORS(T, O, TO) T(dy) TO T(da) T(db)
MACL_TENSORS(ConcatBwd, concat_bwd, CONCAT_BWD_TENSORS)

#define FILL_ATTRS(X) X(f64, value)
MACL_ATTRS(FillAttrs, FILL_ATTRS)
#define FILL_FWD_TENSORS(T, O, TO) TO T(y)
MACL_TENSORS(FillFwd, fill_fwd, FILL_FWD_TENSORS)

#define WSUM_ATTRS(X) X(f64, w0) X(f64, w1) X(f64, w2) X(f64, w3)
MACL_ATTRS(WsumAttrs, WSUM_ATTRS)
#define WSUM_FWD_TENSORS(T, O, TO) T(s0) O(s1) O(s2) O(s3) TO T(total)
MACL_TENSORS(WsumFwd, wsum_fwd, WSUM_FWD_TENSORS)

#define SCALE_ATTRS(X) X(f64, factor)
MACL_ATTRS(ScaleAttrs, SCALE_ATTRS)
#define SCALE_FWD_TENSORS(T, O, TO) T(x) TO T(y)
MACL_TENSORS(ScaleFwd, scale_fwd, SCALE_FWD_TENSORS)

#define ROUND_ATTRS(X) X(i64, dtype)
MACL_ATTRS(RoundAttrs, ROUND_ATTRS)
#define ROUND_FWD_TENSORS(T, O, TO) T(x) TO T(y)
MACL_TENSORS(RoundFwd, round_fwd, ROUND_FWD_TENSORS)

// The same for hosts and devices, on the bits of a float64 or float32 number. static: each instruction set has its own copy.
#if defined(__CUDACC__)
#define MACL_ROUND_PLACE __host__ __device__
#else
#define MACL_ROUND_PLACE
#endif
MACL_ROUND_PLACE static inline f32 round_bf16(f32 x) {
  u32 u;
  __builtin_memcpy(&u, &x, sizeof u);
  if ((u & 0x7fffffffu) > 0x7f800000u) return x;
  u = (u + 0x7fffu + ((u >> 16) & 1)) & 0xffff0000u;
  __builtin_memcpy(&x, &u, sizeof x);
  return x;
}
MACL_ROUND_PLACE static inline f64 round_bf16(f64 x) {
  u64 u;
  __builtin_memcpy(&u, &x, sizeof u);
  const u64 sign = u & (u64(1) << 63), size = u ^ sign;
  u64 r = size;
  if (size > (u64(2047) << 52)) return x;
  if (size >= (u64(1023 - 126) << 52)) {
    r = (size + (u64(1) << 44) - 1 + ((size >> 45) & 1)) & ~((u64(1) << 45) - 1);
    if (r >= (u64(1023 + 128) << 52)) r = u64(2047) << 52;
  } else {
    // Below 2^-126 all steps are 2^-133: the last place of numbers in [2^-81, 2^-80).
    const u64 anchor = (u64(1023 - 81) << 52) | (u64(1) << 51);
    f64 a, small;
    __builtin_memcpy(&a, &anchor, sizeof a);
    __builtin_memcpy(&small, &size, sizeof small);
    small = (small + a) - a;
    __builtin_memcpy(&r, &small, sizeof r);
  }
  r |= sign;
  __builtin_memcpy(&x, &r, sizeof x);
  return x;
}

}  // namespace macl
