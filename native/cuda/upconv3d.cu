// upconv3d on the device (kernel = stride). Equation: native/ops/upconv3d.h. Nothing is saved for the backward pass but x.
#include "upconv3d_plain.h"
#include "upconv3d_tile.h"

namespace macl {
namespace gpu {
namespace {

// upconv3d_pack: w [I, O, taps].
void launch_upconv3d_pack(const Args& a, const Launch& l) {
  using T = Upconv3dPack;
  const Tensor& w = a.t[T::w];
  const i64 I = w.s[0], O = w.s[1], taps = w.s[2] * w.s[3] * w.s[4];
  if (attrs_of<Upconv3dPackAttrs>(a).mode == 0)
    launch_pack<false>(l, pointer<const f32>(a, T::w), pointer<f32>(a, T::wp), O, I, taps, taps, O * taps, false);
  else
    launch_pack<false>(l, pointer<const f32>(a, T::w), pointer<f32>(a, T::wp), I, O, taps, O * taps, taps, false);
}

i64 upconv3d_pack_bytes(const Args& a, i32) {
  using T = Upconv3dPack;
  const i64 I = a.t[T::w].s[0], O = a.t[T::w].s[1], taps = a.t[T::w].s[2] * a.t[T::w].s[3] * a.t[T::w].s[4];
  const bool forward = attrs_of<Upconv3dPackAttrs>(a).mode == 0;
  return padded_channels(forward ? O : I) * (forward ? I : O) * taps * i64(sizeof(f32));
}

// upconv3d_fwd: writes y.
template <bool Plain>
void launch_upconv3d_fwd(const Args& a, const Launch& l) {
  using T = Upconv3dFwd;
  const UpShape s = up_shape(a.t[T::x], a.t[T::y], attrs_of<Upconv3dAttrs>(a));
  if (!Plain && up_fits(s)) {
    launch_up_tile<false>(l, s, {pointer<const f32>(a, T::x), pointer<const f32>(a, T::wp),
                                 given(a, T::b) ? pointer<const f32>(a, T::b) : nullptr, a.t[T::x].ld, pointer<f32>(a, T::y), a.t[T::y].ld, 0,
                                 0, 0, nullptr});
    return;
  }
  launch({blocks_for(elements(a.t[T::y]), 256), 256, 0, l.stream}, upconv3d_fwd_plain_kernel, s, pointer<const f32>(a, T::x),
         a.t[T::x].ld, pointer<const f32>(a, T::wp), given(a, T::b) ? pointer<const f32>(a, T::b) : nullptr, pointer<f32>(a, T::y),
         a.t[T::y].ld);
}

// upconv3d_bwd_x: writes dx, or adds where accumulate = 1.
template <bool Plain>
void launch_upconv3d_bwd_x(const Args& a, const Launch& l) {
  using T = Upconv3dBwdX;
  const auto& at = attrs_of<Upconv3dAttrs>(a);
  const UpShape s = up_shape(a.t[T::dx], a.t[T::dy], at);
  if (!Plain && up_fits(s)) {
    launch_up_tile<true>(l, s, {pointer<const f32>(a, T::dy), pointer<const f32>(a, T::wp), nullptr, a.t[T::dy].ld, pointer<f32>(a, T::dx),
                                a.t[T::dx].ld, at.accumulate != 0, 0, 0, nullptr});
    return;
  }
  launch({blocks_for(elements(a.t[T::dx]), 256), 256, 0, l.stream}, upconv3d_bwd_x_plain_kernel, s, pointer<const f32>(a, T::dy),
         a.t[T::dy].ld, pointer<const f32>(a, T::wp), pointer<f32>(a, T::dx), a.t[T::dx].ld, at.accumulate != 0);
}

i64 no_bytes(const Args&, i32) { return 0; }

// upconv3d_bwd_w: writes dw and db, or adds where accumulate = 1. ws: partial sums of db, then of dw.
template <bool Plain>
i64 up_dw_chunks(const UpShape& s) {
  return !Plain && up_fits(s) ? up_dw_split(s).chunks : up_chunks(s).count;
}

template <bool Plain>
void launch_upconv3d_bwd_w(const Args& a, const Launch& l) {
  using T = Upconv3dBwdW;
  const auto& at = attrs_of<Upconv3dAttrs>(a);
  const Tensor &x = a.t[T::x], &dy = a.t[T::dy];
  const UpShape s = up_shape(x, dy, at);
  const i64 taps = up_taps(s), total = taps * s.i * s.o;
  f32* partial = dw_partials(pointer<void>(a, T::ws), voxels(dy), s.o);
  if (given(a, T::db)) launch_bias(l, dy, pointer<f64>(a, T::ws), pointer<f32>(a, T::db), at.accumulate != 0);
  if (!Plain && up_fits(s)) {
    launch_up_dw_tile(l, s, {pointer<const f32>(a, T::x), pointer<const f32>(a, T::dy), x.ld, dy.ld, partial, nullptr});
  } else {
    const UpChunks chunks = up_chunks(s);
    launch({dim3(blocks_for(total, 128), unsigned(chunks.count)), 128, 0, l.stream}, upconv3d_bwd_w_plain_kernel, s,
           pointer<const f32>(a, T::x), x.ld, pointer<const f32>(a, T::dy), dy.ld, chunks.voxels, partial);
  }
  launch_dw_combine(l, partial, up_dw_chunks<Plain>(s), s.i, s.o, taps, taps, s.o * taps, pointer<f32>(a, T::dw), at.accumulate != 0);
}

template <bool Plain>
i64 upconv3d_bwd_w_bytes(const Args& a, i32) {
  using T = Upconv3dBwdW;
  const UpShape s = up_shape(a.t[T::x], a.t[T::dy], attrs_of<Upconv3dAttrs>(a));
  return dw_bytes(voxels(a.t[T::dy]), s.o, up_taps(s) * s.i * s.o, up_dw_chunks<Plain>(s));
}

}  // namespace

#define UPCONV3D_GPU(plain)                                                                         \
  MACL_GPU_KERNEL(upconv3d_pack, Upconv3dPackAttrs, launch_upconv3d_pack, upconv3d_pack_bytes),     \
  MACL_GPU_KERNEL(upconv3d_fwd, Upconv3dAttrs, launch_upconv3d_fwd<plain>, no_bytes),               \
  MACL_GPU_KERNEL(upconv3d_bwd_x, Upconv3dAttrs, launch_upconv3d_bwd_x<plain>, no_bytes),           \
  MACL_GPU_KERNEL(upconv3d_bwd_w, Upconv3dAttrs, launch_upconv3d_bwd_w<plain>, upconv3d_bwd_w_bytes<plain>),\
  {}

extern const GpuKernel upconv3d_gpu[] = {UPCONV3D_GPU(false)};
extern const GpuKernel upconv3d_plain_gpu[] = {UPCONV3D_GPU(true)};

}  // namespace gpu
}  // namespace macl
