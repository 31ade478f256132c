// linear: y[n,o] = b[o] + Σ_i x[n,i] w[o,i]; x [N,1,1,1,I], y [N,1,1,1,O], w in PyTorch's layout [O, I] (s = O,I,1,1,1).
// act: 0 none, 1 leaky ReLU with slope on y.
#pragma once
#include "types.h"

namespace macl {

#define LINEAR_ATTRS(X) X(i64, accumulate)
MACL_ATTRS(LinearAttrs, LINEAR_ATTRS)
constexpr const char linear_fwd_tensors[] = "x w b? > y";
constexpr const char linear_bwd_x_tensors[] = "dy w > dx";
constexpr const char linear_bwd_w_tensors[] = "x dy > dw db?";

}  // namespace macl
