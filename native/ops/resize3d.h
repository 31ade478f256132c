// resize3d: trilinear, aligned corners: source coordinate = o · (in − 1) / (out − 1), 0 where out = 1. Sizes come from
// the tensors. An axis of equal sizes is not interpolated. bwd is the transpose (gathered, so the order is fixed).
#pragma once
#include "types.h"

namespace macl {

#define RESIZE3D_ATTRS(X) X(i64, accumulate)
MACL_ATTRS(Resize3dAttrs, RESIZE3D_ATTRS)
#define RESIZE3D_FWD_TENSORS(T, O, TO) T(x) TO T(y)
MACL_TENSORS(Resize3dFwd, resize3d_fwd, RESIZE3D_FWD_TENSORS)
#define RESIZE3D_BWD_TENSORS(T, O, TO) T(dy) TO T(dx)
MACL_TENSORS(Resize3dBwd, resize3d_bwd, RESIZE3D_BWD_TENSORS)

}  // namespace macl
