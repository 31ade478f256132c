// How kernels over voxels × channels are laid out. A thread keeps `N` neighbouring channels (4 where everything is 16-byte
// aligned, else 1) and walks over voxels, so that a channel's numbers are computed once and loads coalesce.
#pragma once
#include <cmath>

#include "launch.h"

namespace macl {
namespace gpu {

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};
template <int N, class T>
__device__ inline Pack<T, N> load_pack(const T* p) {
  return *reinterpret_cast<const Pack<T, N>*>(p);
}
template <int N, class T>
__device__ inline void store_pack(T* p, const Pack<T, N>& v) {
  *reinterpret_cast<Pack<T, N>*>(p) = v;
}

// Quotients of numbers that nearly always fit 32 bits, where a division is several times faster.
__host__ __device__ inline i64 quotient(i64 a, i64 b) {
  if (static_cast<u64>(a | b) >> 32 == 0) return static_cast<u32>(a) / static_cast<u32>(b);
  return a / b;
}

// A tensor's data and row stride, as kernels take it.
template <class T>
struct View {
  T* data;
  i64 ld;
};
using F32View = View<f32>;
template <class T = f32>
inline View<T> view(const Args& a, int i) {
  return i >= 0 && i < a.count ? View<T>{static_cast<T*>(a.t[i].data), a.t[i].ld} : View<T>{nullptr, 0};
}

// May rows of this tensor be read N elements of `item` bytes at a time? An absent one may.
inline bool is_packed(const Tensor& t, int n, i64 item) {
  return t.data == nullptr || (t.ld % n == 0 && reinterpret_cast<unsigned long long>(t.data) % (n * item) == 0);
}
// 4, or 1 where the channels or one of the tensors do not allow it.
inline int pack_width(const Args&, i64 channels) { return channels % 4 == 0 ? 4 : 1; }
template <class... I>
inline int pack_width(const Args& a, i64 channels, int first, I... rest) {
  if (first >= 0 && first < a.count && !is_packed(a.t[first], 4, 4)) return 1;
  return pack_width(a, channels, rest...);
}

constexpr int kRowThreads = 256;

// A block is tx channel groups by ty rows; blockIdx.y counts further groups where there are more than tx.
struct RowTile {
  i64 channels, groups;
  int tx, ty;
  int threads() const { return tx * ty; }
  unsigned tiles() const { return static_cast<unsigned>(ceil_div(groups, tx)); }
  // Enough blocks to fill the device several times over, each thread with about `rows_each` rows or more. For kernels
  // whose elements do not depend on each other: which thread computes one does not matter.
  dim3 grid(i64 rows, i64 rows_each, const Launch& l) const {
    const i64 wanted = ceil_div(rows, ty * rows_each), most = ceil_div(i64(l.processors) * 16, tiles());
    return dim3(static_cast<unsigned>(wanted < 1 ? 1 : wanted < most ? wanted : most), tiles());
  }
};
inline RowTile row_tile(i64 channels, int width) {
  RowTile t;
  t.channels = channels;
  t.groups = channels / width;
  t.tx = static_cast<int>(t.groups < kRowThreads ? t.groups : kRowThreads);
  t.ty = kRowThreads / t.tx;
  return t;
}
// This thread's place in a RowTile.
struct RowPlace {
  int x, y;
  i64 group;
  __device__ explicit RowPlace(const RowTile& t)
      : x(static_cast<int>(threadIdx.x) % t.tx),
        y(static_cast<int>(threadIdx.x) / t.tx),
        group(static_cast<i64>(blockIdx.y) * t.tx + x) {}
};

// Rows of one chunk of a sum over voxels: a block's work. From shapes alone, so that the order of a sum does not depend
// on the device; about 1,024 chunks of a large tensor.
inline i64 sum_chunk(i64 rows, i64 channels) {
  const i64 least = ceil_div(4096, channels), many = ceil_div(rows, 1024);
  return least > many ? least : many;
}
inline i64 sum_chunks(i64 rows, i64 channels) { return ceil_div(rows, sum_chunk(rows, channels)); }

// A grid of voxels or windows, counted n, d, h, w with w fastest.
struct Grid3 {
  i64 d, h, w;
  __host__ __device__ i64 at(i64 n, i64 z, i64 y, i64 x) const { return ((n * d + z) * h + y) * w + x; }
};
struct Place3 {
  i64 n, d, h, w;
  __device__ Place3(i64 id, const Grid3& g) {
    const i64 rows = quotient(id, g.w);
    w = id - rows * g.w;
    const i64 slices = quotient(rows, g.h);
    h = rows - slices * g.h;
    n = quotient(slices, g.d);
    d = slices - n * g.d;
  }
};
inline Grid3 grid_of(const Tensor& t) { return {t.s[1], t.s[2], t.s[3]}; }

}  // namespace gpu
}  // namespace macl
