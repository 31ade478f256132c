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
constexpr const char l1_fwd_tensors[] = "a b > loss sums meansq? ws?";  // sums [2]: Σ|a−b|, ½Σ(|a|+|b|)
constexpr const char l1_bwd_tensors[] = "a b sums dloss > da db";
constexpr const char l1_fwdbwd_tensors[] = "a b dloss > loss sums meansq? da db ws?";

#define SOFTMAXCE_ATTRS(X) X(i64, ignore) X(i64, accumulate)
MACL_ATTRS(SoftmaxceAttrs, SOFTMAXCE_ATTRS)
constexpr const char softmaxce_fwd_tensors[] = "x y cw? > loss count ws?";
constexpr const char softmaxce_bwd_tensors[] = "x y cw? count dloss > dx";
constexpr const char softmaxce_fwdbwd_tensors[] = "x y cw? dloss > loss count dx ws?";

#define DICE_ATTRS(X) X(i64, ignore) X(i64, perSample) X(i64, background) X(f64, smooth) X(i64, accumulate)
MACL_ATTRS(DiceAttrs, DICE_ATTRS)
constexpr const char dice_fwd_tensors[] = "x y > loss sums ws?";
constexpr const char dice_bwd_tensors[] = "x y sums dloss > dx";
constexpr const char dice_fwdbwd_tensors[] = "x y dloss > loss sums dx ws?";

}  // namespace macl
