// upconv3d, tuned fp32: forward and dx over the strips of conv3d_tile.h, each tap of the stride a matrix of its own; dw
// with the tiles of dw_tile.h. The plain kernels, which say the same more simply, are in upconv3d.h.
#pragma once
#include "conv3d_tile.h"
#include "dw_tile.h"

namespace macl {
namespace {

constexpr i64 kUpTasks = 256;

inline i64 upconv3d_per_task(const UpShape& s) { return cdiv(s.rows(), kUpTasks); }

inline UpShape upconv3d_args_shape(const Args& a, int x, int y) {
  return upconv3d_shape(a.t[x], a.t[y], attrs<Upconv3dAttrs>(a));
}

// First voxel of y for tap t and x's voxel (row, w).
inline i64 upconv3d_voxel(const UpShape& s, i64 row, i64 tap, i64 w) {
  return s.y_row(row, tap / (s.sh * s.sw), tap / s.sw % s.sh) + w * s.sw + tap % s.sw;
}

// upconv3d_fwd: one task some rows of x. Writes.
inline i64 upconv3d_fwd_tasks(const Args& a, i32) {
  const UpShape s = upconv3d_args_shape(a, Upconv3dFwd::x, Upconv3dFwd::y);
  return cdiv(s.rows(), upconv3d_per_task(s));
}

template <class E>
inline void upconv3d_fwd_rows(const Args& a, i64 begin, i64 end, Dot dot = Dot::none) {
  using T = Upconv3dFwd;
  const UpShape s = upconv3d_args_shape(a, Upconv3dFwd::x, Upconv3dFwd::y);
  const f32* b = optional_ptr<const f32>(a, T::b);
  const i64 per = upconv3d_per_task(s), last = imin(end * per, s.rows()), blocks = cdiv(s.o, kPackLanes);
  const i64 ldx = a.t[T::x].ld, ldy = a.t[T::y].ld, strip = strip_width(s.w, s.o * s.taps());
  Strip<E> t;
  StripBuffers buf;
  t.rows = t.slots = 1;
  t.ld = ldx;
  t.ci = s.i;
  t.kw = 1;
  t.wblock = packed_inputs<E>(s.i) * kPackLanes;
  t.wci = kPackLanes;
  t.dot = dot;
  for (i64 row = begin * per; row < last; ++row)
    for (i64 w0 = 0; w0 < s.w; w0 += strip) {
      const i64 n = imin(strip, s.w - w0);
      t.row[0] = {ptr<const E>(a, T::x) + row * s.w * ldx, w0, 1, 1, s.w, 0};
      // Blocks of all taps lie one after the other in the packed weights: as many at a time as a strip takes, or, where
      // blocks are not full, one tap at a time.
      const i64 all = s.taps() * blocks, group = s.o % 16 == 0 ? kStripBlocks : imin(blocks, kStripBlocks);
      for (i64 first = 0, most; first < all; first += most) {
        most = imin(group, s.o % 16 == 0 ? all - first : blocks - first % blocks);
        StripOut<E> out[kStripBlocks];
        for (i64 j = 0; j < most; ++j) {
          const i64 tap = (first + j) / blocks, o = (first + j) % blocks * 16;
          out[j] = {ptr<E>(a, T::y) + upconv3d_voxel(s, row, tap, w0) * ldy + o, b ? b + o : nullptr, imin(16, s.o - o)};
        }
        t.w[0] = ptr<const f32>(a, T::wp);
        strip_run(t, buf, n, first, most, out, ldy * s.sw, false);
      }
    }
}

template <Dot dot>
inline i32 upconv3d_fwd_of(const Args& a, i32, i64 begin, i64 end) {
  const Tensor& x = a.t[Upconv3dFwd::x];
  if constexpr (dot != Dot::none)
    if (packs_pairs(x.s[4], x.dtype)) return upconv3d_fwd_rows<dot16>(a, begin, end, dot), kOk;
  of_element(x, [&]<class E>(E) { upconv3d_fwd_rows<E>(a, begin, end); });
  return kOk;
}
inline i32 upconv3d_fwd_run(const Args& a, i32 phase, i64 begin, i64 end) {
  return upconv3d_fwd_of<Dot::none>(a, phase, begin, end);
}

// upconv3d_bwd_x: one task some rows of dx; writes, or adds where accumulate = 1.
inline i64 upconv3d_bwd_x_tasks(const Args& a, i32) {
  const UpShape s = upconv3d_args_shape(a, Upconv3dBwdX::dx, Upconv3dBwdX::dy);
  return cdiv(s.rows(), upconv3d_per_task(s));
}

template <class E>
inline void upconv3d_bwd_x_rows(const Args& a, i64 begin, i64 end, Dot dot = Dot::none) {
  using T = Upconv3dBwdX;
  const UpShape s = upconv3d_args_shape(a, Upconv3dBwdX::dx, Upconv3dBwdX::dy);
  const i64 per = upconv3d_per_task(s), last = imin(end * per, s.rows());
  const i64 lddy = a.t[T::dy].ld, ldx = a.t[T::dx].ld, strip = strip_width(s.w, s.i);
  Strip<E> t;
  StripBuffers buf;
  t.rows = t.slots = s.taps();
  t.ld = lddy;
  t.ci = s.o;
  t.kw = 1;
  const i64 inputs = packed_inputs<E>(s.o);
  t.wblock = s.taps() * inputs * kPackLanes;
  t.wci = kPackLanes;
  t.dot = dot;
  for (i64 row = begin * per; row < last; ++row)
    for (i64 w0 = 0; w0 < s.w; w0 += strip) {
      const i64 n = imin(strip, s.w - w0);
      for (i64 tap = 0; tap < s.taps(); ++tap) {
        const i64 c = tap % s.sw;
        t.row[tap] = {ptr<const E>(a, T::dy) + (upconv3d_voxel(s, row, tap, 0) - c) * lddy, w0 * s.sw + c, s.sw, 1,
                      s.w * s.sw, tap};
        t.w[tap] = ptr<const f32>(a, T::wp) + tap * inputs * kPackLanes;
      }
      for (i64 i0 = 0; i0 < s.i; i0 += kStripOut) {
        const i64 in = imin(kStripOut, s.i - i0);
        const i64 count = cdiv(in, kPackLanes);
        StripOut<E> out[kStripBlocks];
        for (i64 j = 0; j < count; ++j)
          out[j] = {ptr<E>(a, T::dx) + (row * s.w + w0) * ldx + i0 + j * 16, nullptr, imin(16, in - j * 16)};
        strip_run(t, buf, n, i0 / kPackLanes, count, out, ldx, attrs<Upconv3dAttrs>(a).accumulate != 0);
      }
    }
}

template <Dot dot>
inline i32 upconv3d_bwd_x_of(const Args& a, i32, i64 begin, i64 end) {
  const Tensor& dy = a.t[Upconv3dBwdX::dy];
  if constexpr (dot != Dot::none)
    if (packs_pairs(dy.s[4], dy.dtype)) return upconv3d_bwd_x_rows<dot16>(a, begin, end, dot), kOk;
  of_element(dy, [&]<class E>(E) { upconv3d_bwd_x_rows<E>(a, begin, end); });
  return kOk;
}
inline i32 upconv3d_bwd_x_run(const Args& a, i32 phase, i64 begin, i64 end) {
  return upconv3d_bwd_x_of<Dot::none>(a, phase, begin, end);
}

// upconv3d_bwd_w. Phase 0: partial sums (writes ws); phase 1: writes dw and db, or adds where accumulate = 1.
inline DwPlan upconv3d_bwd_w_plan(const Args& a) {
  const UpShape s = upconv3d_args_shape(a, Upconv3dBwdW::x, Upconv3dBwdW::dy);
  return dw_plan(s.i, s.o, s.taps(), 1, s.rows(), s.w);
}

inline i64 upconv3d_bwd_w_tasks(const Args& a, i32 phase) {
  const DwPlan p = upconv3d_bwd_w_plan(a);
  return phase == 0 ? p.tasks() : p.reduce_tasks();
}

inline i64 upconv3d_bwd_w_bytes(const Args& a, i32) {
  return upconv3d_bwd_w_check(a) == kOk ? upconv3d_bwd_w_plan(a).bytes() : -1;
}

inline i32 upconv3d_bwd_w_fast_check(const Args& a) {
  using T = Upconv3dBwdW;
  const i32 status = upconv3d_bwd_w_check(a);
  return status == kOk && !holds(a.t[T::ws], upconv3d_bwd_w_bytes(a, T::ws)) ? i32(kBadShape) : status;
}

template <class E>
inline void upconv3d_bwd_w_task(const UpShape& s, const DwPlan& p, const DwTask& task, const Args& a) {
  using T = Upconv3dBwdW;
  alignas(64) f32 buf[kDwPositions * kDwOut];
  const i64 most = kDwPositions - 2 * kDwPad - 16, seg = cdiv(s.w, cdiv(s.w, most));
  const i64 rowSize = (seg + 2 * kDwPad) * p.ow, fit = imin(kDwRows, kDwPositions / (seg + 2 * kDwPad));
  DwArgs t;
  t.ow = t.ci = p.ow;
  DwInputs<E> inputs;
  for (i64 row = task.row0; row < task.row1; row += fit)
    for (i64 w0 = 0; w0 < s.w; w0 += seg) {
      t.count = imin(seg, s.w - w0);
      const i64 rows = imin(fit, task.row1 - row);
      for (t.rows = 0; t.rows < rows; ++t.rows)
        inputs.row(t, ptr<const E>(a, T::x) + ((row + t.rows) * s.w + w0) * a.t[T::x].ld + task.i0, a.t[T::x].ld, task.in);
      for (i64 tap = 0; tap < s.taps(); ++tap) {
        for (i64 r = 0; r < t.rows; ++r) {
          f32* to = buf + r * rowSize;
          dw_fill(to, p.ow, ptr<const E>(a, T::dy) + upconv3d_voxel(s, row + r, tap, w0) * a.t[T::dy].ld + task.o0,
                  a.t[T::dy].ld * s.sw, t.count, task.on);
          if (task.db) dw_bias<is_dot<E>>(to, p.ow, t.count, task.on, task.db);
          t.dy[r] = to + kDwPad * p.ow;
        }
        t.out = task.part + tap * p.iw * p.ow;
        dw_block<1, is_dot<E>>(t, task.in, task.on);
      }
    }
}

template <Dot dot>
inline i32 upconv3d_bwd_w_of(const Args& a, i32 phase, i64 begin, i64 end) {
  using T = Upconv3dBwdW;
  const UpShape s = upconv3d_args_shape(a, Upconv3dBwdW::x, Upconv3dBwdW::dy);
  const DwPlan p = upconv3d_bwd_w_plan(a);
  void* ws = a.t[T::ws].data;
  const auto sums = [&]<class E>(E) {
    for (i64 t = begin; t < end; ++t) upconv3d_bwd_w_task<E>(s, p, dw_task(p, ws, t), a);
  };
  if (phase == 1) {
    for (i64 t = begin; t < end; ++t)
      dw_reduce(p, ws, t, ptr<f32>(a, T::dw), s.taps(), s.o * s.taps(), optional_ptr<f32>(a, T::db),
                attrs<Upconv3dAttrs>(a).accumulate != 0);
    return kOk;
  }
  const Tensor& x = a.t[T::x];
  if constexpr (dot != Dot::none)
    if (x.dtype == kBF16) return sums(dot16{}), kOk;
  of_element(x, sums);
  return kOk;
}
inline i32 upconv3d_bwd_w_run(const Args& a, i32 phase, i64 begin, i64 end) {
  return upconv3d_bwd_w_of<Dot::none>(a, phase, begin, end);
}

inline i64 upconv3d_ws_bytes(const Args&, i32) { return 0; }

}  // namespace
}  // namespace macl

#define UPCONV3D_KERNELS                                                                                                \
  MACL_KERNEL(upconv3d_pack, Upconv3dPackAttrs, 1, upconv3d_pack_tasks, upconv3d_pack_bytes, upconv3d_pack_check),      \
  MACL_KERNEL(upconv3d_fwd, Upconv3dAttrs, 1, upconv3d_fwd_tasks, upconv3d_ws_bytes, upconv3d_fwd_check),               \
  MACL_KERNEL(upconv3d_bwd_x, Upconv3dAttrs, 1, upconv3d_bwd_x_tasks, upconv3d_ws_bytes, upconv3d_bwd_x_check),         \
  MACL_KERNEL(upconv3d_bwd_w, Upconv3dAttrs, 2, upconv3d_bwd_w_tasks, upconv3d_bwd_w_bytes, upconv3d_bwd_w_fast_check)
