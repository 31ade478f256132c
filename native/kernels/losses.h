// l1, softmaxce, dice: each forward, backward, and both in one. Equations: native/ops/losses.h. Activations and
// gradients may be slices of channels, and bf16 alike; labels are int32. Forward phases: 0 sums chunks into ws (float64), 1
// combines them in order; the fused kernels' phase 2 is the backward kernel's only one.
#pragma once
#include "../ops/losses.h"
#include "losses_softmax.h"
#include "math.h"

namespace macl {
namespace {

// ---- l1 ----
struct L1Places {  // indices of a kernel's tensors; −1 where it has none
  int loss, sums, meansq, dloss, da, db, ws;
};
constexpr L1Places kL1Fwd = {2, 3, 4, -1, -1, -1, 5};
constexpr L1Places kL1Bwd = {-1, 2, -1, 3, 4, 5, -1};
constexpr L1Places kL1FwdBwd = {3, 4, 5, 2, 6, 7, 8};

inline i32 l1_check(const Args& a, const L1Places& p) {
  using T = L1Fwd;
  MACL_NEED(are_alike(a, T::a, T::b, p.da < 0 ? T::a : p.da, p.db < 0 ? T::b : p.db), kBadDType);
  MACL_NEED(is_voxels(a.t[T::a]) && is_voxels(a.t[T::b]) && same_shape(a.t[T::a], a.t[T::b]), kBadShape);
  MACL_NEED(is_flat(a.t[p.sums], 2, kF64), kBadShape);
  if (p.loss >= 0) {
    MACL_NEED(is_scalar64(a.t[p.loss]) && given(a.t[p.ws]), kBadShape);
    MACL_NEED(!given(a.t[p.meansq]) || is_scalar64(a.t[p.meansq]), kBadShape);
  }
  if (p.da >= 0) {
    MACL_NEED(is_scalar64(a.t[p.dloss]) && is_voxels(a.t[p.da]) && is_voxels(a.t[p.db]), kBadShape);
    MACL_NEED(same_shape(a.t[T::a], a.t[p.da]) && same_shape(a.t[T::a], a.t[p.db]), kBadShape);
  }
  return kOk;
}
inline i64 l1_bytes(const Args& a, i32) { return voxel_chunks(a.t[L1Fwd::a]) * 24; }

template <class V>
MACL_INLINE V vabs(V x) {
  return x < splat<V>(real(0)) ? -x : x;
}
template <class E>
inline void l1_chunk(const Args& a, i64 task, f64* out) {
  using T = L1Fwd;
  const Tensor &p = a.t[T::a], &q = a.t[T::b];
  const i64 v0 = task * voxel_chunk(p.s[4]), rows = imin(voxel_chunk(p.s[4]), voxels(p) - v0);
  const E *x = ptr<E>(a, T::a) + v0 * p.ld, *y = ptr<E>(a, T::b) + v0 * q.ld;
  f64 diff = 0, size = 0, square = 0;
  lanes(p.s[4], [&]<class V>(i64 c) {
    V d = splat<V>(real(0)), s = d, m = d;
    for (i64 v = 0; v < rows; ++v) {
      const V u = load<V>(x + v * p.ld + c), w = load<V>(y + v * q.ld + c);
      d += vabs(u - w);
      s += vabs(u) + vabs(w);
      m += u * u;
    }
    for (int l = 0; l < Vec<V>::lanes; ++l) {
      diff += lane(d, l);
      size += lane(s, l);
      square += lane(m, l);
    }
  });
  out[0] = diff;
  out[1] = size * 0.5;
  out[2] = square;
}
inline void l1_combine(const Args& a, const L1Places& p) {
  using T = L1Fwd;
  f64 sum[3] = {0, 0, 0};
  const f64* ws = ptr<f64>(a, p.ws);
  for (i64 k = 0; k < voxel_chunks(a.t[T::a]); ++k)
    for (int i = 0; i < 3; ++i) sum[i] += ws[3 * k + i];
  const f64 n = static_cast<f64>(elements(a.t[T::a]));
  ptr<f64>(a, p.sums)[0] = sum[0];
  ptr<f64>(a, p.sums)[1] = sum[1];
  *ptr<f64>(a, p.loss) = attrs<L1Attrs>(a).relative ? sum[0] / (sum[1] + 1e-12) : sum[0] / n;
  if (has(a, p.meansq)) *ptr<f64>(a, p.meansq) = sum[2] / n;
}
template <class V>
MACL_INLINE V signed_as(V x, V c) {
  const V zero = splat<V>(real(0));
  const V negative = x < zero ? -c : zero;
  return x > zero ? c : negative;
}
template <class E>
inline void l1_gradient(const Args& a, const L1Places& p, i64 task) {
  using T = L1Fwd;
  const L1Attrs& at = attrs<L1Attrs>(a);
  const Tensor &ta = a.t[T::a], &tb = a.t[T::b], &da = a.t[p.da], &db = a.t[p.db];
  const f64 dloss = *ptr<f64>(a, p.dloss), diff = ptr<f64>(a, p.sums)[0], size = ptr<f64>(a, p.sums)[1] + 1e-12;
  const f64 to_diff = at.relative ? dloss / size : dloss / static_cast<f64>(elements(ta));
  const f64 to_size = at.relative ? dloss * diff / size / size * 0.5 : 0;
  const i64 v0 = task * voxel_chunk(ta.s[4]), v1 = imin(v0 + voxel_chunk(ta.s[4]), voxels(ta));
  for (i64 v = v0; v < v1; ++v)
    lanes(ta.s[4], [&]<class V>(i64 c) {
      const V g1 = splat<V>(to_diff), g2 = splat<V>(to_size);
      const V x = load<V>(ptr<E>(a, T::a) + v * ta.ld + c), y = load<V>(ptr<E>(a, T::b) + v * tb.ld + c);
      const V d = signed_as(x - y, g1), gx = d - signed_as(x, g2), gy = -d - signed_as(y, g2);
      E *ox = ptr<E>(a, p.da) + v * da.ld + c, *oy = ptr<E>(a, p.db) + v * db.ld + c;
      store(ox, at.accumulate ? load<V>(ox) + gx : gx);
      store(oy, at.accumulate ? load<V>(oy) + gy : gy);
    });
}
inline i32 l1_run(const Args& a, const L1Places& p, int step, i64 begin, i64 end) {
  if (begin >= end) return kOk;
  if (step == 1) {
    l1_combine(a, p);
    return kOk;
  }
  of_element(a.t[L1Fwd::a], [&]<class E>(E) {
    for (i64 task = begin; task < end; ++task) {
      if (step == 0)
        l1_chunk<E>(a, task, ptr<f64>(a, p.ws) + 3 * task);
      else
        l1_gradient<E>(a, p, task);
    }
  });
  return kOk;
}
inline i64 l1_tasks(const Args& a, i32 phase) { return phase == 1 ? 1 : voxel_chunks(a.t[L1Fwd::a]); }
inline i32 l1_fwd_check(const Args& a) { return l1_check(a, kL1Fwd); }
inline i32 l1_bwd_check(const Args& a) { return l1_check(a, kL1Bwd); }
inline i32 l1_fwdbwd_check(const Args& a) { return l1_check(a, kL1FwdBwd); }
inline i32 l1_fwd_run(const Args& a, i32 phase, i64 b, i64 e) { return l1_run(a, kL1Fwd, phase, b, e); }
inline i32 l1_bwd_run(const Args& a, i32, i64 b, i64 e) { return l1_run(a, kL1Bwd, 2, b, e); }
inline i32 l1_fwdbwd_run(const Args& a, i32 phase, i64 b, i64 e) { return l1_run(a, kL1FwdBwd, phase, b, e); }

#define LOSSES_KERNELS                                                                                        \
  MACL_KERNEL(l1_fwd, L1Attrs, 2, l1_tasks, l1_bytes, l1_fwd_check),                                          \
  MACL_KERNEL(l1_bwd, L1Attrs, 1, l1_tasks, nullptr, l1_bwd_check),                                           \
  MACL_KERNEL(l1_fwdbwd, L1Attrs, 3, l1_tasks, l1_bytes, l1_fwdbwd_check),                                    \
  MACL_KERNEL(softmaxce_fwd, SoftmaxceAttrs, 2, softmaxce_tasks, softmaxce_bytes, softmaxce_fwd_check),       \
  MACL_KERNEL(softmaxce_bwd, SoftmaxceAttrs, 1, softmaxce_tasks, nullptr, softmaxce_bwd_check),               \
  MACL_KERNEL(softmaxce_fwdbwd, SoftmaxceAttrs, 3, softmaxce_tasks, softmaxce_bytes, softmaxce_fwdbwd_check), \
  MACL_KERNEL(dice_fwd, DiceAttrs, 2, dice_tasks, dice_bytes, dice_fwd_check),                                \
  MACL_KERNEL(dice_bwd, DiceAttrs, 1, dice_tasks, nullptr, dice_bwd_check),                                   \
  MACL_KERNEL(dice_fwdbwd, DiceAttrs, 3, dice_tasks, dice_bytes, dice_fwdbwd_check)

}  // namespace
}  // namespace macl
