// conv3d: y[n,do,ho,wo,o] = b[o] + Σ_{kd,kh,kw,i} x[n, do·sd+kd−pd, ho·sh+kh−ph, wo·sw+kw−pw, i] · w[o,i,kd,kh,kw]
// Kernels are 1 or 3 an axis, strides 1 or 2, padding k/2 zeros; output size (in + 2p − k)/s + 1.
//
// w and dw are in PyTorch's layout [O, I, kD, kH, kW]. wp is an opaque packed copy made by conv3d_pack once a step:
// mode 0 for conv3d_fwd, mode 1 (taps flipped, I and O exchanged) for conv3d_bwd_x. The kernels agree on its layout
// among themselves (KernelSpec::bytes of conv3d_pack says its size). variant: the algorithm of the kernel that it is for, and of the kernel:
// 0 direct; 100·mD + 10·mH + mW Winograd's F(mD,3) × F(mH,3) × F(mW,3) (native/kernels/winograd.h), which not every backend has;
// others are refused. dtype: that of the activations which the weights are multiplied with; a backend packs them in it, rounded
// to nearest even, and refuses one that it has no kernels for.
#pragma once
#include "types.h"

namespace macl {

#define CONV3D_PACK_ATTRS(X) X(i64, mode) X(i64, sd) X(i64, sh) X(i64, sw) X(i64, variant) X(i64, dtype)
MACL_ATTRS(Conv3dPackAttrs, CONV3D_PACK_ATTRS)
#define CONV3D_PACK_TENSORS(T, O, TO) T(w) TO T(wp)
MACL_TENSORS(Conv3dPack, conv3d_pack, CONV3D_PACK_TENSORS)

// stats = 1: also the mean and population variance of y over N, D, H, W (per-tile mean and M2 combined in a fixed
// order, or float64 sums), for the BatchNorm that follows. act: 0 none, 1 leaky ReLU with `slope` applied to y
// (never together with stats).
// accumulate (backward kernels): 0 writes, 1 adds into what dx, dw, db hold.
#define CONV3D_ATTRS(X)                                                                                   \
  X(i64, kd) X(i64, kh) X(i64, kw) X(i64, sd) X(i64, sh) X(i64, sw) X(i64, stats) X(i64, act) X(f64, slope) \
  X(i64, accumulate) X(i64, variant)
MACL_ATTRS(Conv3dAttrs, CONV3D_ATTRS)
#define CONV3D_FWD_TENSORS(T, O, TO) T(x) T(wp) O(b) TO T(y) O(mean) O(var) O(ws)
MACL_TENSORS(Conv3dFwd, conv3d_fwd, CONV3D_FWD_TENSORS)
// dx's shape is the forward x's. ws? is for whoever needs it.
#define CONV3D_BWD_X_TENSORS(T, O, TO) T(dy) T(wp) TO T(dx) O(ws)
MACL_TENSORS(Conv3dBwdX, conv3d_bwd_x, CONV3D_BWD_X_TENSORS)
// db? [O] is the sum of dy. ws holds partial sums of fixed chunks.
#define CONV3D_BWD_W_TENSORS(T, O, TO) T(x) T(dy) TO T(dw) O(db) O(ws)
MACL_TENSORS(Conv3dBwdW, conv3d_bwd_w, CONV3D_BWD_W_TENSORS)

}  // namespace macl
