// gradnorm, sgd, adam over flat, dense ranges of n elements. Equations: native/ops/optim.h. One task is 16,384
// elements. Plain builds compute each element in float64 and round once; the tuned build computes in fp32 with
// coefficients from float64.
#pragma once
#include "../ops/optim.h"
#include "math.h"

namespace macl {
namespace {

constexpr i64 kOptimChunk = 16384;
inline i64 optim_chunks(const Tensor& g) { return cdiv(elements(g), kOptimChunk); }
inline bool is_range(const Tensor& t, const Tensor& g) { return is_flat(t, elements(g), kReal); }

// ---- gradnorm: phase 0 sums squares of chunks into ws (float64), phase 1 adds them in order ----
inline i32 gradnorm_fwd_check(const Args& a) {
  using T = GradnormFwd;
  MACL_NEED(is_range(a.t[T::g], a.t[T::g]) && is_scalar64(a.t[T::loss]), kBadShape);
  MACL_NEED(is_scalar64(a.t[T::norm]) && is_scalar64(a.t[T::clip]), kBadShape);
  MACL_NEED(is_flat(a.t[T::guard], 1, kI32) && given(a.t[T::ws]), kBadShape);
  return kOk;
}
inline i64 gradnorm_fwd_bytes(const Args& a, i32) { return optim_chunks(a.t[GradnormFwd::g]) * 8; }
inline i64 gradnorm_fwd_tasks(const Args& a, i32 phase) { return phase == 0 ? optim_chunks(a.t[GradnormFwd::g]) : 1; }
inline i32 gradnorm_fwd_run(const Args& a, i32 phase, i64 begin, i64 end) {
  using T = GradnormFwd;
  const i64 n = elements(a.t[T::g]);
  f64* ws = ptr<f64>(a, T::ws);
  if (phase == 0) {
    for (i64 task = begin; task < end; ++task) {
      const real* g = ptr<real>(a, T::g) + task * kOptimChunk;
      const i64 count = imin(kOptimChunk, n - task * kOptimChunk);
      // Eight float64 sums side by side: fp32 squares would overflow where the gradient does not.
      f64 s[8] = {0, 0, 0, 0, 0, 0, 0, 0};
      i64 i = 0;
      for (; i + 8 <= count; i += 8)
        for (int l = 0; l < 8; ++l) s[l] += static_cast<f64>(g[i + l]) * static_cast<f64>(g[i + l]);
      for (; i < count; ++i) s[0] += static_cast<f64>(g[i]) * static_cast<f64>(g[i]);
      ws[task] = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
    }
    return kOk;
  }
  if (begin >= end) return kOk;
  f64 sum = 0;
  for (i64 k = 0; k < optim_chunks(a.t[T::g]); ++k) sum += ws[k];
  const f64 norm = __builtin_sqrt(sum), limit = attrs<GradnormAttrs>(a).maxNorm;
  const bool bad = !finite64(norm) || !finite64(*ptr<f64>(a, T::loss));
  const f64 ratio = limit / (norm + 1e-6);
  *ptr<f64>(a, T::norm) = norm;
  *ptr<f64>(a, T::clip) = limit > 0 && ratio < 1 ? ratio : 1.0;
  *ptr<i32>(a, T::guard) = bad ? 1 : 0;
  return kOk;
}

// ---- sgd: w and m updated in place ----
inline i32 sgd_step_check(const Args& a) {
  using T = SgdStep;
  MACL_NEED(is_range(a.t[T::g], a.t[T::g]) && is_scalar64(a.t[T::lr]) && is_scalar64(a.t[T::clip]), kBadShape);
  MACL_NEED(is_range(a.t[T::w], a.t[T::g]) && is_range(a.t[T::m], a.t[T::g]), kBadShape);
  return kOk;
}
inline i64 optim_tasks(const Args& a, i32) { return optim_chunks(a.t[SgdStep::g]); }
inline i32 sgd_step_run(const Args& a, i32, i64 begin, i64 end) {
  using T = SgdStep;
  const SgdAttrs& p = attrs<SgdAttrs>(a);
  const f64 lr = *ptr<f64>(a, T::lr), clip = *ptr<f64>(a, T::clip);
  if (begin >= end) return kOk;
  const i64 first = begin * kOptimChunk, count = imin(end * kOptimChunk, elements(a.t[T::g])) - first;
  const real* g = ptr<real>(a, T::g) + first;
  real *w = ptr<real>(a, T::w) + first, *m = ptr<real>(a, T::m) + first;
#if MACL_PLAIN
  for (i64 i = 0; i < count; ++i) {
    const f64 step =
        p.momentum * static_cast<f64>(m[i]) + (clip * static_cast<f64>(g[i]) + p.weightDecay * static_cast<f64>(w[i]));
    m[i] = static_cast<real>(step);
    w[i] = static_cast<real>(static_cast<f64>(w[i]) - lr * step);
  }
#else
  lanes(count, [&]<class V>(i64 i) {
    const V x = load<V>(w + i);
    const V step =
        load<V>(m + i) * splat<V>(p.momentum) + (load<V>(g + i) * splat<V>(clip) + x * splat<V>(p.weightDecay));
    store(m + i, step);
    store(w + i, x - step * splat<V>(lr));
  });
#endif
  return kOk;
}

// ---- adam: w, m, v updated in place; phase 1 counts the step in t ----
inline i32 adam_step_check(const Args& a) {
  using T = AdamStep;
  MACL_NEED(is_range(a.t[T::g], a.t[T::g]) && is_scalar64(a.t[T::lr]) && is_scalar64(a.t[T::clip]), kBadShape);
  for (int i = 3; i < 6; ++i) MACL_NEED(is_range(a.t[i], a.t[T::g]), kBadShape);
  MACL_NEED(is_scalar64(a.t[T::t]), kBadShape);
  return kOk;
}
inline i64 adam_step_tasks(const Args& a, i32 phase) { return phase == 0 ? optim_chunks(a.t[AdamStep::g]) : 1; }

#if !MACL_PLAIN
template <class V>
MACL_INLINE V vsqrt(V x) {
  if constexpr (Vec<V>::lanes == 1) {
    return __builtin_sqrtf(x);
  } else {
#if defined(__clang__)
    return __builtin_elementwise_sqrt(x);
#else
#if defined(__AVX512F__)
    if constexpr (Vec<V>::lanes == 16)
      return __builtin_ia32_sqrtps512_mask(x, x, static_cast<u16>(-1), 4);
    else
#endif
#if defined(__AVX__)
        if constexpr (Vec<V>::lanes == 8)
      return __builtin_ia32_sqrtps256(x);
    else
#endif
    {
#if defined(__SSE__)
      return __builtin_ia32_sqrtps(x);
#else
      V y = x;
      for (int l = 0; l < Vec<V>::lanes; ++l) y[l] = __builtin_sqrtf(x[l]);
      return y;
#endif
    }
#endif
  }
}
#endif

inline i32 adam_step_run(const Args& a, i32 phase, i64 begin, i64 end) {
  using T = AdamStep;
  const AdamAttrs& p = attrs<AdamAttrs>(a);
  f64& steps = *ptr<f64>(a, T::t);
  if (begin >= end) return kOk;
  if (phase == 1) {
    steps += 1;
    return kOk;
  }
  const f64 lr = *ptr<f64>(a, T::lr), clip = *ptr<f64>(a, T::clip), t = steps + 1;
  const f64 correct1 = 1 - __builtin_pow(p.beta1, t), correct2 = 1 - __builtin_pow(p.beta2, t);
  const f64 keep = p.decoupled ? 1 - lr * p.weightDecay : 1.0, decay = p.decoupled ? 0.0 : p.weightDecay;
  const i64 first = begin * kOptimChunk, count = imin(end * kOptimChunk, elements(a.t[T::g])) - first;
  const real* gp = ptr<real>(a, T::g) + first;
  real *w = ptr<real>(a, T::w) + first, *m = ptr<real>(a, T::m) + first, *v = ptr<real>(a, T::v) + first;
#if MACL_PLAIN
  for (i64 i = 0; i < count; ++i) {
    const f64 x = static_cast<f64>(w[i]) * keep, g = clip * static_cast<f64>(gp[i]) + decay * static_cast<f64>(w[i]);
    const f64 m1 = p.beta1 * static_cast<f64>(m[i]) + (1 - p.beta1) * g;
    const f64 v1 = p.beta2 * static_cast<f64>(v[i]) + (1 - p.beta2) * g * g;
    m[i] = static_cast<real>(m1);
    v[i] = static_cast<real>(v1);
    w[i] = static_cast<real>(x - lr * (m1 / correct1) / (__builtin_sqrt(v1 / correct2) + p.eps));
  }
#else
  const f64 size = lr / correct1, spread = 1 / __builtin_sqrt(correct2);
  lanes(count, [&]<class V>(i64 i) {
    const V old = load<V>(w + i);
    const V g = load<V>(gp + i) * splat<V>(clip) + old * splat<V>(decay);
    const V m1 = load<V>(m + i) * splat<V>(p.beta1) + g * splat<V>(1 - p.beta1);
    const V v1 = load<V>(v + i) * splat<V>(p.beta2) + g * g * splat<V>(1 - p.beta2);
    store(m + i, m1);
    store(v + i, v1);
    store(w + i, old * splat<V>(keep) - m1 * splat<V>(size) / (vsqrt(v1) * splat<V>(spread) + splat<V>(p.eps)));
  });
#endif
  return kOk;
}

#define OPTIM_KERNELS                                                                                      \
  MACL_KERNEL(gradnorm_fwd, GradnormAttrs, 2, gradnorm_fwd_tasks, gradnorm_fwd_bytes, gradnorm_fwd_check), \
  MACL_KERNEL(sgd_step, SgdAttrs, 1, optim_tasks, nullptr, sgd_step_check),                                \
  MACL_KERNEL(adam_step, AdamAttrs, 2, adam_step_tasks, nullptr, adam_step_check)

}  // namespace
}  // namespace macl
