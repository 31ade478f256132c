// Small pieces of arithmetic.
// add: y = a + b (y may be a or b). copy: y = x, or y += x where accumulate = 1; either may be a channel slice.
// concat: y = [a, b] along the channels. fill: every element of y = value.
// wsum: total = Σ_i w_i · s_i over up to four float64 scalars. scale: y = factor · x on float64 scalars.
#pragma once
#include "types.h"

namespace macl {

#define ADD_ATTRS(X) X(i64, unused)
MACL_ATTRS(AddAttrs, ADD_ATTRS)
constexpr const char add_fwd_tensors[] = "a b > y";

#define COPY_ATTRS(X) X(i64, accumulate)
MACL_ATTRS(CopyAttrs, COPY_ATTRS)
constexpr const char copy_fwd_tensors[] = "x > y";

#define CONCAT_ATTRS(X) X(i64, unused)
MACL_ATTRS(ConcatAttrs, CONCAT_ATTRS)
constexpr const char concat_fwd_tensors[] = "a b > y";
constexpr const char concat_bwd_tensors[] = "dy > da db";

#define FILL_ATTRS(X) X(f64, value)
MACL_ATTRS(FillAttrs, FILL_ATTRS)
constexpr const char fill_fwd_tensors[] = "> y";

#define WSUM_ATTRS(X) X(f64, w0) X(f64, w1) X(f64, w2) X(f64, w3)
MACL_ATTRS(WsumAttrs, WSUM_ATTRS)
constexpr const char wsum_fwd_tensors[] = "s0 s1? s2? s3? > total";

#define SCALE_ATTRS(X) X(f64, factor)
MACL_ATTRS(ScaleAttrs, SCALE_ATTRS)
constexpr const char scale_fwd_tensors[] = "x > y";

}  // namespace macl
