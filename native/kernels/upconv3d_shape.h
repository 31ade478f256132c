// What the plain and the tuned upconv3d share: shapes, packing, checks. Equation: native/ops/upconv3d.h.
//
// Packed weights, S = sD·sH·sW taps: mode 0 (forward) [S][ceil(O/16)][I][16]; mode 1 (dx) [ceil(I/16)][S][O][16]; zeros
// in the lanes past the last channel.
#pragma once
#include "../ops/upconv3d.h"
#include "conv3d_shape.h"

namespace macl {
namespace {

struct UpShape {
  i64 n, d, h, w, i;  // x
  i64 o;
  i64 sd, sh, sw;
  i64 taps() const { return sd * sh * sw; }
  i64 rows() const { return n * d * h; }
  // Voxel of y that belongs to the first voxel of x's row and tap (a, b, 0); steps of sw from there.
  i64 y_row(i64 row, i64 a, i64 b) const {
    const i64 hh = row % h, dd = row / h % d, nn = row / h / d;
    return ((nn * d * sd + dd * sd + a) * h * sh + hh * sh + b) * w * sw;
  }
};

inline UpShape upconv3d_shape(const Tensor& x, const Tensor& y, const Upconv3dAttrs& a) {
  return {x.s[0], x.s[1], x.s[2], x.s[3], x.s[4], y.s[4], a.sd, a.sh, a.sw};
}

inline i32 upconv3d_check(const Tensor& x, const Tensor& y, const Upconv3dAttrs& a) {
  const i64 s[3] = {a.sd, a.sh, a.sw};
  for (i64 v : s)
    if (v != 1 && v != 2) return kBadAttr;
  if (!is_activation(x) || !is_activation(y) || x.s[0] != y.s[0]) return kBadShape;
  for (int i = 0; i < 3; ++i)
    if (y.s[i + 1] % s[i] != 0 || y.s[i + 1] / s[i] != x.s[i + 1]) return kBadShape;
  return kOk;
}

inline i32 upconv3d_fwd_check(const Args& a) {
  const auto& at = attrs<Upconv3dAttrs>(a);
  if (!all_real(a, 0, 0) || !all_real(a, 2, 3)) return kBadDType;
  const Tensor &x = a.t[0], &y = a.t[3];
  if (const i32 status = upconv3d_check(x, y, at)) return status;
  if (!is_opaque(a, 1, conv3d_pack_count(y.s[4], x.s[4], at.sd * at.sh * at.sw) * i64(sizeof(real)))) return kBadShape;
  return has_size(a, 2, y.s[4]) ? kOk : kBadShape;
}

inline i32 upconv3d_bwd_x_check(const Args& a) {
  const auto& at = attrs<Upconv3dAttrs>(a);
  if (!all_real(a, 0, 0) || !all_real(a, 2, 2)) return kBadDType;
  const Tensor &dy = a.t[0], &dx = a.t[2];
  if (const i32 status = upconv3d_check(dx, dy, at)) return status;
  const i64 packed = conv3d_pack_count(dx.s[4], dy.s[4], at.sd * at.sh * at.sw);
  return is_opaque(a, 1, packed * i64(sizeof(real))) ? kOk : kBadShape;
}

inline i32 upconv3d_bwd_w_check(const Args& a) {
  const auto& at = attrs<Upconv3dAttrs>(a);
  if (!all_real(a, 0, 3)) return kBadDType;
  const Tensor &x = a.t[0], &dy = a.t[1], &dw = a.t[2];
  if (dw.s[0] != x.s[4] || dw.s[1] != dy.s[4] || dw.s[2] != at.sd || dw.s[3] != at.sh || dw.s[4] != at.sw)
    return kBadShape;
  if (!has_size(a, 3, dy.s[4])) return kBadShape;
  return upconv3d_check(x, dy, at);
}

// upconv3d_pack: w [I, O, sD, sH, sW] → wp. One task a block of 16 outputs of the reader. Writes.
inline i64 upconv3d_pack_out(const Args& a) { return a.t[0].s[attrs<Upconv3dPackAttrs>(a).mode == 0 ? 1 : 0]; }

inline i64 upconv3d_pack_tasks(const Args& a, i32) { return cdiv(upconv3d_pack_out(a), kPackLanes); }

inline i64 upconv3d_pack_bytes(const Args& a, i32) {
  return cdiv(upconv3d_pack_out(a), kPackLanes) * kPackLanes * (elements(a.t[0]) / upconv3d_pack_out(a)) *
         i64(sizeof(real));
}

inline i32 upconv3d_pack_check(const Args& a) {
  if (attrs<Upconv3dPackAttrs>(a).variant != 0) return kBadAttr;
  if (a.t[0].dtype != kReal) return kBadDType;
  for (i64 s : a.t[0].s)
    if (s <= 0) return kBadShape;
  return is_opaque(a, 1, upconv3d_pack_bytes(a, 1)) ? kOk : kBadShape;
}

inline i32 upconv3d_pack_run(const Args& a, i32, i64 begin, i64 end) {
  const Tensor& tw = a.t[0];
  const i64 I = tw.s[0], O = tw.s[1], taps = tw.s[2] * tw.s[3] * tw.s[4];
  const bool fwd = attrs<Upconv3dPackAttrs>(a).mode == 0;
  const i64 out = fwd ? O : I, in = fwd ? I : O, blocks = cdiv(out, kPackLanes);
  const real* w = ptr<const real>(a, 0);
  for (i64 b = begin; b < end; ++b)
    for (i64 t = 0; t < taps; ++t) {
      real* wp = ptr<real>(a, 1) + (fwd ? t * blocks + b : b * taps + t) * in * kPackLanes;
      for (i64 c = 0; c < in; ++c)
        for (i64 l = 0; l < kPackLanes; ++l, ++wp) {
          const i64 k = b * kPackLanes + l, i = fwd ? c : k, o = fwd ? k : c;
          *wp = k < out ? w[(i * O + o) * taps + t] : 0;
        }
    }
  return kOk;
}

}  // namespace
}  // namespace macl
