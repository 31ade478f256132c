// upconv3d on the device (kernel = stride). Equation: native/ops/upconv3d.h. Nothing is saved for the backward pass but x.
#include "upconv3d_plain.h"
#include "upconv3d_tile.h"

namespace macl {
namespace gpu {
namespace {

// upconv3d_pack: w [I, O, taps].
void launch_upconv3d_pack(const Args& a, const Launch& l) {
  const Tensor& w = a.t[0];
  const i64 I = w.s[0], O = w.s[1], taps = w.s[2] * w.s[3] * w.s[4];
  if (attrs_of<Upconv3dPackAttrs>(a).mode == 0)
    launch_pack<false>(l, pointer<const f32>(a, 0), pointer<f32>(a, 1), O, I, taps, taps, O * taps, false);
  else
    launch_pack<false>(l, pointer<const f32>(a, 0), pointer<f32>(a, 1), I, O, taps, O * taps, taps, false);
}

i64 upconv3d_pack_bytes(const Args& a, i32) {
  const i64 I = a.t[0].s[0], O = a.t[0].s[1], taps = a.t[0].s[2] * a.t[0].s[3] * a.t[0].s[4];
  const bool forward = attrs_of<Upconv3dPackAttrs>(a).mode == 0;
  return padded_channels(forward ? O : I) * (forward ? I : O) * taps * i64(sizeof(f32));
}

// upconv3d_fwd: writes y.
template <bool Plain>
void launch_upconv3d_fwd(const Args& a, const Launch& l) {
  const UpShape s = up_shape(a.t[0], a.t[3], attrs_of<Upconv3dAttrs>(a));
  if (!Plain && up_fits(s)) {
    launch_up_tile<false>(l, s, {pointer<const f32>(a, 0), pointer<const f32>(a, 1),
                                 given(a, 2) ? pointer<const f32>(a, 2) : nullptr, a.t[0].ld, pointer<f32>(a, 3), a.t[3].ld, 0,
                                 0, 0, nullptr});
    return;
  }
  launch({blocks_for(elements(a.t[3]), 256), 256, 0, l.stream}, upconv3d_fwd_plain_kernel, s, pointer<const f32>(a, 0),
         a.t[0].ld, pointer<const f32>(a, 1), given(a, 2) ? pointer<const f32>(a, 2) : nullptr, pointer<f32>(a, 3),
         a.t[3].ld);
}

// upconv3d_bwd_x: writes dx, or adds where accumulate = 1.
template <bool Plain>
void launch_upconv3d_bwd_x(const Args& a, const Launch& l) {
  const auto& at = attrs_of<Upconv3dAttrs>(a);
  const UpShape s = up_shape(a.t[2], a.t[0], at);
  if (!Plain && up_fits(s)) {
    launch_up_tile<true>(l, s, {pointer<const f32>(a, 0), pointer<const f32>(a, 1), nullptr, a.t[0].ld, pointer<f32>(a, 2),
                                a.t[2].ld, at.accumulate != 0, 0, 0, nullptr});
    return;
  }
  launch({blocks_for(elements(a.t[2]), 256), 256, 0, l.stream}, upconv3d_bwd_x_plain_kernel, s, pointer<const f32>(a, 0),
         a.t[0].ld, pointer<const f32>(a, 1), pointer<f32>(a, 2), a.t[2].ld, at.accumulate != 0);
}

i64 no_bytes(const Args&, i32) { return 0; }

// upconv3d_bwd_w: writes dw and db, or adds where accumulate = 1. ws: partial sums of db, then of dw.
template <bool Plain>
i64 up_dw_chunks(const UpShape& s) {
  return !Plain && up_fits(s) ? up_dw_split(s).chunks : up_chunks(s).count;
}

template <bool Plain>
void launch_upconv3d_bwd_w(const Args& a, const Launch& l) {
  const auto& at = attrs_of<Upconv3dAttrs>(a);
  const Tensor &x = a.t[0], &dy = a.t[1];
  const UpShape s = up_shape(x, dy, at);
  const i64 taps = up_taps(s), total = taps * s.i * s.o;
  f32* partial = dw_partials(pointer<void>(a, 4), voxels(dy), s.o);
  if (given(a, 3)) launch_bias(l, dy, pointer<f64>(a, 4), pointer<f32>(a, 3), at.accumulate != 0);
  if (!Plain && up_fits(s)) {
    launch_up_dw_tile(l, s, {pointer<const f32>(a, 0), pointer<const f32>(a, 1), x.ld, dy.ld, partial, nullptr});
  } else {
    const UpChunks chunks = up_chunks(s);
    launch({dim3(blocks_for(total, 128), unsigned(chunks.count)), 128, 0, l.stream}, upconv3d_bwd_w_plain_kernel, s,
           pointer<const f32>(a, 0), x.ld, pointer<const f32>(a, 1), dy.ld, chunks.voxels, partial);
  }
  launch_dw_combine(l, partial, up_dw_chunks<Plain>(s), s.i, s.o, taps, taps, s.o * taps, pointer<f32>(a, 2), at.accumulate != 0);
}

template <bool Plain>
i64 upconv3d_bwd_w_bytes(const Args& a, i32) {
  const UpShape s = up_shape(a.t[0], a.t[1], attrs_of<Upconv3dAttrs>(a));
  return dw_bytes(voxels(a.t[1]), s.o, up_taps(s) * s.i * s.o, up_dw_chunks<Plain>(s));
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
