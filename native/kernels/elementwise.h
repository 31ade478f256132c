// add, copy, concat, fill, wsum, scale, round. Equations: native/ops/elementwise.h. Every tensor but the float64 scalars may
// be a slice of channels; add, copy, concat and fill take fp32, float64, int32 and (where there are vectors) bf16.
#pragma once
#include "../ops/elementwise.h"
#include "math.h"

namespace macl {
namespace {

// Rows of n numbers: y = f(a, b) with the widest vectors; whole dense ranges count as one row.
template <class F>
MACL_INLINE void each_row(const Tensor& t, i64 begin, i64 end, bool dense, F f) {
  const i64 chunk = voxel_chunk(t.s[4]), v0 = begin * chunk, v1 = imin(end * chunk, voxels(t));
  if (v0 >= v1) return;
  if (dense) {
    f(v0, (v1 - v0) * t.s[4]);
  } else {
    for (i64 v = v0; v < v1; ++v) f(v, t.s[4]);
  }
}
inline bool is_dense(const Tensor& t) { return t.ld == t.s[4]; }

// What `lanes` computes with: the element type, and bf16.
template <class T>
constexpr bool is_vectored = is_bf16<T> || (sizeof(T) == sizeof(real) && static_cast<T>(0.5) != 0);

template <class T>
MACL_INLINE void copy_row(T* y, const T* x, i64 n, bool add) {
  if constexpr (is_vectored<T>) {
    if (add)
      lanes(n, [&]<class V>(i64 i) { store(y + i, load<V>(y + i) + load<V>(x + i)); });
    else  // as bits: NaN in bf16 keeps its own
      lanes(n, [&]<class V>(i64 i) { __builtin_memcpy(y + i, x + i, sizeof(T) * Vec<V>::lanes); });
  } else {
    for (i64 i = 0; i < n; ++i) y[i] = add ? static_cast<T>(y[i] + x[i]) : x[i];
  }
}

template <class T>
inline void copy_tensor(const Tensor& x, const Tensor& y, i64 begin, i64 end, bool add) {
  const T* xp = static_cast<const T*>(x.data);
  T* yp = static_cast<T*>(y.data);
  each_row(x, begin, end, is_dense(x) && is_dense(y),
           [&](i64 v, i64 n) { copy_row(yp + v * y.ld, xp + v * x.ld, n, add); });
}

inline bool is_number(i32 dtype) { return dtype == kF32 || dtype == kF64 || dtype == kI32 || is_element(dtype); }
// f(T{}), with T what the numbers of a dtype are in memory.
template <class F>
inline i32 of_number(i32 dtype, F f) {
  switch (dtype) {
    case kF32:
      return f(f32{}), kOk;
    case kF64:
      return f(f64{}), kOk;
    case kI32:
      return f(i32{}), kOk;
#if !MACL_PLAIN
    case kBF16:
      return f(bf16{}), kOk;
#endif
    default:
      return kBadDType;
  }
}
inline bool is_slice(const Tensor& t) { return given(t) && is_number(t.dtype) && t.ld >= t.s[4]; }

// The first tensor's voxels, split; used by most kernels of this file.
inline i64 tasks_of_0(const Args& a, i32) { return voxel_chunks(a.t[0]); }
inline i64 tasks_one(const Args&, i32) { return 1; }

inline i32 add_fwd_check(const Args& a) {
  using T = AddFwd;
  MACL_NEED(is_slice(a.t[T::a]) && is_slice(a.t[T::b]) && is_slice(a.t[T::y]), kBadShape);
  MACL_NEED(same_shape(a.t[T::a], a.t[T::b]) && same_shape(a.t[T::a], a.t[T::y]), kBadShape);
  MACL_NEED(a.t[T::a].dtype == a.t[T::b].dtype && a.t[T::a].dtype == a.t[T::y].dtype, kBadDType);
  return kOk;
}
template <class T>
inline void add_tensors(const Args& a, i64 begin, i64 end) {
  const Tensor &p = a.t[AddFwd::a], &q = a.t[AddFwd::b], &y = a.t[AddFwd::y];
  const T *pp = ptr<T>(a, AddFwd::a), *qp = ptr<T>(a, AddFwd::b);
  T* yp = ptr<T>(a, AddFwd::y);
  each_row(p, begin, end, is_dense(p) && is_dense(q) && is_dense(y), [&](i64 v, i64 n) {
    const T *u = pp + v * p.ld, *w = qp + v * q.ld;
    T* o = yp + v * y.ld;
    if constexpr (is_vectored<T>) {
      lanes(n, [&]<class V>(i64 i) { store(o + i, load<V>(u + i) + load<V>(w + i)); });
    } else {
      for (i64 i = 0; i < n; ++i) o[i] = u[i] + w[i];
    }
  });
}
inline i32 add_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  using T = AddFwd;
  return of_number(a.t[T::a].dtype, [&]<class N>(N) { add_tensors<N>(a, begin, end); });
}

inline i32 copy_fwd_check(const Args& a) {
  using T = CopyFwd;
  MACL_NEED(is_slice(a.t[T::x]) && is_slice(a.t[T::y]) && same_shape(a.t[T::x], a.t[T::y]), kBadShape);
  MACL_NEED(a.t[T::x].dtype == a.t[T::y].dtype, kBadDType);
  return kOk;
}
inline i32 copy_any(const Tensor& x, const Tensor& y, i64 begin, i64 end, bool add) {
  return of_number(x.dtype, [&]<class T>(T) { copy_tensor<T>(x, y, begin, end, add); });
}
inline i32 copy_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  using T = CopyFwd;
  return copy_any(a.t[T::x], a.t[T::y], begin, end, attrs<CopyAttrs>(a).accumulate != 0);
}

