// supcon: the position-aware contrastive loss at each of S positions, forward, backward, and both in one. Equation:
// native/ops/supcon.h. z1, z2, dz1, dz2 [B, D, H, W, C] may be slices of channels, and bf16 alike; 2B ≤ 512.
//
// A task is a fixed run of positions with scratch of its own in ws, of the element type: unit vectors u [2B, Cp] and turned
// [C, Mp], the similarities [2B, Mp], du [2B, Cp] (Cp, Mp: C, 2B filled up with zeros to whole vectors), 1/|z|, and which
// samples are positives. Phase 0 walks positions (loss and cosine of each into ws, gradients out); phase 1 adds them in order.
// A sample's own other view always is a positive.
#pragma once
#include "../ops/supcon.h"
#include "math.h"
#include "supcon_matrix.h"

namespace macl {
namespace {

struct SupconPlaces {  // indices of a kernel's tensors; −1 where it has none
  int dloss, loss, cosine, dz1, dz2, ws;
};
constexpr SupconPlaces kSupconFwd = {-1, 3, 4, -1, -1, 5};
constexpr SupconPlaces kSupconBwd = {3, -1, -1, 4, 5, 6};
constexpr SupconPlaces kSupconFwdBwd = {3, 4, 5, 6, 7, 8};
constexpr i64 kMaxVectors = 512;

struct SupconSizes {
  i64 batch, vectors, channels, cp, mp, positions;
  i64 u, turned, gram, du, inverse, positives, bytes;  // byte offsets in a task's scratch, and its size
  i64 tasks, per_task;
};
inline SupconSizes supcon_sizes(const Tensor& z) {
  SupconSizes s;
  s.batch = z.s[0];
  s.vectors = 2 * z.s[0];
  s.channels = z.s[4];
  s.cp = cdiv(s.channels, kWide) * kWide;
  s.mp = cdiv(s.vectors, kWide) * kWide;
  s.positions = z.s[1] * z.s[2] * z.s[3];
  i64 at = 0;
  // More than any memory stays so: sizes are asked before vectors are counted (kMaxVectors).
  const auto place = [&](i64 rows, i64 bytes) {
    const i64 here = at;
    at += cdiv(imin(times(rows, bytes), i64(1) << 56), 64) * 64;
    return here;
  };
  const i64 item = sizeof(real);
  s.u = place(s.vectors, s.cp * item);
  s.turned = place(s.channels, s.mp * item);
  s.gram = place(s.vectors, s.mp * item);
  s.du = place(s.vectors, s.cp * item);
  s.inverse = place(s.vectors, 8);
  s.positives = place(s.batch, s.mp * item);
  s.bytes = at;
  // As many tasks as scratch of 16 MiB holds, between 8 and 64.
  const i64 wanted = imin(64, imax(8, (i64(16) << 20) / s.bytes));
  s.per_task = cdiv(s.positions, wanted);
  s.tasks = cdiv(s.positions, s.per_task);
  return s;
}
inline i64 supcon_head(const SupconSizes& s) { return cdiv(s.positions * 16, 64) * 64; }
inline i64 supcon_bytes(const Args& a, i32) {
  using T = SupconFwd;
  const SupconSizes s = supcon_sizes(a.t[T::z1]);
  return supcon_head(s) + times(s.tasks, s.bytes);
}
inline i32 supcon_check(const Args& a, const SupconPlaces& p) {
  using T = SupconFwd;
  const SupconAttrs& at = attrs<SupconAttrs>(a);
  const Tensor &z = a.t[T::z1], &pos = a.t[T::pos];
  MACL_NEED(are_alike(a, T::z1, T::z2, p.dz1 < 0 ? T::z1 : p.dz1, p.dz2 < 0 ? T::z2 : p.dz2), kBadDType);
  MACL_NEED(is_voxels(z) && is_voxels(a.t[T::z2]) && same_shape(z, a.t[T::z2]), kBadShape);
  MACL_NEED(2 * z.s[0] <= kMaxVectors && given(a.t[p.ws]), kBadShape);
  MACL_NEED(pos.s[0] == z.s[0] && pos.s[1] >= 1 && pos.s[1] <= 3, kBadShape);
  MACL_NEED(is_flat(pos, pos.s[0] * pos.s[1], kF64), kBadShape);
  MACL_NEED(at.tau > 0 && finite64(at.tau) && finite64(at.scale), kBadAttr);
  MACL_NEED(p.loss < 0 || (is_scalar64(a.t[p.loss]) && is_scalar64(a.t[p.cosine])), kBadShape);
  if (p.dz1 >= 0) {
    MACL_NEED(is_scalar64(a.t[p.dloss]), kBadShape);
    MACL_NEED(is_voxels(a.t[p.dz1]) && same_shape(z, a.t[p.dz1]), kBadShape);
    MACL_NEED(is_voxels(a.t[p.dz2]) && same_shape(z, a.t[p.dz2]), kBadShape);
  }
  return kOk;
}

// Row b: 1 for the vectors whose sample is a positive of sample b (both views, and b's own), else 0; filled up with 0.
inline void supcon_positives(const Args& a, const SupconSizes& s, real* positives) {
  using T = SupconFwd;
  const SupconAttrs& at = attrs<SupconAttrs>(a);
  const i64 axes = a.t[T::pos].s[1];
  const f64 threshold[3] = {at.threshold0, at.threshold1, at.threshold2};
  const f64* pos = ptr<f64>(a, T::pos);
  for (i64 i = 0; i < s.batch; ++i) {
    real* row = positives + i * s.mp;
    for (i64 j = 0; j < s.mp; ++j) row[j] = real(0);
    for (i64 j = 0; j < s.batch; ++j) {
      bool near = true;
      for (i64 k = 0; k < axes; ++k) near = near && fabs64(pos[i * axes + k] - pos[j * axes + k]) < threshold[k];
      row[j] = row[s.batch + j] = near || i == j ? real(1) : real(0);
    }
  }
}

// Everything at one position. out: loss and cosine of the position (not yet divided by S), where asked for.
template <class E>
struct SupconTask {
  const Args& a;
  const SupconPlaces& p;
  const SupconSizes& s;
  u8* scratch;
  real* u() const { return reinterpret_cast<real*>(scratch + s.u); }
  real* turned() const { return reinterpret_cast<real*>(scratch + s.turned); }
  real* gram() const { return reinterpret_cast<real*>(scratch + s.gram); }
  real* du() const { return reinterpret_cast<real*>(scratch + s.du); }
  f64* inverse() const { return reinterpret_cast<f64*>(scratch + s.inverse); }
  real* positives() const { return reinterpret_cast<real*>(scratch + s.positives); }

