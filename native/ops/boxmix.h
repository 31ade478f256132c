// boxmix: two images mixed by boxes, and which share of the first a voxel has (VolumeFusion's pretext task):
//   labels[n, v] = level of the last box that holds v, 0 where none does;  α = labels / levels
//   x[n, v, c] = α · f[n, v, c] + (1 − α) · b[n, v, c], where α is 0 or 1 the value of b or f itself
// f, b, x [N, D, H, W, C]; labels int32 [N, D, H, W, 1]; boxes int32 [N, M, 7] (s = N,M,7,1,1): start D, H, W, size D, H,
// W, level 0 … levels. A box is cut at the grid, one without voxels is none. Another level gives kBadLabel. It has no
// gradient: what is mixed are inputs.
#pragma once
#include "types.h"

namespace macl {

constexpr int kBoxWords = 7;

#define BOXMIX_ATTRS(X) X(i64, levels)
MACL_ATTRS(BoxmixAttrs, BOXMIX_ATTRS)
#define BOXMIX_FWD_TENSORS(T, O, TO) T(f) T(b) T(boxes) TO T(x) T(labels)
MACL_TENSORS(BoxmixFwd, boxmix_fwd, BOXMIX_FWD_TENSORS)

}  // namespace macl
