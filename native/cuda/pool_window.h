// Pooling windows (kernel = stride, 1 or 2 an axis) over an input grid, those cut short by its end as well. Used by the
// pooling kernels and by normact's fused pooling.
#pragma once
#include "rows.h"

namespace macl {
namespace gpu {

struct PoolWindows {
  Grid3 in, grid;  // voxels; windows, the last ones of odd sizes cut short
  int sd, sh, sw;
};
inline PoolWindows pool_windows(const Tensor& x, i64 sd, i64 sh, i64 sw) {
  return {grid_of(x),
          {ceil_div(x.s[1], sd), ceil_div(x.s[2], sh), ceil_div(x.s[3], sw)},
          static_cast<int>(sd),
          static_cast<int>(sh),
          static_cast<int>(sw)};
}

// The window's voxels are numbered l = 4·d + 2·h + w, so that rising l is scan order.
struct PoolWindow {
  i64 first, row, slice;  // the first voxel; voxels from one row and from one slice to the next
  i64 pooled;             // the voxel of the pooled tensor
  int nd, nh, nw;
  bool whole;
  __device__ PoolWindow(i64 id, const PoolWindows& w) {
    const Place3 p(id, w.grid);
    const i64 d = p.d * w.sd, h = p.h * w.sh, x = p.w * w.sw;
    first = w.in.at(p.n, d, h, x);
    row = w.in.w;
    slice = w.in.h * w.in.w;
    nd = d + w.sd <= w.in.d ? w.sd : 1;
    nh = h + w.sh <= w.in.h ? w.sh : 1;
    nw = x + w.sw <= w.in.w ? w.sw : 1;
    whole = nd == w.sd && nh == w.sh && nw == w.sw;
    const Grid3 out{w.in.d / w.sd, w.in.h / w.sh, w.in.w / w.sw};
    pooled = whole ? out.at(p.n, p.d, p.h, p.w) : 0;
  }
  __device__ bool has(int l) const { return (l >> 2) < nd && (l >> 1 & 1) < nh && (l & 1) < nw; }
  __device__ i64 voxel(int l) const { return first + (l >> 2) * slice + (l >> 1 & 1) * row + (l & 1); }
};
// Pooling's maximum so far: the first of equal ones stays, NaN is taken.
__device__ inline bool pool_better(f32 v, f32 best) { return v > best || v != v; }

}  // namespace gpu
}  // namespace macl
