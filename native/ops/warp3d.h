// warp3d: y[n, d, h, w, c] = gain · sample(volume, A_n·(d, h, w, 1)) + bias + noise, from a volume in the store segment.
// desc [N, C, 40] float64 in the step's input (s = N,C,40,1,1), one descriptor a sample and channel:
//   0 base (byte offset in the store)   1–3 D,H,W   4–6 stride of d,h,w in elements   7 dtype (DType)
//   8 scale   9 offset (value = stored · scale + offset)   10–21 the 3×4 matrix A, row-major: output voxel (d,h,w,1) →
//   volume voxel   22 gain   23 bias   24 noise standard deviation   25 noise seed low 32 bits   26 high 32 bits
//   27 fill (the value of a voxel outside the volume)   28–39 reserved, 0
// interp: 0 nearest (round half up: floor(x + ½)), 1 linear, 2 cubic (Keys, a = −0.5). Every tap outside the volume
// contributes `fill`; gain, bias and noise apply to the interpolated value.
// Noise: counter-based Philox 4×32-10 with key (seed low, seed high), counter (voxel index n·D·H·W + …, c, 0, 0);
// standard deviation × (sum of the four words as uniforms in (0,1) − 2) · sqrt(3): no libm, so that all backends agree.
// Labels: interp 0, gain 1, bias 0, y int32, dtype u8. The kernel checks each descriptor against the store's bounds
// (kBadVolume): descriptors are the one address that changes from step to step.
#pragma once
#include "types.h"

namespace macl {

constexpr int kWarpWords = 40;

#define WARP3D_ATTRS(X) X(i64, interp)
MACL_ATTRS(Warp3dAttrs, WARP3D_ATTRS)
#define WARP3D_FWD_TENSORS(T, O, TO) T(desc) TO T(y)
MACL_TENSORS(Warp3dFwd, warp3d_fwd, WARP3D_FWD_TENSORS)

}  // namespace macl
