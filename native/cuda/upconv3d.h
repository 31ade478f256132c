// The shape of an upconv3d on the device. A 1×1×1 convolution of stride 1 is the case of one tap.
#pragma once
#include "../ops/upconv3d.h"
#include "conv3d.h"

namespace macl {
namespace gpu {
namespace {

struct UpShape {
  i64 n, d, h, w, i;  // x
  i64 o;
  i64 sd, sh, sw;
};

inline UpShape up_shape(const Tensor& x, const Tensor& y, const Upconv3dAttrs& a) {
  return {x.s[0], x.s[1], x.s[2], x.s[3], x.s[4], y.s[4], a.sd, a.sh, a.sw};
}
inline i64 up_taps(const UpShape& s) { return s.sd * s.sh * s.sw; }
inline i64 up_voxels(const UpShape& s) { return s.n * s.d * s.h * s.w; }

// y's voxel of x's voxel v and a tap.
__device__ inline i64 up_voxel(const UpShape& s, i64 v, i64 tap) {
  const i64 w = v % s.w, h = v / s.w % s.h, d = v / s.w / s.h % s.d, n = v / s.w / s.h / s.d;
  const i64 c = tap % s.sw, b = tap / s.sw % s.sh, a = tap / s.sw / s.sh;
  return ((n * s.d * s.sd + d * s.sd + a) * s.h * s.sh + h * s.sh + b) * s.w * s.sw + w * s.sw + c;
}

}  // namespace
}  // namespace gpu
}  // namespace macl
