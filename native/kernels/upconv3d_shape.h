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
  for (i64 v : s) MACL_NEED(v == 1 || v == 2, kBadAttr);
  MACL_NEED(is_grid(x) && is_grid(y) && x.s[0] == y.s[0], kBadShape);
  for (int i = 0; i < 3; ++i) MACL_NEED(y.s[i + 1] % s[i] == 0 && y.s[i + 1] / s[i] == x.s[i + 1], kBadShape);
  return kOk;
}

inline i32 upconv3d_fwd_check(const Args& a) {
  using T = Upconv3dFwd;
  const auto& at = attrs<Upconv3dAttrs>(a);
  const Tensor &x = a.t[T::x], &y = a.t[T::y];
  MACL_NEED(are_alike(a, T::x, T::y) && are_real(a, T::b), kBadDType);
  MACL_NEED_OK(upconv3d_check(x, y, at));
  MACL_NEED(holds(a.t[T::wp], conv3d_pack_count(y.s[4], x.s[4], at.sd * at.sh * at.sw) * i64(sizeof(real))), kBadShape);
  MACL_NEED(is_channel_vector_or_absent(a.t[T::b], y.s[4]), kBadShape);
  return kOk;
}

inline i32 upconv3d_bwd_x_check(const Args& a) {
  using T = Upconv3dBwdX;
  const auto& at = attrs<Upconv3dAttrs>(a);
  const Tensor &dy = a.t[T::dy], &dx = a.t[T::dx];
  MACL_NEED(are_alike(a, T::dy, T::dx), kBadDType);
  MACL_NEED_OK(upconv3d_check(dx, dy, at));
  MACL_NEED(holds(a.t[T::wp], conv3d_pack_count(dx.s[4], dy.s[4], at.sd * at.sh * at.sw) * i64(sizeof(real))), kBadShape);
  return kOk;
}

inline i32 upconv3d_bwd_w_check(const Args& a) {
  using T = Upconv3dBwdW;
  const auto& at = attrs<Upconv3dAttrs>(a);
  const Tensor &x = a.t[T::x], &dy = a.t[T::dy];
  MACL_NEED(are_alike(a, T::x, T::dy) && are_real(a, T::dw, T::db), kBadDType);
  MACL_NEED(has_shape(a.t[T::dw], x.s[4], dy.s[4], at.sd, at.sh, at.sw), kBadShape);
  MACL_NEED(is_channel_vector_or_absent(a.t[T::db], dy.s[4]), kBadShape);
  return upconv3d_check(x, dy, at);
}

// upconv3d_pack: w [I, O, sD, sH, sW] → wp. One task a block of 16 outputs of the reader. Writes.
inline i64 upconv3d_pack_out(const Args& a) { return a.t[Upconv3dPack::w].s[attrs<Upconv3dPackAttrs>(a).mode == 0 ? 1 : 0]; }

inline i64 upconv3d_pack_tasks(const Args& a, i32) { return cdiv(upconv3d_pack_out(a), kPackLanes); }

inline i64 upconv3d_pack_bytes(const Args& a, i32) {
  using T = Upconv3dPack;
  return cdiv(upconv3d_pack_out(a), kPackLanes) * kPackLanes * (elements(a.t[T::w]) / upconv3d_pack_out(a)) *
         i64(sizeof(real));
}

inline i32 upconv3d_pack_check(const Args& a) {
  using T = Upconv3dPack;
  MACL_NEED(attrs<Upconv3dPackAttrs>(a).variant == 0, kBadAttr);
  MACL_NEED(are_real(a, T::w) && is_element(attrs<Upconv3dPackAttrs>(a).dtype), kBadDType);
  MACL_NEED(is_grid(a.t[T::w]) && holds(a.t[T::wp], upconv3d_pack_bytes(a, T::wp)), kBadShape);
  return kOk;
}

template <bool Pairs = false>
inline i32 upconv3d_pack_blocks(const Args& a, i64 begin, i64 end) {
  using T = Upconv3dPack;
  const Tensor& tw = a.t[T::w];
  const i64 I = tw.s[0], O = tw.s[1], taps = tw.s[2] * tw.s[3] * tw.s[4];
  const bool fwd = attrs<Upconv3dPackAttrs>(a).mode == 0;
  const i64 dtype = attrs<Upconv3dPackAttrs>(a).dtype;
  const i64 out = fwd ? O : I, in = fwd ? I : O, blocks = cdiv(out, kPackLanes);
  const real* w = ptr<const real>(a, T::w);
  const i64 step = Pairs ? 2 : 1, inputs = cdiv(in, step);
  for (i64 b = begin; b < end; ++b)
    for (i64 t = 0; t < taps; ++t) {
      real* wp = ptr<real>(a, T::wp) + (fwd ? t * blocks + b : b * taps + t) * inputs * kPackLanes;
      for (i64 c = 0; c < in; c += step)
        for (i64 l = 0; l < kPackLanes; ++l, ++wp) {
          const i64 k = b * kPackLanes + l;
          const auto weight = [&](i64 input) {
            if (k >= out || input >= in) return real(0);
            const i64 i = fwd ? input : k, o = fwd ? k : input;
            return packed_weight(w[(i * O + o) * taps + t], dtype);
          };
          if constexpr (Pairs)
            *wp = packed_pair(weight(c), weight(c + 1));
          else
            *wp = weight(c);
        }
    }
  return kOk;
}
template <bool Pairs>
inline i32 upconv3d_pack_of(const Args& a, i32, i64 begin, i64 end) {
  const auto& at = attrs<Upconv3dPackAttrs>(a);
  if constexpr (Pairs)
    if (packs_pairs(a.t[Upconv3dPack::w].s[at.mode == 0 ? 0 : 1], at.dtype)) return upconv3d_pack_blocks<true>(a, begin, end);
  return upconv3d_pack_blocks(a, begin, end);
}
inline i32 upconv3d_pack_run(const Args& a, i32 phase, i64 begin, i64 end) {
  return upconv3d_pack_of<false>(a, phase, begin, end);
}

}  // namespace
}  // namespace macl
