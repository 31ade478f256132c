// conv3d on the device: launchers, which choose a kernel by shapes and attributes alone, and the tables. Equations:
// native/ops/conv3d.h. Nothing is saved for the backward pass but x.
#include "conv3d_bwd_w.h"
#include "conv3d_plain.h"
#include "conv3d_tf32.h"
#include "conv3d_tile.h"
#include "upconv3d_tile.h"

namespace macl {
namespace gpu {
namespace {

enum Path { kPlain, kTuned, kTf32 };

// A 1×1×1 convolution is a product of matrices (upconv3d_tile.h).
inline UpShape point_shape(const ConvShape& s) { return {s.n, s.od, s.oh, s.ow, s.i, s.o, 1, 1, 1}; }
inline bool point_fits(const ConvShape& s) { return taps_of(s) == 1 && unit_stride(s) && up_fits(point_shape(s)); }

template <Path P>
bool tiled(const ConvShape& s) {
  return P != kPlain && !point_fits(s) && tile_fits(s);
}

// Partial statistics that forward's own kernel leaves, a channel; 0: they are a pass over y.
template <Path P>
i64 own_partials(const ConvShape& s) {
  return tiled<P>(s) ? tile_plan(s).partials : 0;
}
template <Path P>
i64 split_bytes(const ConvShape& s) {
  return tiled<P>(s) ? tile_plan(s).bytes : 0;
}

// Forward or dx by the kernel of this path. scratch: split_bytes.
template <Path P>
void launch_conv3d(const Launch& l, const ConvShape& s, const ConvCall& c, f32* scratch) {
  if (P != kPlain && point_fits(s))
    launch_up_tile<false>(l, point_shape(s), c);
  else if (P == kTf32 && tf32_fits(s))
    launch_conv3d_tile<ForwardTf32>(l, s, c, scratch);
  else if (tiled<P>(s))
    launch_conv3d_tile<ForwardFp32>(l, s, c, scratch);
  else
    launch_conv3d_plain(l, s, c);
}

// Weights for tensor cores are rounded; whatever other kernels read is not.
template <Path P>
void launch_conv3d_pack(const Args& a, const Launch& l) {
  using T = Conv3dPack;
  const Tensor& w = a.t[T::w];
  const auto& at = attrs_of<Conv3dPackAttrs>(a);
  const i64 O = w.s[0], I = w.s[1], taps = w.s[2] * w.s[3] * w.s[4];
  const bool forward = at.mode == 0;
  const i64 out = forward ? O : I, in = forward ? I : O, strideOut = forward ? I * taps : taps;
  const i64 strideIn = forward ? taps : I * taps;
  const bool rounded = P == kTf32 && w.s[3] == 3 && w.s[4] == 3 && at.sd * at.sh * at.sw == 1 && O >= 16 && I >= 16;
  (rounded ? launch_pack<true> : launch_pack<false>)(l, pointer<const f32>(a, T::w), pointer<f32>(a, T::wp), out, in, taps, strideOut,
                                                     strideIn, !forward);
}

i64 conv3d_pack_bytes(const Args& a, i32) {
  using T = Conv3dPack;
  const i64 O = a.t[T::w].s[0], I = a.t[T::w].s[1], taps = a.t[T::w].s[2] * a.t[T::w].s[3] * a.t[T::w].s[4];
  const bool forward = attrs_of<Conv3dPackAttrs>(a).mode == 0;
  return padded_channels(forward ? O : I) * (forward ? I : O) * taps * i64(sizeof(f32));
}

// ws of forward: partial sums of a split, then partial statistics.
template <Path P>
i64 fwd_stats_at(const ConvShape& s) {
  return ceil_div(split_bytes<P>(s), 16) * 16;
}

// conv3d_fwd: writes y, and mean and var where stats = 1.
template <Path P>
void launch_conv3d_fwd(const Args& a, const Launch& l) {
  using T = Conv3dFwd;
  const auto& at = attrs_of<Conv3dAttrs>(a);
  const Tensor &x = a.t[T::x], &y = a.t[T::y];
  const ConvShape s = conv_fwd_shape(x, y, at);
  u8* ws = pointer<u8>(a, T::ws);
  f64* stats = at.stats != 0 ? reinterpret_cast<f64*>(ws + fwd_stats_at<P>(s)) : nullptr;
  const i64 own = own_partials<P>(s);
  const ConvCall c{pointer<const f32>(a, T::x), pointer<const f32>(a, T::wp), given(a, T::b) ? pointer<const f32>(a, T::b) : nullptr,
                   x.ld, pointer<f32>(a, T::y), y.ld, 0, at.act != 0, f32(at.slope), own > 0 ? stats : nullptr};
  launch_conv3d<P>(l, s, c, reinterpret_cast<f32*>(ws));
  if (!stats) return;
  if (own == 0) launch_stats_chunks(l, c.y, c.ldy, voxels(y), s.o, stats);
  launch_stats_combine(l, stats, own > 0 ? own : stats_chunks(voxels(y)), s.o, pointer<f32>(a, T::mean), pointer<f32>(a, T::var));
}

template <Path P>
i64 conv3d_fwd_bytes(const Args& a, i32) {
  using T = Conv3dFwd;
  const auto& at = attrs_of<Conv3dAttrs>(a);
  const ConvShape s = conv_fwd_shape(a.t[T::x], a.t[T::y], at);
  if (at.stats == 0) return split_bytes<P>(s);
  const i64 own = own_partials<P>(s);
  return fwd_stats_at<P>(s) + stats_bytes(own > 0 ? own : stats_chunks(voxels(a.t[T::y])), s.o);
}

// conv3d_bwd_x: writes dx, or adds where accumulate = 1.
template <Path P>
void launch_conv3d_bwd_x(const Args& a, const Launch& l) {
  using T = Conv3dBwdX;
  const auto& at = attrs_of<Conv3dAttrs>(a);
  const Tensor &dy = a.t[T::dy], &dx = a.t[T::dx];
  const ConvShape s = conv_bwd_x_shape(dy, dx, at);
  const ConvCall c{pointer<const f32>(a, T::dy), pointer<const f32>(a, T::wp), nullptr, dy.ld, pointer<f32>(a, T::dx), dx.ld,
                   at.accumulate != 0, 0, 0, nullptr};
  launch_conv3d<P>(l, s, c, pointer<f32>(a, T::ws));
}

template <Path P>
i64 conv3d_bwd_x_bytes(const Args& a, i32) {
  using T = Conv3dBwdX;
  return split_bytes<P>(conv_bwd_x_shape(a.t[T::dy], a.t[T::dx], attrs_of<Conv3dAttrs>(a)));
}

template <Path P>
i64 dw_chunks(const ConvShape& s) {
  if (P != kPlain && point_fits(s)) return up_dw_split(point_shape(s)).chunks;
  return P != kPlain && tile_fits(s) ? tile_dw_chunks(s) : plain_dw(s).chunks;
}

// conv3d_bwd_w: writes dw and db, or adds where accumulate = 1. ws: partial sums of db, then of dw.
template <Path P>
void launch_conv3d_bwd_w(const Args& a, const Launch& l) {
  using T = Conv3dBwdW;
  const auto& at = attrs_of<Conv3dAttrs>(a);
  const Tensor &x = a.t[T::x], &dy = a.t[T::dy];
  const ConvShape s = conv_fwd_shape(x, dy, at);
  f32* partial = dw_partials(pointer<void>(a, T::ws), voxels(dy), s.o);
  const bool bias = given(a, T::db), makesBias = tiled<P>(s) && dw_makes_bias(s);
  const DwCall c{pointer<const f32>(a, T::x), pointer<const f32>(a, T::dy), x.ld, dy.ld, partial,
                 bias && makesBias ? pointer<f64>(a, T::ws) : nullptr};
  if (bias && !makesBias) launch_bias(l, dy, pointer<f64>(a, T::ws), pointer<f32>(a, T::db), at.accumulate != 0);
  if (P != kPlain && point_fits(s))
    launch_up_dw_tile(l, point_shape(s), c);
  else if (P == kTf32 && tf32_fits(s))
    launch_bwd_w_tile<DwTileTf32>(l, s, c);
  else if (P != kPlain && tile_fits(s))
    launch_bwd_w_tile<DwTileFp32>(l, s, c);
  else
    launch_bwd_w_plain(l, s, c.x, c.ldx, c.dy, c.ldy, partial);
  if (c.db) launch_bias_combine(l, c.db, dw_chunks<P>(s), s.o, pointer<f32>(a, T::db), at.accumulate != 0);
  launch_dw_combine(l, partial, dw_chunks<P>(s), s.i, s.o, taps_of(s), s.i * taps_of(s), taps_of(s), pointer<f32>(a, T::dw),
                    at.accumulate != 0);
}

template <Path P>
i64 conv3d_bwd_w_bytes(const Args& a, i32) {
  using T = Conv3dBwdW;
  const ConvShape s = conv_fwd_shape(a.t[T::x], a.t[T::dy], attrs_of<Conv3dAttrs>(a));
  return dw_bytes(voxels(a.t[T::dy]), s.o, taps_of(s) * s.i * s.o, dw_chunks<P>(s));
}

}  // namespace

#define CONV3D_GPU(path)                                                                            \
  MACL_GPU_KERNEL(conv3d_pack, Conv3dPackAttrs, launch_conv3d_pack<path>, conv3d_pack_bytes),       \
  MACL_GPU_KERNEL(conv3d_fwd, Conv3dAttrs, launch_conv3d_fwd<path>, conv3d_fwd_bytes<path>),        \
  MACL_GPU_KERNEL(conv3d_bwd_x, Conv3dAttrs, launch_conv3d_bwd_x<path>, conv3d_bwd_x_bytes<path>),  \
  MACL_GPU_KERNEL(conv3d_bwd_w, Conv3dAttrs, launch_conv3d_bwd_w<path>, conv3d_bwd_w_bytes<path>),  \
  {}

extern const GpuKernel conv3d_gpu[] = {CONV3D_GPU(kTuned)};
extern const GpuKernel conv3d_plain_gpu[] = {CONV3D_GPU(kPlain)};
extern const GpuKernel conv3d_tf32_gpu[] = {CONV3D_GPU(kTf32)};

}  // namespace gpu
}  // namespace macl
