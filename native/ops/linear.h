// linear: y[n,o] = b[o] + Σ_i x[n,i] w[o,i]; x [N,1,1,1,I], y [N,1,1,1,O], w in PyTorch's layout [O, I] (s = O,I,1,1,1).
// act: 0 none, 1 leaky ReLU with slope on y.
#pragma once
#include "types.h"

namespace macl {

#define LINEAR_ATTRS(X) X(i64, accumulate)
MACL_ATTRS(LinearAttrs, LINEAR_ATTRS)
#define LINEAR_FWD_TENSORS(T, O, TO) T(x) T(w) O(b) TO T(y)
MACL_TENSORS(LinearFwd, linear_fwd, LINEAR_FWD_TENSORS)
#define LINEAR_BWD_X_TENSORS(T, O, TO) T(dy) T(w) TO T(dx)
MACL_TENSORS(LinearBwdX, linear_bwd_x, LINEAR_BWD_X_TENSORS)
#define LINEAR_BWD_W_TENSORS(T, O, TO) T(x) T(dy) TO T(dw) O(db)
MACL_TENSORS(LinearBwdW, linear_bwd_w, LINEAR_BWD_W_TENSORS)

}  // namespace macl