// concat: both parts of a voxel together, so that the wide tensor is walked once.
inline i32 concat_check(const Tensor& p, const Tensor& q, const Tensor& whole) {
  MACL_NEED(is_slice(p) && is_slice(q) && is_slice(whole), kBadShape);
  MACL_NEED(same_grid(p, q) && same_grid(p, whole) && whole.s[4] == p.s[4] + q.s[4], kBadShape);
  MACL_NEED(p.dtype == q.dtype && p.dtype == whole.dtype, kBadDType);
  return kOk;
}
inline i32 concat_fwd_check(const Args& a) {
  using T = ConcatFwd;
  return concat_check(a.t[T::a], a.t[T::b], a.t[T::y]);
}
inline i32 concat_bwd_check(const Args& a) {
  using T = ConcatBwd;
  return concat_check(a.t[T::da], a.t[T::db], a.t[T::dy]);
}
template <class T>
inline void concat_tensors(const Tensor& p, const Tensor& q, const Tensor& whole, bool forward, i64 begin, i64 end) {
  T *pp = static_cast<T*>(p.data), *qp = static_cast<T*>(q.data), *wp = static_cast<T*>(whole.data);
  each_row(whole, begin, end, false, [&](i64 v, i64) {
    T *first = pp + v * p.ld, *second = qp + v * q.ld, *row = wp + v * whole.ld;
    copy_row(forward ? row : first, forward ? first : row, p.s[4], false);
    row += p.s[4];
    copy_row(forward ? row : second, forward ? second : row, q.s[4], false);
  });
}
inline i32 concat_any(const Tensor& p, const Tensor& q, const Tensor& whole, bool forward, i64 begin, i64 end) {
  return of_number(whole.dtype, [&]<class T>(T) { concat_tensors<T>(p, q, whole, forward, begin, end); });
}
inline i64 concat_fwd_tasks(const Args& a, i32) { return voxel_chunks(a.t[ConcatFwd::y]); }
inline i32 concat_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  using T = ConcatFwd;
  return concat_any(a.t[T::a], a.t[T::b], a.t[T::y], true, begin, end);
}
inline i32 concat_bwd_run(const Args& a, i32, i64 begin, i64 end) {
  using T = ConcatBwd;
  return concat_any(a.t[T::da], a.t[T::db], a.t[T::dy], false, begin, end);
}

inline i32 fill_fwd_check(const Args& a) { return is_slice(a.t[FillFwd::y]) ? kOk : kBadShape; }
template <class T>
inline void fill_tensor(const Tensor& y, i64 begin, i64 end, T value) {
  T* yp = static_cast<T*>(y.data);
  each_row(y, begin, end, is_dense(y), [&](i64 v, i64 n) {
    for (i64 i = 0; i < n; ++i) yp[v * y.ld + i] = value;
  });
}
inline i32 fill_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  using T = FillFwd;
  const f64 value = attrs<FillAttrs>(a).value;
  const Tensor& y = a.t[T::y];
  return of_number(y.dtype, [&]<class N>(N) {
    if constexpr (is_bf16<N>)
      fill_tensor<N>(y, begin, end, static_cast<f32>(round_bf16(value)));
    else
      fill_tensor<N>(y, begin, end, static_cast<N>(value));
  });
}

