// maxpool3d: kernel = stride s (1 or 2 an axis), output size floor(in / s); the gradient goes to the first maximum in
// scan order (PyTorch's choice); NaN propagates. Voxels outside every window get 0 (or nothing where accumulate = 1).
// avgpool: y[n,c] = mean over D, H, W; y is [N,1,1,1,C].
#pragma once
#include "types.h"

namespace macl {

#define MAXPOOL3D_ATTRS(X) X(i64, sd) X(i64, sh) X(i64, sw) X(i64, accumulate)
MACL_ATTRS(Maxpool3dAttrs, MAXPOOL3D_ATTRS)
constexpr const char maxpool3d_fwd_tensors[] = "x > y";
constexpr const char maxpool3d_bwd_tensors[] = "x dy > dx";

#define AVGPOOL_ATTRS(X) X(i64, accumulate)
MACL_ATTRS(AvgpoolAttrs, AVGPOOL_ATTRS)
constexpr const char avgpool_fwd_tensors[] = "x > y ws?";
constexpr const char avgpool_bwd_tensors[] = "dy > dx";

}  // namespace macl
