// normact: y = act(gamma · (x − mean) / sqrt(var + eps) + beta), per channel. norm = 0 leaves the norm out (then mean,
// var, gamma, beta are absent); slope is leaky ReLU's (0: ReLU, 1: no activation).
// In training mean and var are normact_stats' (population variance over N, D, H, W); in evaluation the running ones.
//
// normact_stats: per-tile mean and M2 combined in a fixed order (or float64 sums), never E[x²] − E[x]² in fp32.
// normact_fwd with a pooled output also writes max-pool(y) with kernel = stride s (floor sizes), in the same pass.
// normact_bwd recomputes the activation's sign from x; dgamma and dbeta add where accumulate = 1, dx always writes
// (or adds where accumulateX = 1). Batch statistics' own gradient is included (training).
// normact_running (commit): rm ← (1 − momentum) rm + momentum mean, rv likewise with var · count / (count − 1).
#pragma once
#include "types.h"

namespace macl {

#define NORMACT_STATS_ATTRS(X) X(i64, unused)
MACL_ATTRS(NormactStatsAttrs, NORMACT_STATS_ATTRS)
constexpr const char normact_stats_tensors[] = "x > mean var ws?";

#define NORMACT_ATTRS(X)                                                                                      \
  X(i64, norm) X(f64, eps) X(f64, slope) X(i64, sd) X(i64, sh) X(i64, sw) X(i64, accumulate) X(i64, accumulateX)
MACL_ATTRS(NormactAttrs, NORMACT_ATTRS)
constexpr const char normact_fwd_tensors[] = "x mean? var? gamma? beta? > y pooled?";
constexpr const char normact_bwd_tensors[] = "dy x mean? var? gamma? beta? > dx dgamma? dbeta? ws?";

#define NORMACT_RUNNING_ATTRS(X) X(f64, momentum) X(f64, count)
MACL_ATTRS(NormactRunningAttrs, NORMACT_RUNNING_ATTRS)
// rm and rv are read and written in place.
constexpr const char normact_running_tensors[] = "mean var > rm rv";

}  // namespace macl
