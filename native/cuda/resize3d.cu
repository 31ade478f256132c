// resize3d: trilinear with aligned corners, and its transpose. Equation: native/ops/resize3d.h. A thread has one voxel of
// the tensor that is written and up to four channels; the transpose gathers, so that its order is fixed.
#include "../ops/resize3d.h"

#include "launch.h"
#include "rows.h"

namespace macl {
namespace gpu {
namespace {

// The source of output o on one axis: i, and i + 1 with weight f. Whole-number arithmetic, so that f is exactly 0 on
// source points.
struct AxisTap {
  i64 i;
  f32 f;
};
__device__ inline AxisTap axis_tap(i64 o, i64 in, i64 out) {
  if (out == 1) return {0, 0.0f};
  const i64 product = o * (in - 1), q = quotient(product, out - 1);
  return {q, static_cast<f32>(product - q * (out - 1)) / static_cast<f32>(out - 1)};
}
// Weight of source i in output o.
__device__ inline f32 axis_weight(i64 o, i64 i, i64 in, i64 out) {
  const AxisTap t = axis_tap(o, in, out);
  return t.i == i ? 1 - t.f : (t.i + 1 == i ? t.f : 0.0f);
}
// The outputs whose taps may touch source i.
struct AxisRange {
  i64 first, last;
};
__device__ inline AxisRange axis_range(i64 i, i64 in, i64 out) {
  if (out == 1) return {0, i == 0 ? 0 : -1};
  if (in == 1) return {0, out - 1};
  const i64 low = i > 0 ? quotient((i - 1) * (out - 1), in - 1) : 0;
  const i64 high = quotient((i + 1) * (out - 1) + in - 2, in - 1);
  return {low, high < out - 1 ? high : out - 1};
}

template <int N>
__global__ void resize3d_fwd_voxels_kernel(F32View x, Grid3 in, F32View y, Grid3 out, i64 total, RowTile t, bool add) {
  const RowPlace at(t);
  if (at.group >= t.groups) return;
  const i64 c = at.group * N;
  for (i64 v = static_cast<i64>(blockIdx.x) * t.ty + at.y; v < total; v += static_cast<i64>(gridDim.x) * t.ty) {
    const Place3 p(v, out);
    const AxisTap d = axis_tap(p.d, in.d, out.d), h = axis_tap(p.h, in.h, out.h), w = axis_tap(p.w, in.w, out.w);
    f32 sum[N];
    for (int i = 0; i < N; ++i) sum[i] = 0;
    GPU_UNROLL
    for (int l = 0; l < 8; ++l) {
      const int dd = l >> 2, dh = l >> 1 & 1, dw = l & 1;
      if ((dd && d.f == 0) || (dh && h.f == 0) || (dw && w.f == 0)) continue;
      const f32 weight = (dd ? d.f : 1 - d.f) * (dh ? h.f : 1 - h.f) * (dw ? w.f : 1 - w.f);
      const Pack<f32, N> s = load_pack<N>(x.data + in.at(p.n, d.i + dd, h.i + dh, w.i + dw) * x.ld + c);
      for (int i = 0; i < N; ++i) sum[i] += s.v[i] * weight;
    }
    Pack<f32, N> o;
    if (add) o = load_pack<N>(y.data + v * y.ld + c);
    for (int i = 0; i < N; ++i) o.v[i] = add ? o.v[i] + sum[i] : sum[i];
    store_pack<N>(y.data + v * y.ld + c, o);
  }
}

template <int N>
__global__ void resize3d_bwd_voxels_kernel(F32View dy, Grid3 out, F32View dx, Grid3 in, i64 total, RowTile t, bool add) {
  const RowPlace at(t);
  if (at.group >= t.groups) return;
  const i64 c = at.group * N;
  for (i64 v = static_cast<i64>(blockIdx.x) * t.ty + at.y; v < total; v += static_cast<i64>(gridDim.x) * t.ty) {
    const Place3 p(v, in);
    const AxisRange rd = axis_range(p.d, in.d, out.d), rh = axis_range(p.h, in.h, out.h);
    const AxisRange rw = axis_range(p.w, in.w, out.w);
    f32 sum[N];
    for (int i = 0; i < N; ++i) sum[i] = 0;
    for (i64 d = rd.first; d <= rd.last; ++d) {
      const f32 wd = axis_weight(d, p.d, in.d, out.d);
      if (wd == 0) continue;
      for (i64 h = rh.first; h <= rh.last; ++h) {
        const f32 wh = wd * axis_weight(h, p.h, in.h, out.h);
        if (wh == 0) continue;
        const f32* row = dy.data + out.at(p.n, d, h, 0) * dy.ld + c;
        for (i64 w = rw.first; w <= rw.last; ++w) {
          const f32 weight = wh * axis_weight(w, p.w, in.w, out.w);
          if (weight == 0) continue;
          const Pack<f32, N> g = load_pack<N>(row + w * dy.ld);
          for (int i = 0; i < N; ++i) sum[i] += g.v[i] * weight;
        }
      }
    }
    Pack<f32, N> o;
    if (add) o = load_pack<N>(dx.data + v * dx.ld + c);
    for (int i = 0; i < N; ++i) o.v[i] = add ? o.v[i] + sum[i] : sum[i];
    store_pack<N>(dx.data + v * dx.ld + c, o);
  }
}

// From is read, To written.
template <int From, int To, class K>
void launch_resize3d(const Args& a, const Launch& l, K wide, K narrow) {
  const Tensor& to = a.t[To];
  const int width = pack_width(a, to.s[4], From, To);
  const RowTile t = row_tile(to.s[4], width);
  launch({t.grid(voxels(to), 1, l), dim3(t.threads()), 0, l.stream}, width == 4 ? wide : narrow, view(a, From),
         grid_of(a.t[From]), view(a, To), grid_of(to), voxels(to), t, attrs_of<Resize3dAttrs>(a).accumulate != 0);
}
void launch_resize3d_fwd(const Args& a, const Launch& l) {
  launch_resize3d<Resize3dFwd::x, Resize3dFwd::y>(a, l, resize3d_fwd_voxels_kernel<4>, resize3d_fwd_voxels_kernel<1>);
}
void launch_resize3d_bwd(const Args& a, const Launch& l) {
  launch_resize3d<Resize3dBwd::dy, Resize3dBwd::dx>(a, l, resize3d_bwd_voxels_kernel<4>, resize3d_bwd_voxels_kernel<1>);
}

}  // namespace

extern const GpuKernel resize3d_gpu[] = {MACL_GPU_KERNEL(resize3d_fwd, Resize3dAttrs, launch_resize3d_fwd, nullptr),
                                         MACL_GPU_KERNEL(resize3d_bwd, Resize3dAttrs, launch_resize3d_bwd, nullptr),
                                         {}};

}  // namespace gpu
}  // namespace macl
