/** normact: BatchNorm (training or evaluation, or none) and leaky ReLU in one. Equation: native/ops/normact.h. */
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import { sizeOf } from '../graph/shape.js';
import { defineKernel, none, noSecond, port, required, type GradientContext } from '../graph/kernel.js';

const ATTRS = 'i64 norm;f64 eps;f64 slope;i64 sd;i64 sh;i64 sw;i64 accumulate;i64 accumulateX;';
defineKernel('normact_stats', 'x > mean var ws?', 'i64 unused;', {
  gradient: none('only the norm that they belong to differentiates through batch statistics'),
  flops: (n) => 3 * sizeOf(required(n, 'x').shape),
});
defineKernel('normact_fwd', 'x mean? var? gamma? beta? > y pooled?', ATTRS, {
  gradient,
  inPlace: ['y', 'x'],
  flops: (n) => 3 * sizeOf(required(n, 'x').shape),
});
defineKernel('normact_bwd', 'dy x mean? var? gamma? beta? > dx dgamma? dbeta? ws?', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['dgamma', 'dbeta'], accumulateX: ['dx'] },
  inPlace: ['dx', 'dy'],
  flops: (n) => 10 * sizeOf(required(n, 'x').shape),
});
defineKernel('normact_running', 'mean var > rm rv', 'f64 momentum;f64 count;', {
  gradient: none('it updates the state'),
  inout: ['rm', 'rv'],
});

export interface BatchNorm {
  readonly gamma: Tensor;
  readonly beta: Tensor;
  readonly runningMean: Tensor;
  readonly runningVar: Tensor;
  readonly eps: number;
}

/** The statistics of one pass, for the running ones that commit updates. */
export interface PassStatistics {
  readonly norm: BatchNorm;
  readonly mean: Tensor;
  readonly var: Tensor;
  readonly count: number;
}

/** Batch statistics: y = leaky(γ·(x − mean)/√(var + eps) + β); the running statistics are left to `updateRunning`. */
export function normactTrain(
  b: GraphBuilder,
  x: Tensor,
  norm: BatchNorm,
  slope: number,
): { y: Tensor; pass: PassStatistics } {
  const c = x.shape[4];
  const count = sizeOf(x.shape) / c;
  if (count < 2)
    throw new MaclError('config', `BatchNorm at ${b.scope} sees one value a channel: give a larger batch or patch`);
  const mean = b.tensor('mean', [c, 1, 1, 1, 1]);
  const variance = b.tensor('var', [c, 1, 1, 1, 1]);
  b.emit('normact_stats', { unused: 0 }, { x }, { mean, var: variance, ws: b.opaque('ws') });
  const y = apply(b, x, norm, mean, variance, slope);
  return { y, pass: { norm, mean, var: variance, count } };
}

/** Running statistics. */
export function normactEval(b: GraphBuilder, x: Tensor, norm: BatchNorm, slope: number): Tensor {
  return apply(b, x, norm, norm.runningMean, norm.runningVar, slope);
}

/** Leaky ReLU alone (slope 0: ReLU). */
export function activation(b: GraphBuilder, x: Tensor, slope: number): Tensor {
  const y = b.tensor('act', x.shape);
  b.emit('normact_fwd', attrs(0, 0, slope), { x }, { y });
  return y;
}

/** Commit: moves the running statistics towards those of one pass. */
export function updateRunning(b: GraphBuilder, pass: PassStatistics, momentum: number): void {
  const { norm, mean, count } = pass;
  const out = { rm: norm.runningMean, rv: norm.runningVar };
  b.emit('normact_running', { momentum, count }, { mean, var: pass.var }, out, true);
}

function attrs(norm: 0 | 1, eps: number, slope: number) {
  return { norm, eps, slope, sd: 1, sh: 1, sw: 1, accumulate: 0, accumulateX: 0 };
}

function apply(b: GraphBuilder, x: Tensor, n: BatchNorm, mean: Tensor, variance: Tensor, slope: number): Tensor {
  const y = b.tensor('normact', x.shape);
  b.emit('normact_fwd', attrs(1, n.eps, slope), { x, mean, var: variance, gamma: n.gamma, beta: n.beta }, { y });
  return y;
}

/** normact_bwd differentiates through the statistics as those of its own x: any others would get a wrong gradient. */
function holdBatchStatistics(g: GradientContext, x: Tensor, mean: Tensor): void {
  const maker = g.b.producer(mean);
  if (maker?.kernel !== 'normact_stats' || required(maker, 'x') !== x || port(maker, 'var') !== g.optional('var'))
    throw new MaclError('program', `${g.node.scope}: the gradient of a norm with given statistics is not defined`, {
      field: 'normact_fwd',
      expected: 'mean and var of normact_stats of the same x',
      found: mean.name,
    });
  g.covers('mean', 'var');
}

function gradient(g: GradientContext): void {
  const dy = g.dout('y');
  const x = g.input('x');
  if (!dy) return;
  const [mean = null, variance, gamma = null, beta = null] = ['mean', 'var', 'gamma', 'beta'].map((p) => g.optional(p));
  if (mean) holdBatchStatistics(g, x, mean);
  if (![x, gamma, beta].some((t) => g.needs(t))) return;
  const toX = g.sinks([x]);
  const toParams = gamma && beta ? g.sinks([gamma, beta]) : { tensors: [], accumulate: 0 as const };
  const [dgamma, dbeta] = toParams.tensors;
  g.b.emit(
    'normact_bwd',
    { ...g.node.attrs, accumulate: toParams.accumulate, accumulateX: toX.accumulate },
    { dy, x, mean, var: variance, gamma, beta },
    { dx: toX.tensors[0], dgamma, dbeta, ws: g.b.opaque('ws') },
  );
}
