// supcon / densesupcon: position-aware supervised contrastive loss over the 2B vectors z1 (dominant, first) and z2
// (auxiliary), at each of S = D·H·W positions separately, averaged over S; S = 1 is the image-level loss.
//   u_i = z_i / max(|z_i|, 1e-12);  l_ij = u_i·u_j / tau;  P(i) = { j ≠ i : |pos_i − pos_j| < threshold on every axis }
//   loss = mean_s mean_i −(1/|P(i)|) Σ_{j∈P(i)} (l_ij − log Σ_{k≠i} exp l_ik) · scale
// z1, z2 [B, D, H, W, C]; pos [B, P] float64 with P = 1…3 (s = B,P,1,1,1); threshold0…2 an axis. loss, cosine, dloss are
// float64 scalars; cosine is the mean off-diagonal cosine similarity (the collapse watchdog's), averaged over S.
// ws holds one partial a position. accumulate adds into dz1, dz2. One kernel serves both losses.
#pragma once
#include "types.h"

namespace macl {

#define SUPCON_ATTRS(X) \
  X(f64, tau) X(f64, scale) X(f64, threshold0) X(f64, threshold1) X(f64, threshold2) X(i64, accumulate)
MACL_ATTRS(SupconAttrs, SUPCON_ATTRS)
#define SUPCON_FWD_TENSORS(T, O, TO) T(z1) T(z2) T(pos) TO T(loss) T(cosine) O(ws)
MACL_TENSORS(SupconFwd, supcon_fwd, SUPCON_FWD_TENSORS)
#define SUPCON_BWD_TENSORS(T, O, TO) T(z1) T(z2) T(pos) T(dloss) TO T(dz1) T(dz2) O(ws)
MACL_TENSORS(SupconBwd, supcon_bwd, SUPCON_BWD_TENSORS)
#define SUPCON_FWDBWD_TENSORS(T, O, TO) T(z1) T(z2) T(pos) T(dloss) TO T(loss) T(cosine) T(dz1) T(dz2) O(ws)
MACL_TENSORS(SupconFwdbwd, supcon_fwdbwd, SUPCON_FWDBWD_TENSORS)

}  // namespace macl
