// upconv3d: transposed convolution with kernel = stride s (1 or 2 an axis):
// y[n, d·sd+a, h·sh+b, w·sw+c, o] = bias[o] + Σ_i x[n,d,h,w,i] · w[i,o,a,b,c];  w in PyTorch's layout [I, O, sD, sH, sW].
// wp and dtype as in conv3d.h: mode 0 for fwd, 1 for bwd_x. y may be a channel slice of a wider tensor (ld), and so may dy.
#pragma once
#include "types.h"

namespace macl {

#define UPCONV3D_PACK_ATTRS(X) X(i64, mode) X(i64, variant) X(i64, dtype)
MACL_ATTRS(Upconv3dPackAttrs, UPCONV3D_PACK_ATTRS)
#define UPCONV3D_PACK_TENSORS(T, O, TO) T(w) TO T(wp)
MACL_TENSORS(Upconv3dPack, upconv3d_pack, UPCONV3D_PACK_TENSORS)

#define UPCONV3D_ATTRS(X) X(i64, sd) X(i64, sh) X(i64, sw) X(i64, accumulate)
MACL_ATTRS(Upconv3dAttrs, UPCONV3D_ATTRS)
#define UPCONV3D_FWD_TENSORS(T, O, TO) T(x) T(wp) O(b) TO T(y) O(ws)
MACL_TENSORS(Upconv3dFwd, upconv3d_fwd, UPCONV3D_FWD_TENSORS)
#define UPCONV3D_BWD_X_TENSORS(T, O, TO) T(dy) T(wp) TO T(dx) O(ws)
MACL_TENSORS(Upconv3dBwdX, upconv3d_bwd_x, UPCONV3D_BWD_X_TENSORS)
#define UPCONV3D_BWD_W_TENSORS(T, O, TO) T(x) T(dy) TO T(dw) O(db) O(ws)
MACL_TENSORS(Upconv3dBwdW, upconv3d_bwd_w, UPCONV3D_BWD_W_TENSORS)

}  // namespace macl