  i64 at(const Tensor& t, i64 i, i64 position) const {
    return ((i < s.batch ? i : i - s.batch) * s.positions + position) * t.ld;
  }

  // A vector's next position lies behind it, and the vectors of one position lie far apart: asked for one position
  // early (an address past the end does no harm).
  void ask_for(const E* next) const {
    for (i64 c = 0; c < s.channels; c += 64 / i64(sizeof(E))) __builtin_prefetch(next + c);
  }

  // u, turned and 1 / max(|z|, 1e-12), stored negative where |z| is below: the gradient then has no projection.
  void normalise(i64 position) const {
    for (i64 i = 0; i < s.vectors; ++i) {
      const int which = i < s.batch ? 0 : 1;
      const E* z = ptr<E>(a, which) + at(a.t[which], i, position);
      ask_for(z + a.t[which].ld);
      vr squares = splat<vr>(real(0));
      i64 c0 = 0;
      for (; c0 + kWide <= s.channels; c0 += kWide) squares += load<vr>(z + c0) * load<vr>(z + c0);
      f64 square = sum_lanes(squares);
      for (; c0 < s.channels; ++c0) square += static_cast<f64>(z[c0]) * static_cast<f64>(z[c0]);
      const f64 norm = __builtin_sqrt(square);
      const bool tiny = norm < 1e-12;
      const f64 inverse_norm = tiny ? 1e12 : 1 / norm;
      inverse()[i] = tiny ? -inverse_norm : inverse_norm;
      real *row = u() + i * s.cp, *column = turned() + i;
      lanes(s.channels, [&]<class V>(i64 c) { store(row + c, load<V>(z + c) * splat<V>(inverse_norm)); });
      for (i64 c = 0; c < s.channels; ++c) column[c * s.mp] = row[c];
    }
  }

