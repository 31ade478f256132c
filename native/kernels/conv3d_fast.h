// conv3d, tuned fp32: forward and dx over strips (conv3d_tile.h), dw in conv3d_bwd_w_fast.h. The plain kernels, which
// say the same more simply, are in conv3d.h. A variant other than 0 goes to conv3d_winograd.h.
#pragma once
#include "conv3d_bwd_w_fast.h"
#include "conv3d_stats.h"
#include "conv3d_winograd_dw.h"

namespace macl {
namespace {

constexpr i64 kConvTasks = 256;  // at most about so many, of whole rows
// The rows of a convolution, in the order of tasks.
struct ConvRows {
  ConvShape s;
  i64 last;  // width of the last row
  i64 perTask;
  i64 tasks() const { return cdiv(s.rows(), perTask); }
  i64 width(i64 row) const { return row + 1 == s.rows() ? last : s.ow; }
  i64 voxels(i64 task) const {
    const i64 begin = task * perTask, end = imin(begin + perTask, s.rows());
    return (end - begin - 1) * s.ow + width(end - 1);
  }
};

inline ConvRows conv3d_rows(ConvShape s) {
  const i64 last = conv3d_flatten(s);
  return {s, last, cdiv(s.rows(), kConvTasks)};
}

// Rows of the input, and their weights, that output row (n, d, h) is made of, from
// position w0 on.
template <class E>
inline void conv3d_strip(const ConvShape& s, const ConvCall<E>& c, i64 row, i64 width, i64 w0, Strip<E>& t) {
  const i64 h = row % s.oh, d = row / s.oh % s.od, n = row / s.oh / s.od;
  const bool apart = s.kw == 3 && s.sw != 1;  // positions a stride apart: each tap of kW is a row of its own
  t.rows = 0;
  t.slots = s.kd * s.kh * (apart ? s.kw : 1);
  t.ld = c.ldx;
  t.ci = s.i;
  t.kw = apart ? 1 : s.kw;
  const i64 inputs = packed_inputs<E>(s.i);
  t.wblock = inputs * s.taps() * kPackLanes;
  t.wci = s.kw * kPackLanes;
  t.dot = c.dot;
  for (i64 kd = 0; kd < s.kd; ++kd)
    for (i64 kh = 0; kh < s.kh; ++kh) {
      const i64 xd = conv3d_source(d, kd, s.kd, s.sd, s.td, s.id), xh = conv3d_source(h, kh, s.kh, s.sh, s.th, s.ih);
      if (xd < 0 || xh < 0) continue;
      const E* src = c.x + ((n * s.id + xd) * s.ih + xh) * s.iw * c.ldx;
      const f32* w = c.wp + (kd * s.kh + kh) * inputs * s.kw * kPackLanes;
      for (i64 k = 0; k < (apart ? s.kw : 1); ++k) {
        // A row's place goes by its h, so that the next output row finds two of three there.
        const i64 slot = (kd * s.kh + xh % s.kh) * (apart ? s.kw : 1) + k;
        t.row[t.rows] = {src, w0 * s.sw + k - s.kw / 2, s.sw, s.tw, width == s.ow ? s.iw : width, slot};
        t.w[t.rows++] = w + k * kPackLanes;
      }
    }
}

template <class E>
inline void conv3d_activate(E* y, i64 step, i64 n, i64 on, f32 slope) {
  for (i64 p = 0; p < n; ++p, y += step) {
    i64 o = 0;
    for (; o + kLanes <= on; o += kLanes) {
      const vf v = vload(y + o);
      vstore(y + o, v < 0 ? v * slope : v);
    }
    for (; o < on; ++o)
      if (y[o] < 0) y[o] = y[o] * slope;
  }
}

template <class E>
inline void conv3d_task(const ConvRows& r, const ConvCall<E>& c, i64 task) {
  const ConvShape& s = r.s;
  Strip<E> t;
  StripBuffers buf;
  const i64 begin = task * r.perTask, end = imin(begin + r.perTask, s.rows());
  const ConvStats stats = conv3d_stats_of(c.stats, c.stats ? task : 0, s.o);
  i64 strips = 0;
  const i64 strip = strip_width(s.ow, s.o);
  for (i64 w0 = 0; w0 < s.ow; w0 += strip)
    for (i64 row = begin; row < end; ++row) {
      const i64 width = r.width(row), n = imin(strip, width - w0);
      if (n <= 0) continue;  // the short last row of a flattened volume
      conv3d_strip(s, c, row, width, w0, t);
      for (i64 o0 = 0; o0 < s.o; o0 += kStripOut) {
        const i64 on = imin(kStripOut, s.o - o0), blocks = cdiv(on, kPackLanes);
        E* y = c.y + (row * s.ow + w0) * c.ldy + o0;
        StripOut<E> out[kStripBlocks];
        for (i64 j = 0; j < blocks; ++j)
          out[j] = {y + j * 16, c.b ? c.b + o0 + j * 16 : nullptr, imin(16, on - j * 16)};
        strip_run(t, buf, n, o0 / kPackLanes, blocks, out, c.ldy, c.accumulate);
        if (c.act) conv3d_activate(y, c.ldy, n, on, c.slope);
        if (c.stats) conv3d_strip_stats(y, c.ldy, n, on, stats, o0, strips == 0);
      }
      if (c.stats && ++strips % kStatsFlush == 0) conv3d_flush_stats(stats, s.o);
    }
  if (c.stats) conv3d_flush_stats(stats, s.o);
}

// dot: a table of its own for each (table.cc).
template <Dot dot>
inline i32 conv3d_pack_of(const Args& a, i32, i64 begin, i64 end) {
  using T = Conv3dPack;
  const auto& at = attrs<Conv3dPackAttrs>(a);
  const Tensor& w = a.t[T::w];
  if constexpr (dot != Dot::none)
    if (at.variant == 0 && packs_pairs(w.s[at.mode == 0 ? 1 : 0], at.dtype)) return conv3d_pack_direct<true>(a, begin, end);
  if (at.variant == 0) return conv3d_pack_direct(a, begin, end);
  const WinogradForm form = winograd_form(at.variant);
  for (i64 ob = begin; ob < end; ++ob)
    winograd_pack(form, ptr<const f32>(a, T::w), ptr<f32>(a, T::wp), w.s[0], w.s[1], at, ob);
  return kOk;
}

inline i32 conv3d_pack_run(const Args& a, i32 phase, i64 begin, i64 end) {
  return conv3d_pack_of<Dot::none>(a, phase, begin, end);
}

// conv3d_fwd, phase 0: y and each task's (Winograd: unit's) sums in ws (writes); phase 1: mean and var of 16 channels a task
// (writes).
inline i64 conv3d_fwd_tasks(const Args& a, i32 phase) {
  using T = Conv3dFwd;
  const auto& at = attrs<Conv3dAttrs>(a);
  if (phase == 1) return at.stats != 0 ? cdiv(a.t[T::y].s[4], kPackLanes) : 0;
  const ConvShape s = conv3d_fwd_shape(a.t[T::x], a.t[T::y], at);
  return at.variant != 0 ? winograd_fwd_plan(s, at.variant).tasks() : conv3d_rows(s).tasks();
}

// −1, here and below, where the shapes do not fit: sizes are asked before anything is checked.
inline i64 conv3d_fwd_bytes(const Args& a, i32) {
  using T = Conv3dFwd;
  const auto& at = attrs<Conv3dAttrs>(a);
  if (conv3d_check(a.t[T::x], a.t[T::y], at) != kOk) return -1;
  if (at.stats == 0) return 0;
  const ConvShape s = conv3d_fwd_shape(a.t[T::x], a.t[T::y], at);
  const i64 sums = at.variant != 0 ? winograd_fwd_plan(s, at.variant).units() : conv3d_rows(s).tasks();
  return sums * conv3d_stats_size(s.o) * i64(sizeof(f64));
}

inline i64 conv3d_scratch(const ConvShape& s, i64 variant) {
  return variant != 0 ? WinogradBuffers(winograd_fwd_plan(s, variant)).total * i64(sizeof(f32)) : 0;
}

inline i64 conv3d_fwd_scratch(const Args& a) {
  const auto& at = attrs<Conv3dAttrs>(a);
  return conv3d_scratch(conv3d_fwd_shape(a.t[Conv3dFwd::x], a.t[Conv3dFwd::y], at), at.variant);
}

inline i32 conv3d_fwd_fast_check(const Args& a) {
  using T = Conv3dFwd;
  if (const i32 status = conv3d_fwd_check(a)) return status;
  return attrs<Conv3dAttrs>(a).stats != 0 && !holds(a.t[T::ws], conv3d_fwd_bytes(a, T::ws)) ? kBadShape : kOk;
}

// Tasks of either algorithm. `call(E{})` makes the call for what activations are held in.
template <Dot dot, class Call>
inline void conv3d_tasks(const ConvShape& s, i64 variant, const Tensor& x, Call call, void* scratch, i64 begin, i64 end) {
  const auto direct = [&]<class E>(E) {
    const ConvRows rows = conv3d_rows(s);
    ConvCall<E> c = call(E{});
    c.dot = dot;
    for (i64 t = begin; t < end; ++t) conv3d_task(rows, c, t);
  };
  if constexpr (dot != Dot::none)
    if (variant == 0 && packs_pairs(s.i, x.dtype)) return direct(dot16{});
  of_element(x, [&]<class E>(E) {
    if (variant != 0)
      winograd_run(winograd_fwd_plan(s, variant), call(E{}), static_cast<f32*>(scratch), begin, end);
    else
      direct(E{});
  });
}

template <Dot dot>
inline i32 conv3d_fwd_of(const Args& a, i32 phase, i64 begin, i64 end) {
  using T = Conv3dFwd;
  const auto& at = attrs<Conv3dAttrs>(a);
  const Tensor &x = a.t[T::x], &y = a.t[T::y];
  const ConvShape s = conv3d_fwd_shape(x, y, at);
  f64* stats = at.stats != 0 ? ptr<f64>(a, T::ws) : nullptr;
  if (phase == 0) {
    const auto call = [&]<class E>(E) {
      return ConvCall<E>{ptr<const E>(a, T::x), x.ld, ptr<const f32>(a, T::wp), optional_ptr<const f32>(a, T::b),
                         ptr<E>(a, T::y), y.ld, false, at.act != 0, f32(at.slope), stats, Dot::none};
    };
    conv3d_tasks<dot>(s, at.variant, x, call, a.scratch, begin, end);
    return kOk;
  }
  const auto combine = [&](i64 sums, auto voxels) {
    for (i64 c = begin * kPackLanes; c < imin(end * kPackLanes, y.s[4]); ++c)
      conv3d_stats(sums, y.s[4], voxels, stats, c, ptr<f32>(a, T::mean), ptr<f32>(a, T::var));
  };
  if (at.variant != 0) {
    const WinogradPlan p = winograd_fwd_plan(s, at.variant);
    combine(p.units(), [&](i64 unit) { return winograd_voxels(p, unit); });
  } else {
    const ConvRows rows = conv3d_rows(s);
    combine(rows.tasks(), [&](i64 t) { return rows.voxels(t); });
  }
  return kOk;
}

inline i32 conv3d_fwd_run(const Args& a, i32 phase, i64 begin, i64 end) {
  return conv3d_fwd_of<Dot::none>(a, phase, begin, end);
}

// conv3d_bwd_x: writes dx, or adds where accumulate = 1.
inline ConvShape conv3d_bwd_x_shape(const Args& a) {
  using T = Conv3dBwdX;
  return conv3d_bwd_x_shape(a.t[T::dy], a.t[T::dx], attrs<Conv3dAttrs>(a));
}

inline i64 conv3d_bwd_x_tasks(const Args& a, i32) {
  const ConvShape s = conv3d_bwd_x_shape(a);
  const i64 variant = attrs<Conv3dAttrs>(a).variant;
  return variant != 0 ? winograd_fwd_plan(s, variant).tasks() : conv3d_rows(s).tasks();
}

inline i64 conv3d_bwd_x_bytes(const Args&, i32) { return 0; }

inline i64 conv3d_bwd_x_scratch(const Args& a) { return conv3d_scratch(conv3d_bwd_x_shape(a), attrs<Conv3dAttrs>(a).variant); }

template <Dot dot>
inline i32 conv3d_bwd_x_of(const Args& a, i32, i64 begin, i64 end) {
  using T = Conv3dBwdX;
  const auto& at = attrs<Conv3dAttrs>(a);
  const ConvShape s = conv3d_bwd_x_shape(a);
  const Tensor &dy = a.t[T::dy], &dx = a.t[T::dx];
  const auto call = [&]<class E>(E) {
    return ConvCall<E>{ptr<const E>(a, T::dy), dy.ld, ptr<const f32>(a, T::wp), nullptr,
                       ptr<E>(a, T::dx), dx.ld, at.accumulate != 0, false, 0, nullptr, Dot::none};
  };
  conv3d_tasks<dot>(s, at.variant, dy, call, a.scratch, begin, end);
  return kOk;
}

inline i32 conv3d_bwd_x_run(const Args& a, i32 phase, i64 begin, i64 end) {
  return conv3d_bwd_x_of<Dot::none>(a, phase, begin, end);
}

}  // namespace
}  // namespace macl

#define CONV3D_KERNELS                                                                                               \
  MACL_KERNEL(conv3d_pack, Conv3dPackAttrs, 1, conv3d_pack_tasks, conv3d_pack_bytes, conv3d_pack_check),             \
  {MACL_SPEC(conv3d_fwd, Conv3dAttrs, conv3d_fwd_fast_check, conv3d_fwd_bytes, conv3d_fwd_scratch), 2,               \
   conv3d_fwd_tasks, conv3d_fwd_run},                                                                                \
  {MACL_SPEC(conv3d_bwd_x, Conv3dAttrs, conv3d_bwd_x_check, conv3d_bwd_x_bytes, conv3d_bwd_x_scratch), 1,            \
   conv3d_bwd_x_tasks, conv3d_bwd_x_run},                                                                            \
  {MACL_SPEC(conv3d_bwd_w, Conv3dAttrs, conv3d_bwd_w_fast_check, conv3d_bwd_w_bytes, conv3d_bwd_w_scratch), 2,       \
   conv3d_bwd_w_tasks, conv3d_bwd_w_run}
