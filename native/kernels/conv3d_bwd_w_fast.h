// conv3d_bwd_w, tuned fp32: dw and db from x and dy. Per chunk of rows, tiles of dw_tile.h over short blocks of rows;
// then the chunks' partial sums are added in their order. The plain kernel is in conv3d.h.
#pragma once
#include "conv3d_winograd_dw.h"

namespace macl {
namespace {

struct DwConv {
  ConvShape s;
  i64 last;  // width of the last row
  DwPlan plan;
};

inline DwConv conv3d_bwd_w_plan(const Args& a) {
  using T = Conv3dBwdW;
  ConvShape s = conv3d_fwd_shape(a.t[T::x], a.t[T::dy], attrs<Conv3dAttrs>(a));
  const i64 last = conv3d_flatten(s);
  return {s, last, dw_plan(s.i, s.o, s.taps(), s.kw, s.rows(), s.ow)};
}

// Rows h … h + n of (n, d), positions w0 … w1, are in `buf` (row stride `rowSize`): their share of the task's sums.
template <class E>
inline void conv3d_bwd_w_block(const ConvShape& s, const DwTask& task, const E* x, i64 ldx, const f32* buf, i64 rowSize, i64 ow,
                               i64 row, i64 rows, i64 w0, i64 w1, i64 iw) {
  const i64 h0 = row % s.oh, d = row / s.oh % s.od, n = row / s.oh / s.od;
  const bool fused = kDwFuse && s.kw == 3 && s.sw == 1;
  DwArgs t;
  t.ow = ow;
  t.ci = s.kw * ow;
  DwInputs<E> inputs;
  for (i64 kd = 0; kd < s.kd; ++kd)
    for (i64 kh = 0; kh < s.kh; ++kh) {
      const i64 xd = conv3d_source(d, kd, s.kd, s.sd, 1, s.id);
      if (xd < 0) continue;
      for (i64 k = 0; k < (fused ? 1 : s.kw); ++k) {
        // Positions of x (fused) or of dy (else) whose partners exist.
        i64 first, last, from;
        if (fused) {
          first = imax(0, w0 - 1);
          last = imin(iw, w1 + 1);
          from = first;
        } else {
          const i64 shift = s.kw / 2 - k;  // x position = w·sw − shift
          first = imax(w0, cdiv(imax(0, shift), s.sw));
          last = imin(w1, cdiv(iw + shift, s.sw));  // none where iw = 1 and shift = −1
          from = first * s.sw - shift;
        }
        t.count = last - first;
        t.rows = 0;
        for (i64 r = 0; r < rows; ++r) {
          const i64 xh = conv3d_source(h0 + r, kh, s.kh, s.sh, 1, s.ih);
          if (xh < 0) continue;
          const E* first_x = x + (((n * s.id + xd) * s.ih + xh) * s.iw + from) * ldx + task.i0;
          inputs.row(t, first_x, s.sw * ldx, task.in);
          t.dy[t.rows++] = buf + r * rowSize + (first - w0 + kDwPad) * ow;
        }
        t.out = task.part + (kd * s.kh + kh) * imin(s.i, kDwIn) * s.kw * ow + k * ow;
        if (fused)
          dw_block<3, is_dot<E>>(t, task.in, task.on);
        else
          dw_block<1, is_dot<E>>(t, task.in, task.on);
      }
    }
}

template <class E>
inline void conv3d_bwd_w_task(const DwConv& c, const DwTask& t, const E* x, i64 ldx, const E* dy, i64 lddy) {
  const ConvShape& s = c.s;
  const i64 ow = c.plan.ow;
  alignas(64) f32 buf[kDwPositions * kDwOut];
  const i64 most = kDwPositions - 2 * kDwPad - 16, seg = cdiv(s.ow, cdiv(s.ow, most));
  const i64 rowSize = (seg + 2 * kDwPad) * ow, fit = imin(kDwRows, kDwPositions / (seg + 2 * kDwPad));
  for (i64 row = t.row0; row < t.row1;) {
    i64 rows = imin(imin(fit, t.row1 - row), s.oh - row % s.oh);
    const i64 rowsTotal = s.rows();
    if (row + rows == rowsTotal && c.last != s.ow && rows > 1) --rows;  // the short row by itself
    const i64 width = row + rows == rowsTotal ? c.last : s.ow, iw = c.last != s.ow ? width : s.iw;
    for (i64 w0 = 0; w0 < width; w0 += seg) {
      const i64 w1 = imin(width, w0 + seg);
      for (i64 r = 0; r < rows; ++r) {
        dw_fill(buf + r * rowSize, ow, dy + ((row + r) * s.ow + w0) * lddy + t.o0, lddy, w1 - w0, t.on);
        if (t.db) dw_bias<is_dot<E>>(buf + r * rowSize, ow, w1 - w0, t.on, t.db);
      }
      conv3d_bwd_w_block(s, t, x, ldx, buf, rowSize, ow, row, rows, w0, w1, iw);
    }
    row += rows;
  }
}

// How either algorithm cuts the work: the partial sums and their reduction are the same.
inline DwPlan conv3d_bwd_w_cut(const Args& a) {
  using T = Conv3dBwdW;
  const auto& at = attrs<Conv3dAttrs>(a);
  if (at.variant == 0) return conv3d_bwd_w_plan(a).plan;
  return winograd_dw_plan(conv3d_fwd_shape(a.t[T::x], a.t[T::dy], at), at.variant).dw;
}

// Phase 0: partial sums (writes ws); phase 1: writes dw and db, or adds where accumulate = 1.
inline i64 conv3d_bwd_w_tasks(const Args& a, i32 phase) {
  const DwPlan plan = conv3d_bwd_w_cut(a);
  return phase == 0 ? plan.tasks() : plan.reduce_tasks();
}

inline i64 conv3d_bwd_w_bytes(const Args& a, i32) {
  return conv3d_bwd_w_check(a) == kOk ? conv3d_bwd_w_cut(a).bytes() : -1;
}

inline i64 conv3d_bwd_w_scratch(const Args& a) {
  using T = Conv3dBwdW;
  const auto& at = attrs<Conv3dAttrs>(a);
  if (at.variant == 0) return 0;
  const ConvShape s = conv3d_fwd_shape(a.t[T::x], a.t[T::dy], at);
  return WinogradDwBuffers(winograd_dw_plan(s, at.variant)).total * i64(sizeof(f32));
}

inline i32 conv3d_bwd_w_fast_check(const Args& a) {
  using T = Conv3dBwdW;
  const i32 status = conv3d_bwd_w_check(a);
  return status == kOk && !holds(a.t[T::ws], conv3d_bwd_w_bytes(a, T::ws)) ? i32(kBadShape) : status;
}

template <Dot dot>
inline i32 conv3d_bwd_w_of(const Args& a, i32 phase, i64 begin, i64 end) {
  using T = Conv3dBwdW;
  const auto& at = attrs<Conv3dAttrs>(a);
  const Tensor &x = a.t[T::x], &dy = a.t[T::dy];
  void* ws = a.t[T::ws].data;
  if (phase == 1) {
    const DwPlan plan = conv3d_bwd_w_cut(a);
    for (i64 t = begin; t < end; ++t)
      dw_reduce(plan, ws, t, ptr<f32>(a, T::dw), plan.in * plan.taps, plan.taps, optional_ptr<f32>(a, T::db),
                at.accumulate != 0);
    return kOk;
  }
  const auto direct = [&]<class E>(E) {
    const DwConv c = conv3d_bwd_w_plan(a);
    for (i64 t = begin; t < end; ++t)
      conv3d_bwd_w_task(c, dw_task(c.plan, ws, t), ptr<const E>(a, T::x), x.ld, ptr<const E>(a, T::dy), dy.ld);
  };
  if constexpr (dot != Dot::none)
    if (at.variant == 0 && packs_pairs(x.s[4], x.dtype)) return direct(dot16{}), kOk;
  of_element(x, [&]<class E>(E) {
    if (at.variant == 0) return direct(E{});
    const WinogradDwPlan p = winograd_dw_plan(conv3d_fwd_shape(x, dy, at), at.variant);
    for (i64 t = begin; t < end; ++t)
      winograd_dw_task(p, dw_task(p.dw, ws, t), ptr<const E>(a, T::x), x.ld, ptr<const E>(a, T::dy), dy.ld,
                       static_cast<f32*>(a.scratch));
  });
  return kOk;
}

inline i32 conv3d_bwd_w_run(const Args& a, i32 phase, i64 begin, i64 end) {
  return conv3d_bwd_w_of<Dot::none>(a, phase, begin, end);
}

}  // namespace
}  // namespace macl
