// What all convolution kernels (conv3d, upconv3d; plain and tuned) share: shapes, the packed layout of weights, and
// checks. No arithmetic on data here but the packing.
//
// Packed weights: [ceil(Out/16)][kD·kH][In][kW][16], zeros where Out is no multiple of 16; the same for every
// instruction set. Out, In are the outputs and inputs of the kernel that reads it: O, I in mode 0 (forward); I, O in
// mode 1 (dx), with the taps flipped, so that dx is the forward kernel over dy.
#pragma once
#include "../ops/conv3d.h"
#include "checks.h"
#include "winograd.h"

namespace macl {
namespace {

constexpr i64 kPackLanes = 16;

// A convolution as the forward kernel and dx see it: out[p] = Σ_k in[(p·stride + k − pad) / dilation] · wp[k], where
// only whole quotients inside the input count. Forward: dilation 1; dx: stride 1, dilation = the forward stride.
struct ConvShape {
  i64 n;
  i64 od, oh, ow, o;  // output
  i64 id, ih, iw, i;  // input
  i64 kd, kh, kw;
  i64 sd, sh, sw;
  i64 td, th, tw;  // dilation
  i64 rows() const { return n * od * oh; }
  i64 taps() const { return kd * kh * kw; }
};

inline ConvShape conv3d_fwd_shape(const Tensor& x, const Tensor& y, const Conv3dAttrs& a) {
  return {y.s[0], y.s[1], y.s[2], y.s[3], y.s[4], x.s[1], x.s[2], x.s[3], x.s[4],
          a.kd,   a.kh,   a.kw,   a.sd,   a.sh,   a.sw,   1,      1,      1};
}

inline ConvShape conv3d_bwd_x_shape(const Tensor& dy, const Tensor& dx, const Conv3dAttrs& a) {
  return {dx.s[0], dx.s[1], dx.s[2], dx.s[3], dx.s[4], dy.s[1], dy.s[2], dy.s[3], dy.s[4],
          a.kd,    a.kh,    a.kw,    1,       1,       1,       a.sd,    a.sh,    a.sw};
}

// Input coordinate of output p and tap k on one axis; −1 where it lies in the padding (or between dilated samples).
inline i64 conv3d_source(i64 p, i64 k, i64 kernel, i64 stride, i64 dilation, i64 size) {
  const i64 q = p * stride + k - kernel / 2;
  if (q < 0 || q % dilation != 0) return -1;
  return q / dilation < size ? q / dilation : -1;
}

// A 1×1×1 convolution with stride 1 is over voxels in any order: makes the rows of a good length. Returns the width of
// the last row, which may be shorter than the others.
inline i64 conv3d_flatten(ConvShape& s) {
  if (s.taps() != 1 || s.sd * s.sh * s.sw * s.td * s.th * s.tw != 1) return s.ow;
  const i64 count = s.rows() * s.ow;
  s.n = s.od = s.id = 1;
  s.ow = s.iw = imin(count, 240);
  s.oh = s.ih = cdiv(count, s.ow);
  return count - (s.oh - 1) * s.ow;
}

// Direct, or (where there are vectors) one of Winograd's variants for these kernels.
inline bool conv3d_variant_fits(i64 variant, i64 kd, i64 kh, i64 kw, i64 sd, i64 sh, i64 sw) {
  return variant == 0 || (!MACL_PLAIN && winograd_fits(variant, kd, kh, kw, sd, sh, sw));
}

// Elements of packed weights; at least 2^62 / 8 where there is no such number. `taps`: 1 to 216.
inline i64 conv3d_pack_count(i64 out, i64 in, i64 taps) {
  return imin(times(times(cdiv(out, kPackLanes) * kPackLanes, in), taps), i64(1) << 59);
}

// The same for a variant: Winograd's have P numbers for each K of the taps.
inline i64 conv3d_pack_count(i64 out, i64 in, i64 taps, i64 variant) {
  return conv3d_pack_count(out, in, variant == 0 ? taps : winograd_form(variant).numbers());
}

template <class T>
inline T* optional_ptr(const Args& a, int i) {
  return i < a.count ? static_cast<T*>(a.t[i].data) : nullptr;
}

inline i32 conv3d_check(const Tensor& x, const Tensor& y, const Conv3dAttrs& a) {
  const i64 k[3] = {a.kd, a.kh, a.kw}, s[3] = {a.sd, a.sh, a.sw};
  for (int i = 0; i < 3; ++i) MACL_NEED((k[i] == 1 || k[i] == 3) && (s[i] == 1 || s[i] == 2), kBadAttr);
  MACL_NEED(conv3d_variant_fits(a.variant, a.kd, a.kh, a.kw, a.sd, a.sh, a.sw), kBadAttr);
  MACL_NEED(is_grid(x) && is_grid(y) && x.s[0] == y.s[0], kBadShape);
  for (int i = 0; i < 3; ++i) MACL_NEED(y.s[i + 1] == (x.s[i + 1] - 1) / s[i] + 1, kBadShape);
  return kOk;
}

inline i32 conv3d_fwd_check(const Args& a) {
  using T = Conv3dFwd;
  const auto& at = attrs<Conv3dAttrs>(a);
  const Tensor &x = a.t[T::x], &y = a.t[T::y], &mean = a.t[T::mean], &var = a.t[T::var];
  MACL_NEED(are_alike(a, T::x, T::y) && are_real(a, T::b, T::mean, T::var), kBadDType);
  MACL_NEED(at.act == 0 || at.stats == 0, kBadAttr);
  MACL_NEED_OK(conv3d_check(x, y, at));
  MACL_NEED(holds(a.t[T::wp], conv3d_pack_count(y.s[4], x.s[4], at.kd * at.kh * at.kw, at.variant) * i64(sizeof(real))), kBadShape);
  MACL_NEED(is_channel_vector_or_absent(a.t[T::b], y.s[4]), kBadShape);
  MACL_NEED(is_channel_vector_or_absent(mean, y.s[4]) && is_channel_vector_or_absent(var, y.s[4]), kBadShape);
  MACL_NEED(at.stats == 0 || (given(mean) && given(var)), kBadShape);
  return kOk;
}

inline i32 conv3d_bwd_x_check(const Args& a) {
  using T = Conv3dBwdX;
  const auto& at = attrs<Conv3dAttrs>(a);
  const Tensor &dy = a.t[T::dy], &dx = a.t[T::dx];
  MACL_NEED(are_alike(a, T::dy, T::dx), kBadDType);
  MACL_NEED_OK(conv3d_check(dx, dy, at));
  MACL_NEED(holds(a.t[T::wp], conv3d_pack_count(dx.s[4], dy.s[4], at.kd * at.kh * at.kw, at.variant) * i64(sizeof(real))), kBadShape);
  return kOk;
}

inline i32 conv3d_bwd_w_check(const Args& a) {
  using T = Conv3dBwdW;
  const auto& at = attrs<Conv3dAttrs>(a);
  const Tensor &x = a.t[T::x], &dy = a.t[T::dy];
  MACL_NEED(are_alike(a, T::x, T::dy) && are_real(a, T::dw, T::db), kBadDType);
  MACL_NEED(has_shape(a.t[T::dw], dy.s[4], x.s[4], at.kd, at.kh, at.kw), kBadShape);
  MACL_NEED(is_channel_vector_or_absent(a.t[T::db], dy.s[4]), kBadShape);
  return conv3d_check(x, dy, at);
}

// conv3d_pack: w [O, I, kD, kH, kW] → wp. One task a block of 16 outputs. Writes.
inline i64 conv3d_pack_out(const Args& a) { return a.t[Conv3dPack::w].s[attrs<Conv3dPackAttrs>(a).mode == 0 ? 0 : 1]; }

inline i64 conv3d_pack_tasks(const Args& a, i32) { return cdiv(conv3d_pack_out(a), kPackLanes); }

inline i64 conv3d_pack_bytes(const Args& a, i32) {
  const Tensor& w = a.t[Conv3dPack::w];
  const i64 out = conv3d_pack_out(a), taps = w.s[2] * w.s[3] * w.s[4];
  return conv3d_pack_count(out, w.s[0] * w.s[1] / out, taps, attrs<Conv3dPackAttrs>(a).variant) * i64(sizeof(real));
}

inline i32 conv3d_pack_check(const Args& a) {
  using T = Conv3dPack;
  const auto& at = attrs<Conv3dPackAttrs>(a);
  const Tensor& w = a.t[T::w];
  MACL_NEED(conv3d_variant_fits(at.variant, w.s[2], w.s[3], w.s[4], at.sd, at.sh, at.sw), kBadAttr);
  MACL_NEED(are_real(a, T::w) && is_element(at.dtype), kBadDType);
  MACL_NEED(is_grid(w) && holds(a.t[T::wp], conv3d_pack_bytes(a, T::wp)), kBadShape);
  return kOk;
}

// A weight as it is multiplied: rounded where activations are bf16. Packed it is `real` in either.
inline real packed_weight(real w, i64 dtype) { return dtype == kBF16 ? real(bf16(f32(w))) : w; }

// Channels that a tile takes at once, over the channels that there are; weights are packed alike, [input / 2][kW][16][2] for pairs.
template <class E>
constexpr i64 packed_inputs(i64 in) { return is_dot<E> ? cdiv(in, 2) : in; }
// One channel has no partner.
inline bool packs_pairs(i64 in, i64 dtype) { return dtype == kBF16 && in > 1; }
// Two weights as one packed number.
inline f32 packed_pair(f32 first, f32 second) {
  const u32 bits = bf16(first).bits | u32(bf16(second).bits) << 16;
  f32 pair;
  __builtin_memcpy(&pair, &bits, sizeof pair);
  return pair;
}

template <bool Pairs = false>
inline i32 conv3d_pack_direct(const Args& a, i64 begin, i64 end) {
  using T = Conv3dPack;
  const Tensor& tw = a.t[T::w];
  const i64 mode = attrs<Conv3dPackAttrs>(a).mode, dtype = attrs<Conv3dPackAttrs>(a).dtype;
  const i64 I = tw.s[1], rows = tw.s[2] * tw.s[3], kw = tw.s[4], taps = rows * kw;
  const i64 out = tw.s[mode == 0 ? 0 : 1], in = tw.s[mode == 0 ? 1 : 0];
  const real* w = ptr<const real>(a, T::w);
  const auto weight = [&](i64 o, i64 i, i64 tap) {
    if (o >= out || i >= in) return real(0);
    const i64 at = mode == 0 ? (o * I + i) * taps + tap : (i * I + o) * taps + taps - 1 - tap;
    return packed_weight(w[at], dtype);
  };
  const i64 step = Pairs ? 2 : 1, inputs = cdiv(in, step);
  real* wp = ptr<real>(a, T::wp) + begin * kPackLanes * inputs * taps;
  for (i64 ob = begin; ob < end; ++ob)
    for (i64 r = 0; r < rows; ++r)
      for (i64 i = 0; i < in; i += step)
        for (i64 k = 0; k < kw; ++k)
          for (i64 l = 0; l < kPackLanes; ++l, ++wp) {
            const i64 o = ob * kPackLanes + l, tap = r * kw + k;
            if constexpr (Pairs)
              *wp = packed_pair(weight(o, i, tap), weight(o, i + 1, tap));
            else
              *wp = weight(o, i, tap);
          }
  return kOk;
}

}  // namespace
}  // namespace macl