inline i32 wsum_fwd_check(const Args& a) {
  using T = WsumFwd;
  MACL_NEED(is_scalar64(a.t[T::s0]) && is_scalar64(a.t[T::total]), kBadShape);
  for (int i = 1; i < 4; ++i) MACL_NEED(!given(a.t[i]) || is_scalar64(a.t[i]), kBadShape);
  return kOk;
}
inline i32 wsum_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  using T = WsumFwd;
  if (begin >= end) return kOk;
  const WsumAttrs& w = attrs<WsumAttrs>(a);
  const f64 weights[4] = {w.w0, w.w1, w.w2, w.w3};
  f64 total = 0;
  for (int i = 0; i < 4; ++i)
    if (has(a, i)) total += weights[i] * *ptr<f64>(a, i);
  *ptr<f64>(a, T::total) = total;
  return kOk;
}

inline i32 scale_fwd_check(const Args& a) {
  return is_scalar64(a.t[ScaleFwd::x]) && is_scalar64(a.t[ScaleFwd::y]) ? kOk : kBadShape;
}
inline i32 scale_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  using T = ScaleFwd;
  if (begin >= end) return kOk;
  *ptr<f64>(a, T::y) = attrs<ScaleAttrs>(a).factor * *ptr<f64>(a, T::x);
  return kOk;
}

inline i32 round_fwd_check(const Args& a) {
  using T = RoundFwd;
  const Tensor &x = a.t[T::x], &y = a.t[T::y];
  MACL_NEED(is_slice(x) && is_slice(y) && same_shape(x, y), kBadShape);
  MACL_NEED(x.dtype == y.dtype && (x.dtype == kF32 || x.dtype == kF64), kBadDType);
  MACL_NEED(attrs<RoundAttrs>(a).dtype == kBF16, kBadAttr);
  return kOk;
}
template <class T>
inline void round_tensor(const Tensor& x, const Tensor& y, i64 begin, i64 end) {
  const T* xp = static_cast<const T*>(x.data);
  T* yp = static_cast<T*>(y.data);
  each_row(x, begin, end, is_dense(x) && is_dense(y), [&](i64 v, i64 n) {
    for (i64 i = 0; i < n; ++i) yp[v * y.ld + i] = round_bf16(xp[v * x.ld + i]);
  });
}
// Reads x, writes y.
inline i32 round_fwd_run(const Args& a, i32, i64 begin, i64 end) {
  const Tensor &x = a.t[RoundFwd::x], &y = a.t[RoundFwd::y];
  if (x.dtype == kF64)
    round_tensor<f64>(x, y, begin, end);
  else
    round_tensor<f32>(x, y, begin, end);
  return kOk;
}

#define ELEMENTWISE_KERNELS                                                             \
  MACL_KERNEL(add_fwd, AddAttrs, 1, tasks_of_0, nullptr, add_fwd_check),                \
  MACL_KERNEL(copy_fwd, CopyAttrs, 1, tasks_of_0, nullptr, copy_fwd_check),             \
  MACL_KERNEL(concat_fwd, ConcatAttrs, 1, concat_fwd_tasks, nullptr, concat_fwd_check), \
  MACL_KERNEL(concat_bwd, ConcatAttrs, 1, tasks_of_0, nullptr, concat_bwd_check),       \
  MACL_KERNEL(fill_fwd, FillAttrs, 1, tasks_of_0, nullptr, fill_fwd_check),             \
  MACL_KERNEL(wsum_fwd, WsumAttrs, 1, tasks_one, nullptr, wsum_fwd_check),              \
  MACL_KERNEL(scale_fwd, ScaleAttrs, 1, tasks_one, nullptr, scale_fwd_check),           \
  MACL_KERNEL(round_fwd, RoundAttrs, 1, tasks_of_0, nullptr, round_fwd_check)

}  // namespace
}  // namespace macl
