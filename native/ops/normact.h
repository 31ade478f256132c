// normact: y = act(gamma · (x − mean) / sqrt(var + eps) + beta), per channel; gamma and beta may be absent (1 and 0).
// slope is leaky ReLU's (0: ReLU, 1: no activation). The attribute norm says where mean and var come from:
//   0 (kNoNorm)     the norm is left out: mean, var, gamma, beta are absent
//   1 (kOwnNorm)    they are normact_stats' of this x: the gradient goes through them
//   2 (kGivenNorm)  running or frozen ones: constants, as far as the gradient is concerned
//
// A statistic is over a group of voxels: all samples (BatchNorm; mean and var have C numbers) or one (InstanceNorm; N·C,
// [N, 1, 1, 1, C]). The number of numbers in mean decides. Variances are those of the population.
//
// normact_stats: per-tile mean and M2 combined in a fixed order (or float64 sums), never E[x²] − E[x]² in fp32.
// normact_fwd with a pooled output also writes max-pool(y) with kernel = stride s (floor sizes), in the same pass.
// With g = dy · act' (the activation's sign is computed again from x), n = values a channel and group, over all ranks:
// normact_sums: sums [groups, C, 2] (float64) = Σ g and Σ g·(x − mean) of each group; over all groups dbeta = Σ g and
//   dgamma = Σ g·(x − mean)·rstd, which add where accumulate = 1.
// normact_bwd: norm 1: dx = γ·rstd·(g − sums₀/n − (x − mean)·rstd²·sums₁/n), with sums summed over the ranks and n = count;
//   norm 2: dx = γ·rstd·g; norm 0: dx = g. Sums are read where norm = 1 alone. dx adds where accumulateX = 1.
// running_step (commit): all running statistics of a network, which lie flat in `running`: a norm's mean and behind it its
//   variance, C numbers each. A pass of a norm has its mean and variance in `batch` in the same way. For each pass, in order,
//   rm ← (1 − momentum) rm + momentum mean, rv likewise with var · count / (count − 1).
//   table (float64): norms + 1 numbers, the first row of each norm and behind them the number of rows; then the rows (running
//   offset, C, batch offset, count), a norm's passes in order. No two norms share numbers of `running`.
#pragma once
#include "types.h"

namespace macl {

enum NormKind : i64 { kNoNorm = 0, kOwnNorm = 1, kGivenNorm = 2 };

#define NORMACT_STATS_ATTRS(X) X(i64, unused)
MACL_ATTRS(NormactStatsAttrs, NORMACT_STATS_ATTRS)
#define NORMACT_STATS_TENSORS(T, O, TO) T(x) TO T(mean) T(var) O(ws)
MACL_TENSORS(NormactStats, normact_stats, NORMACT_STATS_TENSORS)

#define NORMACT_FWD_ATTRS(X) X(i64, norm) X(f64, eps) X(f64, slope) X(i64, sd) X(i64, sh) X(i64, sw)
MACL_ATTRS(NormactFwdAttrs, NORMACT_FWD_ATTRS)
#define NORMACT_FWD_TENSORS(T, O, TO) T(x) O(mean) O(var) O(gamma) O(beta) TO T(y) O(pooled)
MACL_TENSORS(NormactFwd, normact_fwd, NORMACT_FWD_TENSORS)

#define NORMACT_SUMS_ATTRS(X) X(f64, eps) X(f64, slope) X(i64, accumulate)
MACL_ATTRS(NormactSumsAttrs, NORMACT_SUMS_ATTRS)
#define NORMACT_SUMS_TENSORS(T, O, TO) T(dy) T(x) T(mean) T(var) O(gamma) O(beta) TO T(sums) O(dgamma) O(dbeta) O(ws)
MACL_TENSORS(NormactSums, normact_sums, NORMACT_SUMS_TENSORS)

#define NORMACT_BWD_ATTRS(X) X(i64, norm) X(f64, eps) X(f64, slope) X(f64, count) X(i64, accumulateX)
MACL_ATTRS(NormactBwdAttrs, NORMACT_BWD_ATTRS)
#define NORMACT_BWD_TENSORS(T, O, TO) T(dy) T(x) O(mean) O(var) O(gamma) O(beta) O(sums) TO T(dx)
MACL_TENSORS(NormactBwd, normact_bwd, NORMACT_BWD_TENSORS)

#define RUNNING_STEP_ATTRS(X) X(f64, momentum) X(i64, norms)
MACL_ATTRS(RunningStepAttrs, RUNNING_STEP_ATTRS)
// running is read and written in place.
#define RUNNING_STEP_TENSORS(T, O, TO) T(batch) T(table) TO T(running)
MACL_TENSORS(RunningStep, running_step, RUNNING_STEP_TENSORS)

// The table as both hosts and devices read it. The numbers come with the program and are not known when it is checked: each
// is held against the sizes before it is used.
struct RunningRow {
  i64 running, channels, batch;
  f64 unbiased;  // count / (count − 1)
};
struct RunningTable {
  const f64* table;
  i64 norms, rows, running, batch;  // the last two: elements
};
#if defined(__CUDACC__)
#define MACL_EVERYWHERE __host__ __device__
#else
#define MACL_EVERYWHERE
#endif
MACL_EVERYWHERE inline bool running_whole(f64 v, i64 most, i64& out) {
  if (!(v >= 0 && v <= static_cast<f64>(most))) return false;
  out = static_cast<i64>(v);
  return static_cast<f64>(out) == v;
}
MACL_EVERYWHERE inline bool running_rows(const RunningTable& t, i64 norm, i64& first, i64& last) {
  return running_whole(t.table[norm], t.rows, first) && running_whole(t.table[norm + 1], t.rows, last);
}
MACL_EVERYWHERE inline bool running_row(const RunningTable& t, i64 index, RunningRow& row) {
  const f64* p = t.table + t.norms + 1 + 4 * index;
  if (!running_whole(p[0], t.running, row.running) || !running_whole(p[1], t.running, row.channels) ||
      !running_whole(p[2], t.batch, row.batch))
    return false;
  row.unbiased = p[3] > 1 ? p[3] / (p[3] - 1) : 1.0;
  return row.running + 2 * row.channels <= t.running && row.batch + 2 * row.channels <= t.batch;
}

}  // namespace macl
