// add, copy, concat, fill, wsum, scale, round. Equations: native/ops/elementwise.h. Every tensor but the float64 scalars may be a
// slice of channels; add, copy, concat and fill take fp32, float64 and int32; add, copy and fill may commit. 16 bytes a
// thread where everything is aligned; dense tensors count as one row.
#include "../ops/elementwise.h"

#include "launch.h"
#include "rows.h"

namespace macl {
namespace gpu {
namespace {

constexpr int kThreads = 256;

// `rows` rows of `groups` packs.
struct Packs {
  i64 rows, groups;
  i64 count() const { return rows * groups; }
};
struct PackPlace {
  i64 row, at;  // the first element within the row
  __device__ PackPlace(i64 id, const Packs& p, int n) {
    row = p.rows == 1 ? 0 : quotient(id, p.groups);
    at = (id - row * p.groups) * n;
  }
};
__device__ inline i64 thread_id() { return static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline i64 grid_threads() { return static_cast<i64>(gridDim.x) * blockDim.x; }

template <class T, int N>
__global__ void add_fwd_packs_kernel(View<T> p, View<T> q, View<T> y, Packs packs, const i32* skip) {
  if (skipped(skip)) return;
  for (i64 id = thread_id(); id < packs.rows * packs.groups; id += grid_threads()) {
    const PackPlace at(id, packs, N);
    Pack<T, N> u = load_pack<N>(p.data + at.row * p.ld + at.at);
    const Pack<T, N> w = load_pack<N>(q.data + at.row * q.ld + at.at);
    for (int i = 0; i < N; ++i) u.v[i] = u.v[i] + w.v[i];
    store_pack<N>(y.data + at.row * y.ld + at.at, u);
  }
}
template <class T, int N>
__global__ void copy_fwd_packs_kernel(View<T> x, View<T> y, Packs packs, bool add, const i32* skip) {
  if (skipped(skip)) return;
  for (i64 id = thread_id(); id < packs.rows * packs.groups; id += grid_threads()) {
    const PackPlace at(id, packs, N);
    Pack<T, N> u = load_pack<N>(x.data + at.row * x.ld + at.at);
    T* o = y.data + at.row * y.ld + at.at;
    if (add) {
      const Pack<T, N> w = load_pack<N>(o);
      for (int i = 0; i < N; ++i) u.v[i] = w.v[i] + u.v[i];
    }
    store_pack<N>(o, u);
  }
}
template <class T, int N>
__global__ void fill_fwd_packs_kernel(View<T> y, Packs packs, T value, const i32* skip) {
  if (skipped(skip)) return;
  Pack<T, N> u;
  for (int i = 0; i < N; ++i) u.v[i] = value;
  for (i64 id = thread_id(); id < packs.rows * packs.groups; id += grid_threads()) {
    const PackPlace at(id, packs, N);
    store_pack<N>(y.data + at.row * y.ld + at.at, u);
  }
}
template <class T, int N>
__global__ void round_fwd_packs_kernel(View<T> x, View<T> y, Packs packs, const i32* skip) {
  if (skipped(skip)) return;
  for (i64 id = thread_id(); id < packs.rows * packs.groups; id += grid_threads()) {
    const PackPlace at(id, packs, N);
    Pack<T, N> u = load_pack<N>(x.data + at.row * x.ld + at.at);
    for (int i = 0; i < N; ++i) u.v[i] = round_bf16(u.v[i]);
    store_pack<N>(y.data + at.row * y.ld + at.at, u);
  }
}
// Both parts of a voxel in one launch: whole = [p, q] or back.
template <class T, int N>
__global__ void concat_packs_kernel(View<T> p, View<T> q, View<T> whole, Packs packs, i64 first, bool forward) {
  for (i64 id = thread_id(); id < packs.rows * packs.groups; id += grid_threads()) {
    const PackPlace at(id, packs, N);
    T* part = at.at < first ? p.data + at.row * p.ld + at.at : q.data + at.row * q.ld + (at.at - first);
    T* row = whole.data + at.row * whole.ld + at.at;
    if (forward)
      store_pack<N>(row, load_pack<N>(part));
    else
      store_pack<N>(part, load_pack<N>(row));
  }
}

// How tensors first … last are walked, N elements a pack.
template <class T>
struct Plan {
  Packs packs;
  bool wide;
  Shape shape;
};
template <class T>
constexpr int kWidePack = 16 / sizeof(T);
template <class T>
Plan<T> plan(const Args& a, const Launch& l, const Tensor& shape, bool may_flatten, i64 part = 0) {
  constexpr int n = kWidePack<T>;
  bool dense = may_flatten, wide = part % n == 0;
  for (int i = 0; i < a.count; ++i) {
    dense = dense && a.t[i].ld == a.t[i].s[4];
    wide = wide && reinterpret_cast<unsigned long long>(a.t[i].data) % 16 == 0;
  }
  Plan<T> p;
  p.packs = dense ? Packs{1, elements(shape)} : Packs{voxels(shape), shape.s[4]};
  wide = wide && p.packs.groups % n == 0;
  if (!dense)
    for (int i = 0; i < a.count; ++i) wide = wide && a.t[i].ld % n == 0;
  p.wide = wide;
  if (wide) p.packs.groups /= n;
  const i64 most = static_cast<i64>(l.processors) * 32, wanted = ceil_div(p.packs.count(), kThreads);
  p.shape = {dim3(static_cast<unsigned>(wanted < most ? wanted : most)), dim3(kThreads), 0, l.stream};
  return p;
}

template <class T>
void add_of(const Args& a, const Launch& l) {
  const auto p = plan<T>(a, l, a.t[AddFwd::a], true);
  launch(p.shape, p.wide ? add_fwd_packs_kernel<T, kWidePack<T>> : add_fwd_packs_kernel<T, 1>, view<T>(a, AddFwd::a),
         view<T>(a, AddFwd::b), view<T>(a, AddFwd::y), p.packs, l.skip);
}
template <class T>
void copy_of(const Args& a, const Launch& l) {
  const auto p = plan<T>(a, l, a.t[CopyFwd::x], true);
  launch(p.shape, p.wide ? copy_fwd_packs_kernel<T, kWidePack<T>> : copy_fwd_packs_kernel<T, 1>, view<T>(a, CopyFwd::x),
         view<T>(a, CopyFwd::y), p.packs, attrs_of<CopyAttrs>(a).accumulate != 0, l.skip);
}
template <class T>
void fill_of(const Args& a, const Launch& l) {
  const auto p = plan<T>(a, l, a.t[FillFwd::y], true);
  launch(p.shape, p.wide ? fill_fwd_packs_kernel<T, kWidePack<T>> : fill_fwd_packs_kernel<T, 1>, view<T>(a, FillFwd::y), p.packs,
         static_cast<T>(attrs_of<FillAttrs>(a).value), l.skip);
}
template <class T>
void concat_of(const Args& a, const Launch& l, int p, int q, int whole, bool forward) {
  const auto plan_ = plan<T>(a, l, a.t[whole], false, a.t[p].s[4]);
  launch(plan_.shape, plan_.wide ? concat_packs_kernel<T, kWidePack<T>> : concat_packs_kernel<T, 1>, view<T>(a, p),
         view<T>(a, q), view<T>(a, whole), plan_.packs, a.t[p].s[4], forward);
}
template <class T>
void round_of(const Args& a, const Launch& l) {
  const auto p = plan<T>(a, l, a.t[RoundFwd::x], true);
  launch(p.shape, p.wide ? round_fwd_packs_kernel<T, kWidePack<T>> : round_fwd_packs_kernel<T, 1>,
         view<T>(a, RoundFwd::x), view<T>(a, RoundFwd::y), p.packs, l.skip);
}
// Calls f with a null pointer of tensor 0's element type.
template <class F>
void by_dtype(const Args& a, F f) {
  switch (a.t[0].dtype) {
    case kF64:
      return f(static_cast<f64*>(nullptr));
    case kI32:
      return f(static_cast<i32*>(nullptr));
    default:
      return f(static_cast<f32*>(nullptr));
  }
}
void launch_add(const Args& a, const Launch& l) {
  by_dtype(a, [&](auto* t) { add_of<std::remove_pointer_t<decltype(t)>>(a, l); });
}
void launch_copy(const Args& a, const Launch& l) {
  by_dtype(a, [&](auto* t) { copy_of<std::remove_pointer_t<decltype(t)>>(a, l); });
}
void launch_fill(const Args& a, const Launch& l) {
  by_dtype(a, [&](auto* t) { fill_of<std::remove_pointer_t<decltype(t)>>(a, l); });
}
void launch_round(const Args& a, const Launch& l) {
  a.t[RoundFwd::x].dtype == kF64 ? round_of<f64>(a, l) : round_of<f32>(a, l);
}
void launch_concat_fwd(const Args& a, const Launch& l) {
  by_dtype(a, [&](auto* t) { concat_of<std::remove_pointer_t<decltype(t)>>(a, l, 0, 1, 2, true); });
}
void launch_concat_bwd(const Args& a, const Launch& l) {
  by_dtype(a, [&](auto* t) { concat_of<std::remove_pointer_t<decltype(t)>>(a, l, 1, 2, 0, false); });
}

// ---- float64 scalars ----
__global__ void wsum_fwd_kernel(const f64* s0, const f64* s1, const f64* s2, const f64* s3, WsumAttrs w, f64* total) {
  f64 sum = 0;
  if (s0) sum += w.w0 * *s0;
  if (s1) sum += w.w1 * *s1;
  if (s2) sum += w.w2 * *s2;
  if (s3) sum += w.w3 * *s3;
  *total = sum;
}
void launch_wsum(const Args& a, const Launch& l) {
  using T = WsumFwd;
  launch({dim3(1), dim3(1), 0, l.stream}, wsum_fwd_kernel, pointer<f64>(a, T::s0), pointer<f64>(a, T::s1), pointer<f64>(a, T::s2),
         pointer<f64>(a, T::s3), attrs_of<WsumAttrs>(a), pointer<f64>(a, T::total));
}
__global__ void scale_fwd_kernel(const f64* x, f64 factor, f64* y) { *y = factor * *x; }
void launch_scale(const Args& a, const Launch& l) {
  using T = ScaleFwd;
  launch({dim3(1), dim3(1), 0, l.stream}, scale_fwd_kernel, pointer<f64>(a, T::x), attrs_of<ScaleAttrs>(a).factor,
         pointer<f64>(a, T::y));
}

}  // namespace

extern const GpuKernel elementwise_gpu[] = {MACL_GPU_COMMIT_KERNEL(add_fwd, AddAttrs, launch_add, nullptr),
                                            MACL_GPU_COMMIT_KERNEL(copy_fwd, CopyAttrs, launch_copy, nullptr),
                                            MACL_GPU_KERNEL(concat_fwd, ConcatAttrs, launch_concat_fwd, nullptr),
                                            MACL_GPU_KERNEL(concat_bwd, ConcatAttrs, launch_concat_bwd, nullptr),
                                            MACL_GPU_COMMIT_KERNEL(fill_fwd, FillAttrs, launch_fill, nullptr),
                                            MACL_GPU_KERNEL(wsum_fwd, WsumAttrs, launch_wsum, nullptr),
                                            MACL_GPU_KERNEL(scale_fwd, ScaleAttrs, launch_scale, nullptr),
                                            MACL_GPU_KERNEL(round_fwd, RoundAttrs, launch_round, nullptr),
                                            {}};

}  // namespace gpu
}  // namespace macl
