// softmaxce and dice: the losses over softmax. A group of kWide voxels is turned so that each class is one vector. Part
// of losses.h, which has their table entries. At most 128 classes (stack). Logits and their gradient may be bf16.
#pragma once
#include "../ops/losses.h"
#include "math.h"

namespace macl {
namespace {

constexpr i64 kMaxClasses = 128;
constexpr i64 kLossChunk = 1024;  // voxels of one task

// kWide voxels: logits, then (softmax) probabilities, class by class; labels as numbers of the element type, −1 where
// the voxel does not count.
struct SoftmaxGroup {
  alignas(64) real x[kMaxClasses * kWide];
  alignas(64) real label[kWide];
  vr max, sum;
  vr at(i64 k) const { return load<vr>(x + k * kWide); }
  // value where the label is k, else 0.
  vr where(i64 k, vr value) const {
    return load<vr>(label) == splat<vr>(static_cast<real>(k)) ? value : splat<vr>(real(0));
  }
  vr where_counted(vr value) const {
    const vr zero = splat<vr>(real(0));
    return load<vr>(label) >= zero ? value : zero;
  }
};
// Reads `rows` voxels (the other lanes are 0 and do not count); false on a label that is neither a class nor `ignore`.
template <class E>
inline bool read_group(SoftmaxGroup& g, const E* x, i64 ld, const i32* y, i64 ldy, i64 rows, i64 classes, i64 ignore) {
  i32 wrong = 0;
  const auto label = [&](int l, i32 v) {
    const bool skip = v == static_cast<i32>(ignore), inside = static_cast<u32>(v) < static_cast<u32>(classes);
    g.label[l] = inside && !skip ? static_cast<real>(v) : real(-1);
    wrong |= !inside && !skip;
  };
  if (rows == kWide) {
    for (i64 k = 0; k < classes; ++k)
      for (int l = 0; l < kWide; ++l) g.x[k * kWide + l] = x[l * ld + k];
    for (int l = 0; l < kWide; ++l) label(l, y[l * ldy]);
  } else {
    for (i64 k = 0; k < classes; ++k)
      for (int l = 0; l < kWide; ++l) g.x[k * kWide + l] = l < rows ? real(x[l * ld + k]) : real(0);
    for (int l = 0; l < kWide; ++l) label(l, l < rows ? y[l * ldy] : static_cast<i32>(ignore));
  }
  return !wrong;
}
// x becomes exp(x − max); sum their sum.
inline void exponentials(SoftmaxGroup& g, i64 classes) {
  vr max = load<vr>(g.x);
  for (i64 k = 1; k < classes; ++k) max = vmax(load<vr>(g.x + k * kWide), max);
  vr sum = splat<vr>(real(0));
  for (i64 k = 0; k < classes; ++k) {
    const vr e = vexp(load<vr>(g.x + k * kWide) - max);
    store(g.x + k * kWide, e);
    sum += e;
  }
  g.max = max;
  g.sum = sum;
}
inline void probabilities(SoftmaxGroup& g, i64 classes) {
  exponentials(g, classes);
  const vr scale = splat<vr>(real(1)) / g.sum;
  for (i64 k = 0; k < classes; ++k) store(g.x + k * kWide, load<vr>(g.x + k * kWide) * scale);
}
// Writes (or adds) class by class values back as rows.
template <class E>
inline void write_group(const real* values, E* dx, i64 ld, i64 rows, i64 classes, bool add) {
  const auto put = [&](i64 l, i64 k) {
    E& o = dx[l * ld + k];
    o = add ? o + values[k * kWide + l] : values[k * kWide + l];
  };
  if (rows == kWide) {
    for (i64 k = 0; k < classes; ++k)
      for (int l = 0; l < kWide; ++l) put(l, k);
  } else {
    for (i64 k = 0; k < classes; ++k)
      for (i64 l = 0; l < rows; ++l) put(l, k);
  }
}
inline bool is_labels(const Tensor& y, const Tensor& x) {
  return given(y) && y.dtype == kI32 && same_grid(x, y) && y.s[4] == 1 && y.ld >= 1;
}
inline bool is_logits(const Tensor& x) { return is_voxels(x) && x.s[4] <= kMaxClasses; }

// ---- softmaxce ----
struct CePlaces {
  int loss, count, dloss, dx, ws;
};
constexpr CePlaces kCeFwd = {3, 4, -1, -1, 5};
constexpr CePlaces kCeBwd = {-1, 3, 4, 5, -1};
constexpr CePlaces kCeFwdBwd = {4, 5, 3, 6, 7};

inline i32 softmaxce_check(const Args& a, const CePlaces& p) {
  using T = SoftmaxceFwd;
  const Tensor& x = a.t[T::x];
  MACL_NEED(are_alike(a, T::x, p.dx < 0 ? T::x : p.dx), kBadDType);
  MACL_NEED(is_logits(x) && is_labels(a.t[T::y], x), kBadShape);
  MACL_NEED(!given(a.t[T::cw]) || is_flat(a.t[T::cw], x.s[4], kF64), kBadShape);
  MACL_NEED(is_scalar64(a.t[p.count]), kBadShape);
  MACL_NEED(p.loss < 0 || (is_scalar64(a.t[p.loss]) && given(a.t[p.ws])), kBadShape);
  if (p.dx >= 0) {
    MACL_NEED(is_scalar64(a.t[p.dloss]) && is_voxels(a.t[p.dx]) && same_shape(x, a.t[p.dx]), kBadShape);
  }
  return kOk;
}
inline i64 loss_chunks(const Tensor& x) { return cdiv(voxels(x), kLossChunk); }
inline i64 softmaxce_bytes(const Args& a, i32) { return loss_chunks(a.t[SoftmaxceFwd::x]) * 16; }
inline i64 softmaxce_tasks(const Args& a, i32 phase) { return phase == 1 ? 1 : loss_chunks(a.t[SoftmaxceFwd::x]); }

// One chunk: step 0 sums weighted losses and weights into out[2]; step 2 writes the gradient.
template <class E>
inline i32 softmaxce_chunk(const Args& a, const CePlaces& p, int step, i64 task, f64* out) {
  using T = SoftmaxceFwd;
  const SoftmaxceAttrs& at = attrs<SoftmaxceAttrs>(a);
  const Tensor &x = a.t[T::x], &y = a.t[T::y];
  const i64 classes = x.s[4], v1 = imin((task + 1) * kLossChunk, voxels(x));
  const f64* cw = ptr<f64>(a, T::cw);
  f64 factor = 0;
  if (step == 2) {
    const f64 count = *ptr<f64>(a, p.count);
    factor = count != 0 ? *ptr<f64>(a, p.dloss) / count : 0;
  }
  const vr zero = splat<vr>(real(0));
  vr loss = zero, weight = zero;
  SoftmaxGroup g;
  for (i64 v = task * kLossChunk; v < v1; v += kWide) {
    const i64 rows = imin(kWide, v1 - v);
    if (!read_group(g, ptr<E>(a, T::x) + v * x.ld, x.ld, ptr<i32>(a, T::y) + v * y.ld, y.ld, rows, classes, at.ignore))
      return kBadLabel;
    vr w = g.where_counted(splat<vr>(real(1)));
    if (cw) {
      w = zero;
      for (i64 k = 0; k < classes; ++k) w += g.where(k, splat<vr>(cw[k]));
    }
    if (step == 0) {
      vr own = zero;
      for (i64 k = 0; k < classes; ++k) own += g.where(k, g.at(k));
      exponentials(g, classes);
      loss += g.where_counted((vlog(g.sum) - (own - g.max)) * w);
      weight += w;
    } else {
      probabilities(g, classes);
      w *= splat<vr>(factor);
      for (i64 k = 0; k < classes; ++k)
        store(g.x + k * kWide, g.where_counted((g.at(k) - g.where(k, splat<vr>(real(1)))) * w));
      const Tensor& dx = a.t[p.dx];
      write_group(g.x, ptr<E>(a, p.dx) + v * dx.ld, dx.ld, rows, classes, at.accumulate != 0);
    }
  }
  if (step == 0) {
    out[0] = sum_lanes(loss);
    out[1] = sum_lanes(weight);
  }
  return kOk;
}
inline i32 softmaxce_run(const Args& a, const CePlaces& p, int step, i64 begin, i64 end) {
  using T = SoftmaxceFwd;
  if (begin >= end) return kOk;
  if (step == 1) {
    f64 loss = 0, count = 0;
    const f64* ws = ptr<f64>(a, p.ws);
    for (i64 k = 0; k < loss_chunks(a.t[T::x]); ++k) {
      loss += ws[2 * k];
      count += ws[2 * k + 1];
    }
    *ptr<f64>(a, p.loss) = count != 0 ? loss / count : 0;
    *ptr<f64>(a, p.count) = count;
    return kOk;
  }
  return of_element(a.t[T::x], [&]<class E>(E) -> i32 {
    for (i64 task = begin; task < end; ++task) {
      f64* out = step == 0 ? ptr<f64>(a, p.ws) + 2 * task : nullptr;
      if (const i32 s = softmaxce_chunk<E>(a, p, step, task, out)) return s;
    }
    return kOk;
  });
}
inline i32 softmaxce_fwd_check(const Args& a) { return softmaxce_check(a, kCeFwd); }
inline i32 softmaxce_bwd_check(const Args& a) { return softmaxce_check(a, kCeBwd); }
inline i32 softmaxce_fwdbwd_check(const Args& a) { return softmaxce_check(a, kCeFwdBwd); }
inline i32 softmaxce_fwd_run(const Args& a, i32 phase, i64 b, i64 e) { return softmaxce_run(a, kCeFwd, phase, b, e); }
inline i32 softmaxce_bwd_run(const Args& a, i32, i64 b, i64 e) { return softmaxce_run(a, kCeBwd, 2, b, e); }
inline i32 softmaxce_fwdbwd_run(const Args& a, i32 phase, i64 b, i64 e) {
  return softmaxce_run(a, kCeFwdBwd, phase, b, e);
}

// ---- dice ----
struct DicePlaces {
  int loss, sums, dloss, dx, ws;
};
constexpr DicePlaces kDiceFwd = {2, 3, -1, -1, 4};
constexpr DicePlaces kDiceBwd = {-1, 2, 3, 4, -1};
constexpr DicePlaces kDiceFwdBwd = {3, 4, 2, 5, 6};

// The classes that count are first … K − 1.
inline i64 dice_first(const Args& a) { return attrs<DiceAttrs>(a).background ? 0 : 1; }
inline i64 dice_samples(const Args& a) { return attrs<DiceAttrs>(a).perSample ? a.t[DiceFwd::x].s[0] : 1; }
inline i64 dice_chunks(const Tensor& x) { return cdiv(x.s[1] * x.s[2] * x.s[3], kLossChunk); }  // of one sample
inline i32 dice_check(const Args& a, const DicePlaces& p) {
  using T = DiceFwd;
  const Tensor& x = a.t[T::x];
  MACL_NEED(are_alike(a, T::x, p.dx < 0 ? T::x : p.dx), kBadDType);
  MACL_NEED(is_logits(x) && x.s[4] >= 2 && is_labels(a.t[T::y], x), kBadShape);
  MACL_NEED(is_flat(a.t[p.sums], dice_samples(a) * x.s[4] * 3, kF64), kBadShape);
  MACL_NEED(p.loss < 0 || (is_scalar64(a.t[p.loss]) && given(a.t[p.ws])), kBadShape);
  if (p.dx >= 0) {
    MACL_NEED(is_scalar64(a.t[p.dloss]) && is_voxels(a.t[p.dx]) && same_shape(x, a.t[p.dx]), kBadShape);
  }
  return kOk;
}
inline i64 dice_bytes(const Args& a, i32) {
  using T = DiceFwd;
  const Tensor& x = a.t[T::x];
  return x.s[0] * dice_chunks(x) * x.s[4] * 24;
}
inline i64 dice_tasks(const Args& a, i32 phase) { return phase == 1 ? 1 : a.t[DiceFwd::x].s[0] * dice_chunks(a.t[DiceFwd::x]); }

// Σ p·y, Σ p, Σ y of a chunk, a class after the other.
template <class E>
inline i32 dice_chunk(const Args& a, i64 task, f64* out) {
  using T = DiceFwd;
  const Tensor &x = a.t[T::x], &y = a.t[T::y];
  const i64 classes = x.s[4], per = x.s[1] * x.s[2] * x.s[3], n = task / dice_chunks(x);
  const i64 v0 = n * per + task % dice_chunks(x) * kLossChunk, v1 = imin(v0 + kLossChunk, (n + 1) * per);
  alignas(64) real sums[3][kMaxClasses * kWide];
  const auto add = [&](int i, i64 k, vr value) {
    real* sum = sums[i] + k * kWide;
    store(sum, load<vr>(sum) + value);
  };
  for (int i = 0; i < 3; ++i)
    for (i64 k = 0; k < classes * kWide; ++k) sums[i][k] = real(0);
  SoftmaxGroup g;
  for (i64 v = v0; v < v1; v += kWide) {
    const i64 rows = imin(kWide, v1 - v);
    if (!read_group(g, ptr<E>(a, T::x) + v * x.ld, x.ld, ptr<i32>(a, T::y) + v * y.ld, y.ld, rows, classes,
                    attrs<DiceAttrs>(a).ignore))
      return kBadLabel;
    probabilities(g, classes);
    for (i64 k = 0; k < classes; ++k) {
      add(0, k, g.where(k, g.at(k)));
      add(1, k, g.where_counted(g.at(k)));
      add(2, k, g.where(k, splat<vr>(real(1))));
    }
  }
  for (i64 k = 0; k < classes; ++k)
    for (int i = 0; i < 3; ++i) out[3 * k + i] = sum_lanes(load<vr>(sums[i] + k * kWide));
  return kOk;
}
inline void dice_combine(const Args& a, const DicePlaces& p) {
  using T = DiceFwd;
  const i64 samples = dice_samples(a), classes = a.t[T::x].s[4], all = a.t[T::x].s[0] * dice_chunks(a.t[T::x]);
  const i64 first = dice_first(a);
  const f64 smooth = attrs<DiceAttrs>(a).smooth;
  f64* sums = ptr<f64>(a, p.sums);
  f64 mean = 0;
  for (i64 s = 0; s < samples; ++s)
    for (i64 k = 0; k < classes; ++k) {
      f64* sum = sums + (s * classes + k) * 3;
      sum[0] = sum[1] = sum[2] = 0;
      for (i64 chunk = s * (all / samples); chunk < (s + 1) * (all / samples); ++chunk)
        for (int i = 0; i < 3; ++i) sum[i] += ptr<f64>(a, p.ws)[(chunk * classes + k) * 3 + i];
      if (k >= first) mean += (2 * sum[0] + smooth) / (sum[1] + sum[2] + smooth);
    }
  *ptr<f64>(a, p.loss) = 1 - mean / static_cast<f64>(samples * (classes - first));
}
template <class E>
inline i32 dice_gradient(const Args& a, const DicePlaces& p, i64 task) {
  using T = DiceFwd;
  const DiceAttrs& at = attrs<DiceAttrs>(a);
  const Tensor &x = a.t[T::x], &y = a.t[T::y], &dx = a.t[p.dx];
  const i64 classes = x.s[4], per = x.s[1] * x.s[2] * x.s[3], n = task / dice_chunks(x);
  const i64 v0 = n * per + task % dice_chunks(x) * kLossChunk, v1 = imin(v0 + kLossChunk, (n + 1) * per);
  // d loss / d p_k = other[k], and extra[k] more where k is the label.
  real extra[kMaxClasses], other[kMaxClasses];
  const i64 first = dice_first(a);
  const f64 share = *ptr<f64>(a, p.dloss) / static_cast<f64>(dice_samples(a) * (classes - first));
  for (i64 k = 0; k < classes; ++k) {
    const f64* sum = ptr<f64>(a, p.sums) + ((at.perSample ? n : 0) * classes + k) * 3;
    const f64 below = sum[1] + sum[2] + at.smooth, dice = (2 * sum[0] + at.smooth) / below;
    other[k] = static_cast<real>(k >= first ? share * dice / below : 0);
    extra[k] = static_cast<real>(k >= first ? -2 * share / below : 0);
  }
  SoftmaxGroup g;
  for (i64 v = v0; v < v1; v += kWide) {
    const i64 rows = imin(kWide, v1 - v);
    if (!read_group(g, ptr<E>(a, T::x) + v * x.ld, x.ld, ptr<i32>(a, T::y) + v * y.ld, y.ld, rows, classes, at.ignore))
      return kBadLabel;
    probabilities(g, classes);
    // Through the softmax: dx_k = p_k (g_k − Σ_j g_j p_j) with g_k = other_k, plus extra_k where the label is k.
    vr inner = splat<vr>(real(0));
    for (i64 k = 0; k < classes; ++k) inner += g.at(k) * (splat<vr>(other[k]) + g.where(k, splat<vr>(extra[k])));
    for (i64 k = 0; k < classes; ++k) {
      const vr to_p = splat<vr>(other[k]) + g.where(k, splat<vr>(extra[k]));
      store(g.x + k * kWide, g.where_counted(g.at(k) * (to_p - inner)));
    }
    write_group(g.x, ptr<E>(a, p.dx) + v * dx.ld, dx.ld, rows, classes, at.accumulate != 0);
  }
  return kOk;
}
inline i32 dice_run(const Args& a, const DicePlaces& p, int step, i64 begin, i64 end) {
  using T = DiceFwd;
  if (begin >= end) return kOk;
  if (step == 1) {
    dice_combine(a, p);
    return kOk;
  }
  const Tensor& x = a.t[T::x];
  return of_element(x, [&]<class E>(E) -> i32 {
    for (i64 task = begin; task < end; ++task) {
      const i32 s = step == 0 ? dice_chunk<E>(a, task, ptr<f64>(a, p.ws) + task * x.s[4] * 3) : dice_gradient<E>(a, p, task);
      if (s) return s;
    }
    return kOk;
  });
}
inline i32 dice_fwd_check(const Args& a) { return dice_check(a, kDiceFwd); }
inline i32 dice_bwd_check(const Args& a) { return dice_check(a, kDiceBwd); }
inline i32 dice_fwdbwd_check(const Args& a) { return dice_check(a, kDiceFwdBwd); }
inline i32 dice_fwd_run(const Args& a, i32 phase, i64 b, i64 e) { return dice_run(a, kDiceFwd, phase, b, e); }
inline i32 dice_bwd_run(const Args& a, i32, i64 b, i64 e) { return dice_run(a, kDiceBwd, 2, b, e); }
inline i32 dice_fwdbwd_run(const Args& a, i32 phase, i64 b, i64 e) { return dice_run(a, kDiceFwdBwd, phase, b, e); }

}  // namespace
}  // namespace macl
