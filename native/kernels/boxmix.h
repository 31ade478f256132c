// boxmix: two images mixed by boxes. Equation: native/ops/boxmix.h. f, b and x may be slices of channels, and bf16 alike,
// labels one of a wider tensor. A task is a row along W: the boxes write its labels in order, then the labels say what is
// mixed. It writes.
#pragma once
#include "../ops/boxmix.h"
#include "math.h"

namespace macl {
namespace {

constexpr i64 kMostLevels = 255;

inline i32 boxmix_fwd_check(const Args& a) {
  const Tensor &f = a.t[BoxmixFwd::f], &boxes = a.t[BoxmixFwd::boxes], &labels = a.t[BoxmixFwd::labels];
  const i64 levels = attrs<BoxmixAttrs>(a).levels;
  MACL_NEED(are_alike(a, BoxmixFwd::f, BoxmixFwd::b, BoxmixFwd::x), kBadDType);
  MACL_NEED(levels >= 1 && levels <= kMostLevels, kBadAttr);
  MACL_NEED(is_voxels(f) && is_voxels(a.t[BoxmixFwd::b]) && is_voxels(a.t[BoxmixFwd::x]), kBadShape);
  MACL_NEED(same_shape(f, a.t[BoxmixFwd::b]) && same_shape(f, a.t[BoxmixFwd::x]), kBadShape);
  MACL_NEED(given(labels) && labels.dtype == kI32, kBadDType);
  MACL_NEED(same_grid(f, labels) && labels.s[4] == 1 && labels.ld >= 1, kBadShape);
  MACL_NEED(given(boxes) && boxes.s[0] == f.s[0] && boxes.s[2] == kBoxWords && boxes.s[3] == 1 && boxes.s[4] == 1,
            kBadShape);
  MACL_NEED(is_flat(boxes, boxes.s[0] * boxes.s[1] * kBoxWords, kI32), kBadShape);
  return kOk;
}
inline i64 boxmix_fwd_tasks(const Args& a, i32) {
  const Tensor& x = a.t[BoxmixFwd::x];
  return x.s[0] * x.s[1] * x.s[2];
}

// Of a box along one axis: does it hold `at`?
inline bool box_holds(const i32* box, int axis, i64 at) {
  return at >= box[axis] && at < static_cast<i64>(box[axis]) + box[3 + axis];
}

template <class E>
inline i32 boxmix_fwd_of(const Args& a, i64 begin, i64 end) {
  const Tensor &f = a.t[BoxmixFwd::f], &b = a.t[BoxmixFwd::b], &x = a.t[BoxmixFwd::x], &y = a.t[BoxmixFwd::labels];
  const i64 levels = attrs<BoxmixAttrs>(a).levels, count = a.t[BoxmixFwd::boxes].s[1];
  for (i64 task = begin; task < end; ++task) {
    const i64 h = task % x.s[2], d = task / x.s[2] % x.s[1], n = task / x.s[2] / x.s[1], v0 = task * x.s[3];
    const i32* box = ptr<i32>(a, BoxmixFwd::boxes) + n * count * kBoxWords;
    i32* label = ptr<i32>(a, BoxmixFwd::labels) + v0 * y.ld;
    for (i64 w = 0; w < x.s[3]; ++w) label[w * y.ld] = 0;
    for (i64 i = 0; i < count; ++i, box += kBoxWords) {
      if (box[6] < 0 || box[6] > levels) return kBadLabel;
      if (!box_holds(box, 0, d) || !box_holds(box, 1, h)) continue;
      const i64 w1 = imin(static_cast<i64>(box[2]) + box[5], x.s[3]);
      for (i64 w = imax(box[2], 0); w < w1; ++w) label[w * y.ld] = box[6];
    }
    for (i64 w = 0; w < x.s[3]; ++w) {
      const E *first = ptr<E>(a, BoxmixFwd::f) + (v0 + w) * f.ld, *second = ptr<E>(a, BoxmixFwd::b) + (v0 + w) * b.ld;
      E* out = ptr<E>(a, BoxmixFwd::x) + (v0 + w) * x.ld;
      const i64 level = label[w * y.ld];
      const f64 alpha = static_cast<f64>(level) / static_cast<f64>(levels);
      lanes(x.s[4], [&]<class V>(i64 c) {
        const V p = load<V>(first + c), q = load<V>(second + c);
        store(out + c, level == 0 ? q : level == levels ? p : p * splat<V>(alpha) + q * splat<V>(1 - alpha));
      });
    }
  }
  return kOk;
}
inline i32 boxmix_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  return of_element(a.t[BoxmixFwd::x], [&]<class E>(E) { return boxmix_fwd_of<E>(a, begin, end); });
}

#define BOXMIX_KERNELS MACL_KERNEL(boxmix_fwd, BoxmixAttrs, 1, boxmix_fwd_tasks, nullptr, boxmix_fwd_check)

}  // namespace
}  // namespace macl