  // Row i of the similarities → its loss; where gradients are wanted, row i becomes d loss_i / d (u_i · u_j) · τ.
  void row(i64 i, bool gradient, f64& loss, f64& cosine) const {
    const f64 tau = attrs<SupconAttrs>(a).tau;
    const vr inv_tau = splat<vr>(1 / tau), zero = splat<vr>(real(0));
    real* g = gram() + i * s.mp;
    const real* positive = positives() + (i < s.batch ? i : i - s.batch) * s.mp;
    g[i] = real(0);
    vr all = zero, near = zero, count = zero;
    for (i64 j = 0; j < s.mp; j += kWide) {
      all += load<vr>(g + j);
      near += load<vr>(g + j) * load<vr>(positive + j);
      count += load<vr>(positive + j);
    }
    // The vector itself and what fills the row up are out of the sum of exponentials.
    const auto leave_out = [&](real value) {
      g[i] = value;
      for (i64 j = s.vectors; j < s.mp; ++j) g[j] = value;
    };
    leave_out(real(-3.0e38));
    vr top = load<vr>(g);
    for (i64 j = kWide; j < s.mp; j += kWide) top = vmax(load<vr>(g + j), top);
    const f64 max = max_lanes(top), positives_of_i = sum_lanes(count) - 1;  // not itself
    alignas(64) real e[kMaxVectors];
    vr exponentials = zero;
    for (i64 j = 0; j < s.mp; j += kWide) {
      const vr v = vexp((load<vr>(g + j) - splat<vr>(max)) * inv_tau);
      store(e + j, v);
      exponentials += v;
    }
    const f64 sum = sum_lanes(exponentials);
    cosine += sum_lanes(all);
    // log-sum-exp less the mean positive logit, both relative to the maximum.
    loss += __builtin_log(sum) + (max - sum_lanes(near) / positives_of_i) / tau;
    if (!gradient) return;
    const vr inv_sum = splat<vr>(1 / sum), less = splat<vr>(1 / positives_of_i);
    for (i64 j = 0; j < s.mp; j += kWide) store(g + j, load<vr>(e + j) * inv_sum - load<vr>(positive + j) * less);
    leave_out(real(0));
  }

  void position(i64 position, f64* out) const {
    normalise(position);
    matmul(u(), s.cp, turned(), s.mp, gram(), s.mp, s.vectors, s.mp, s.channels);
    const bool gradient = p.dz1 >= 0;
    f64 loss = 0, cosine = 0;
    for (i64 i = 0; i < s.vectors; ++i) row(i, gradient, loss, cosine);
    const SupconAttrs& attr = attrs<SupconAttrs>(a);
    out[0] = loss * attr.scale / static_cast<f64>(s.vectors);
    out[1] = cosine / static_cast<f64>(s.vectors * (s.vectors - 1));
    if (!gradient) return;
    // l_ij and l_ji are one number: G + Gᵀ.
    real* g = gram();
    for (i64 i = 0; i < s.vectors; ++i)
      for (i64 j = 0; j < i; ++j) {
        const real both = g[i * s.mp + j] + g[j * s.mp + i];
        g[i * s.mp + j] = g[j * s.mp + i] = both;
      }
    matmul(g, s.mp, u(), s.cp, du(), s.cp, s.vectors, s.cp, s.vectors);
    const f64 factor =
        *ptr<f64>(a, p.dloss) * attr.scale / attr.tau / (static_cast<f64>(s.vectors) * static_cast<f64>(s.positions));
    for (i64 i = 0; i < s.vectors; ++i) write_gradient(position, i, factor, attr.accumulate != 0);
  }

