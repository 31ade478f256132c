// upconv3d: transposed convolution with kernel = stride s (1 or 2 an axis):
// y[n, d·sd+a, h·sh+b, w·sw+c, o] = bias[o] + Σ_i x[n,d,h,w,i] · w[i,o,a,b,c];  w in PyTorch's layout [I, O, sD, sH, sW].
// wp as in conv3d.h: mode 0 for fwd, 1 for bwd_x. y may be a channel slice of a wider tensor (ld), and so may dy.
#pragma once
#include "types.h"

namespace macl {

#define UPCONV3D_PACK_ATTRS(X) X(i64, mode) X(i64, variant)
MACL_ATTRS(Upconv3dPackAttrs, UPCONV3D_PACK_ATTRS)
constexpr const char upconv3d_pack_tensors[] = "w > wp";

#define UPCONV3D_ATTRS(X) X(i64, sd) X(i64, sh) X(i64, sw) X(i64, accumulate)
MACL_ATTRS(Upconv3dAttrs, UPCONV3D_ATTRS)
constexpr const char upconv3d_fwd_tensors[] = "x wp b? > y ws?";
constexpr const char upconv3d_bwd_x_tensors[] = "dy wp > dx ws?";
constexpr const char upconv3d_bwd_w_tensors[] = "x dy > dw db? ws?";

}  // namespace macl
