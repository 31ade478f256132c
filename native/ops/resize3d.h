// resize3d: trilinear, aligned corners: source coordinate = o · (in − 1) / (out − 1), 0 where out = 1. Sizes come from
// the tensors. An axis of equal sizes is not interpolated. bwd is the transpose (gathered, so the order is fixed).
#pragma once
#include "types.h"

namespace macl {

#define RESIZE3D_ATTRS(X) X(i64, accumulate)
MACL_ATTRS(Resize3dAttrs, RESIZE3D_ATTRS)
constexpr const char resize3d_fwd_tensors[] = "x > y";
constexpr const char resize3d_bwd_tensors[] = "dy > dx";

}  // namespace macl
