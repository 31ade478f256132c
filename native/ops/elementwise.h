// Small pieces of arithmetic.
// add: y = a + b (y may be a or b). copy: y = x, or y += x where accumulate = 1; either may be a channel slice.
// concat: y = [a, b] along the channels. fill: every element of y = value.
// wsum: total = Σ_i w_i · s_i over up to four float64 scalars. scale: y = factor · x on float64 scalars.
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

}  // namespace macl
