// Small dense matrix products for supcon: c [m, n] = a [m, k] · b [k, n], n a multiple of kWide, all rows in one
// scratch. Tiles of 4 rows by 2 vectors stay in registers. Not a general product: nothing is blocked for cache.
#pragma once
#include "math.h"

namespace macl {
namespace {

template <int Rows, int Vectors>
inline void matmul_tile(const real* a, i64 lda, const real* b, i64 ldb, real* c, i64 ldc, i64 k) {
  vr sum[Rows][Vectors];
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < Vectors; ++v) sum[r][v] = splat<vr>(real(0));
  for (i64 i = 0; i < k; ++i) {
    vr right[Vectors];
    for (int v = 0; v < Vectors; ++v) right[v] = load<vr>(b + i * ldb + v * kWide);
    for (int r = 0; r < Rows; ++r) {
      const vr left = splat<vr>(a[r * lda + i]);
      for (int v = 0; v < Vectors; ++v) sum[r][v] += left * right[v];
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < Vectors; ++v) store(c + r * ldc + v * kWide, sum[r][v]);
}
template <int Vectors>
inline void matmul_column(const real* a, i64 lda, const real* b, i64 ldb, real* c, i64 ldc, i64 m, i64 k) {
  i64 r = 0;
  for (; r + 4 <= m; r += 4) matmul_tile<4, Vectors>(a + r * lda, lda, b, ldb, c + r * ldc, ldc, k);
  for (; r < m; ++r) matmul_tile<1, Vectors>(a + r * lda, lda, b, ldb, c + r * ldc, ldc, k);
}
inline void matmul(const real* a, i64 lda, const real* b, i64 ldb, real* c, i64 ldc, i64 m, i64 n, i64 k) {
  i64 j = 0;
  for (; j + 2 * kWide <= n; j += 2 * kWide) matmul_column<2>(a, lda, b + j, ldb, c + j, ldc, m, k);
  for (; j < n; j += kWide) matmul_column<1>(a, lda, b + j, ldb, c + j, ldc, m, k);
}

}  // namespace
}  // namespace macl
