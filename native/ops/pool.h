// maxpool3d: kernel = stride s (1 or 2 an axis), output size floor(in / s); the gradient goes to the first maximum in
// scan order (PyTorch's choice); NaN propagates. Voxels outside every window get 0 (or nothing where accumulate = 1).
// avgpool: y[n,c] = mean over D, H, W; y is [N,1,1,1,C].
#pragma once
#include "types.h"

namespace macl {

#define MAXPOOL3D_ATTRS(X) X(i64, sd) X(i64, sh) X(i64, sw) X(i64, accumulate)
MACL_ATTRS(Maxpool3dAttrs, MAXPOOL3D_ATTRS)
#define MAXPOOL3D_FWD_TENSORS(T, O, TO) T(x) TO T(y)
MACL_TENSORS(Maxpool3dFwd, maxpool3d_fwd, MAXPOOL3D_FWD_TENSORS)
#define MAXPOOL3D_BWD_TENSORS(T, O, TO) T(x) T(dy) TO T(dx)
MACL_TENSORS(Maxpool3dBwd, maxpool3d_bwd, MAXPOOL3D_BWD_TENSORS)

#define AVGPOOL_ATTRS(X) X(i64, accumulate)
MACL_ATTRS(AvgpoolAttrs, AVGPOOL_ATTRS)
#define AVGPOOL_FWD_TENSORS(T, O, TO) T(x) TO T(y) O(ws)
MACL_TENSORS(AvgpoolFwd, avgpool_fwd, AVGPOOL_FWD_TENSORS)
#define AVGPOOL_BWD_TENSORS(T, O, TO) T(dy) TO T(dx)
MACL_TENSORS(AvgpoolBwd, avgpool_bwd, AVGPOOL_BWD_TENSORS)

}  // namespace macl
