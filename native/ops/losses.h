// l1: loss = mean |a − b| (relative = 1: Σ|a − b| / (½ Σ(|a| + |b|) + 1e-12), which shrinking both cannot lower).
// The derivative of |v| at 0 is 0. meansq? is the mean of a² (the bottleneck's size, for the collapse watchdog).
//
// softmaxce: loss = Σ_v cw[y_v] · (log Σ_k exp x_vk − x_v,y) / Σ_v cw[y_v] over voxels whose label is not `ignore`
// (class weights cw [K] float64, absent = 1); no such voxel: 0. x [N,D,H,W,K], y int32 [N,D,H,W,1]. `count` is the
// float64 denominator. A label outside 0…K−1 that is not `ignore` gives kBadLabel.
//
// dice: p = softmax(x); per class k > 0 (background = 1: k ≥ 0 too), over the whole batch (perSample = 0) or per sample and then averaged (1):
// dice_k = (2 Σ p·y + smooth) / (Σ p + Σ y + smooth), ignored voxels left out; loss = 1 − mean over k (and samples).
// sums [N or 1, K, 3] float64: Σ p·y, Σ p, Σ y.
//
// Losses, dloss, counts and sums are float64. bwd reads what fwd saved. accumulate adds into the gradient.
#pragma once
#include "types.h"

namespace macl {

#define L1_ATTRS(X) X(i64, relative) X(i64, accumulate)
MACL_ATTRS(L1Attrs, L1_ATTRS)
// sums [2]: Σ|a−b|, ½Σ(|a|+|b|)
#define L1_FWD_TENSORS(T, O, TO) T(a) T(b) TO T(loss) T(sums) O(meansq) O(ws)
MACL_TENSORS(L1Fwd, l1_fwd, L1_FWD_TENSORS)
#define L1_BWD_TENSORS(T, O, TO) T(a) T(b) T(sums) T(dloss) TO T(da) T(db)
MACL_TENSORS(L1Bwd, l1_bwd, L1_BWD_TENSORS)
#define L1_FWDBWD_TENSORS(T, O, TO) T(a) T(b) T(dloss) TO T(loss) T(sums) O(meansq) T(da) T(db) O(ws)
MACL_TENSORS(L1Fwdbwd, l1_fwdbwd, L1_FWDBWD_TENSORS)

#define SOFTMAXCE_ATTRS(X) X(i64, ignore) X(i64, accumulate)
MACL_ATTRS(SoftmaxceAttrs, SOFTMAXCE_ATTRS)
#define SOFTMAXCE_FWD_TENSORS(T, O, TO) T(x) T(y) O(cw) TO T(loss) T(count) O(ws)
MACL_TENSORS(SoftmaxceFwd, softmaxce_fwd, SOFTMAXCE_FWD_TENSORS)
#define SOFTMAXCE_BWD_TENSORS(T, O, TO) T(x) T(y) O(cw) T(count) T(dloss) TO T(dx)
MACL_TENSORS(SoftmaxceBwd, softmaxce_bwd, SOFTMAXCE_BWD_TENSORS)
#define SOFTMAXCE_FWDBWD_TENSORS(T, O, TO) T(x) T(y) O(cw) T(dloss) TO T(loss) T(count) T(dx) O(ws)
MACL_TENSORS(SoftmaxceFwdbwd, softmaxce_fwdbwd, SOFTMAXCE_FWDBWD_TENSORS)

#define DICE_ATTRS(X) X(i64, ignore) X(i64, perSample) X(i64, background) X(f64, smooth) X(i64, accumulate)
MACL_ATTRS(DiceAttrs, DICE_ATTRS)
#define DICE_FWD_TENSORS(T, O, TO) T(x) T(y) TO T(loss) T(sums) O(ws)
MACL_TENSORS(DiceFwd, dice_fwd, DICE_FWD_TENSORS)
#define DICE_BWD_TENSORS(T, O, TO) T(x) T(y) T(sums) T(dloss) TO T(dx)
MACL_TENSORS(DiceBwd, dice_bwd, DICE_BWD_TENSORS)
#define DICE_FWDBWD_TENSORS(T, O, TO) T(x) T(y) T(dloss) TO T(loss) T(sums) T(dx) O(ws)
MACL_TENSORS(DiceFwdbwd, dice_fwdbwd, DICE_FWDBWD_TENSORS)

}  // namespace macl
