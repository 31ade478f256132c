// Optimisers over the flat parameter range: all parameters lie side by side in `state`, their gradients side by side in
// g, their moments likewise; n elements each. lr, clip, guard are scalars. All are commit kernels except gradnorm.
//
// gradnorm: norm = sqrt(Σ g²) (float64 partials of fixed chunks), clip = maxNorm > 0 ? min(1, maxNorm / (norm + 1e-6)) : 1,
// guard = 1 (int32) where norm or loss is not finite, else 0. The engine skips every commit instruction while guard ≠ 0.
// sgd (PyTorch's, dampening 0): g ← clip·g + weightDecay·w; m ← momentum·m + g; w ← w − lr·m. A zero m at the first step
// gives PyTorch's first step.
// adam (PyTorch's): t ← t + 1 (float64 scalar in state); decoupled = 0: g ← clip·g + weightDecay·w; 1 (adamw):
// w ← w − lr·weightDecay·w first; m, v, bias corrections in float64; w ← w − lr · m̂ / (sqrt(v̂) + eps).
#pragma once
#include "types.h"

namespace macl {

#define GRADNORM_ATTRS(X) X(f64, maxNorm)
MACL_ATTRS(GradnormAttrs, GRADNORM_ATTRS)
#define GRADNORM_FWD_TENSORS(T, O, TO) T(g) T(loss) TO T(norm) T(clip) T(guard) O(ws)
MACL_TENSORS(GradnormFwd, gradnorm_fwd, GRADNORM_FWD_TENSORS)

#define SGD_ATTRS(X) X(f64, momentum) X(f64, weightDecay)
MACL_ATTRS(SgdAttrs, SGD_ATTRS)
#define SGD_STEP_TENSORS(T, O, TO) T(g) T(lr) T(clip) TO T(w) T(m)
MACL_TENSORS(SgdStep, sgd_step, SGD_STEP_TENSORS)

#define ADAM_ATTRS(X) X(f64, beta1) X(f64, beta2) X(f64, eps) X(f64, weightDecay) X(i64, decoupled)
MACL_ATTRS(AdamAttrs, ADAM_ATTRS)
#define ADAM_STEP_TENSORS(T, O, TO) T(g) T(lr) T(clip) TO T(w) T(m) T(v) T(t)
MACL_TENSORS(AdamStep, adam_step, ADAM_STEP_TENSORS)

}  // namespace macl