  // Through the normalisation: dz = (du − (du·u) u) / |z|.
  void write_gradient(i64 position, i64 i, f64 factor, bool add) const {
    const int which = i < s.batch ? p.dz1 : p.dz2;
    E* out = ptr<E>(a, which) + at(a.t[which], i, position);
    ask_for(out + a.t[which].ld);
    const real *ui = u() + i * s.cp, *di = du() + i * s.cp;
    vr dots = splat<vr>(real(0));
    for (i64 c = 0; c < s.cp; c += kWide) dots += load<vr>(ui + c) * load<vr>(di + c);
    const f64 dot = sum_lanes(dots);
    const f64 inverse_norm = inverse()[i];
    const real along = static_cast<real>(inverse_norm < 0 ? 0 : dot);
    const real size = static_cast<real>(fabs64(inverse_norm) * factor);
    lanes(s.channels, [&]<class V>(i64 c) {
      const V v = (load<V>(di + c) - load<V>(ui + c) * splat<V>(along)) * splat<V>(size);
      store(out + c, add ? load<V>(out + c) + v : v);
    });
  }
};

inline i32 supcon_run(const Args& a, const SupconPlaces& p, i32 phase, i64 begin, i64 end) {
  using T = SupconFwd;
  if (begin >= end) return kOk;
  const SupconSizes s = supcon_sizes(a.t[T::z1]);
  f64* partial = ptr<f64>(a, p.ws);
  if (phase == 1) {
    f64 loss = 0, cosine = 0;
    for (i64 k = 0; k < s.positions; ++k) {
      loss += partial[2 * k];
      cosine += partial[2 * k + 1];
    }
    *ptr<f64>(a, p.loss) = loss / static_cast<f64>(s.positions);
    *ptr<f64>(a, p.cosine) = cosine / static_cast<f64>(s.positions);
    return kOk;
  }
  of_element(a.t[T::z1], [&]<class E>(E) {
    for (i64 task = begin; task < end; ++task) {
      const SupconTask<E> t{a, p, s, ptr<u8>(a, p.ws) + supcon_head(s) + task * s.bytes};
      supcon_positives(a, s, t.positives());
      // What fills rows up to whole vectors is read by the multiplications, never written by normalise.
      for (i64 i = 0; i < s.vectors; ++i)
        for (i64 c = s.channels; c < s.cp; ++c) t.u()[i * s.cp + c] = real(0);
      for (i64 c = 0; c < s.channels; ++c)
        for (i64 i = s.vectors; i < s.mp; ++i) t.turned()[c * s.mp + i] = real(0);
      for (i64 k = task * s.per_task; k < imin((task + 1) * s.per_task, s.positions); ++k) t.position(k, partial + 2 * k);
    }
  });
  return kOk;
}
inline i64 supcon_tasks(const Args& a, i32 phase) { return phase == 0 ? supcon_sizes(a.t[SupconFwd::z1]).tasks : 1; }
inline i32 supcon_fwd_check(const Args& a) { return supcon_check(a, kSupconFwd); }
inline i32 supcon_bwd_check(const Args& a) { return supcon_check(a, kSupconBwd); }
inline i32 supcon_fwdbwd_check(const Args& a) { return supcon_check(a, kSupconFwdBwd); }
inline i32 supcon_fwd_run(const Args& a, i32 phase, i64 b, i64 e) { return supcon_run(a, kSupconFwd, phase, b, e); }
inline i32 supcon_bwd_run(const Args& a, i32 phase, i64 b, i64 e) { return supcon_run(a, kSupconBwd, phase, b, e); }
inline i32 supcon_fwdbwd_run(const Args& a, i32 phase, i64 b, i64 e) {
  return supcon_run(a, kSupconFwdBwd, phase, b, e);
}

#define SUPCON_KERNELS                                                                         \
  MACL_KERNEL(supcon_fwd, SupconAttrs, 2, supcon_tasks, supcon_bytes, supcon_fwd_check),       \
  MACL_KERNEL(supcon_bwd, SupconAttrs, 1, supcon_tasks, supcon_bytes, supcon_bwd_check),       \
  MACL_KERNEL(supcon_fwdbwd, SupconAttrs, 2, supcon_tasks, supcon_bytes, supcon_fwdbwd_check)

}  // namespace
}  // namespace macl
