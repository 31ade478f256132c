/**
 * normact: a norm (BatchNorm or InstanceNorm, with its own or with given statistics, or none) and leaky ReLU in one.
 * Equations: native/ops/normact.h.
 */
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import type { Shape, Tensor } from '../graph/types.js';
import { showShape, sizeOf } from '../graph/shape.js';
import { defineKernel, none, noSecond, port, required, type GradientContext } from '../graph/kernel.js';

/** Where mean and variance come from; the numbers of native/ops/normact.h. */
const NORM = { none: 0, own: 1, given: 2 } as const;

const sizeOfX = (factor: number) => (n: Parameters<typeof required>[0]) => factor * sizeOf(required(n, 'x').shape);

defineKernel('normact_stats', 'x > mean var ws?', 'i64 unused;', {
  once: true,
  gradient: none('only the norm that they belong to differentiates through statistics'),
  real: ['mean', 'var'],
  flops: sizeOfX(3),
});
defineKernel(
  'normact_fwd',
  'x mean? var? gamma? beta? > y pooled?',
  'i64 norm;f64 eps;f64 slope;i64 sd;i64 sh;i64 sw;',
  {
    gradient,
    inPlace: ['y', 'x'],
    alike: ['x', 'y', 'pooled'],
    real: ['mean', 'var', 'gamma', 'beta'],
    flops: sizeOfX(3),
  },
);
defineKernel(
  'normact_sums',
  'dy x mean var gamma? beta? > sums dgamma? dbeta? ws?',
  'f64 eps;f64 slope;i64 accumulate;',
  {
    gradient: noSecond,
    accumulates: { accumulate: ['dgamma', 'dbeta'] },
    alike: ['x', 'dy'],
    real: ['mean', 'var', 'gamma', 'beta', 'dgamma', 'dbeta'],
    flops: sizeOfX(5),
  },
);
defineKernel(
  'normact_bwd',
  'dy x mean? var? gamma? beta? sums? > dx',
  'i64 norm;f64 eps;f64 slope;f64 count;i64 accumulateX;',
  {
    gradient: noSecond,
    accumulates: { accumulateX: ['dx'] },
    inPlace: ['dx', 'dy'],
    alike: ['x', 'dy', 'dx'],
    real: ['mean', 'var', 'gamma', 'beta'],
    flops: sizeOfX(5),
  },
);
defineKernel('running_step', 'batch table > running', 'f64 momentum;i64 norms;', {
  gradient: none('it updates the state'),
  inout: ['running'],
  real: ['batch', 'running'],
});

/** Scale and shift [C] of a norm; null: 1 and 0. */
export interface Norm {
  readonly gamma: Tensor | null;
  readonly beta: Tensor | null;
  readonly eps: number;
}

/** Running mean and variance [C] are null where none are kept: then there is no evaluation with them. */
export interface BatchNorm extends Norm {
  readonly runningMean: Tensor | null;
  readonly runningVar: Tensor | null;
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
  const { mean, variance } = statistics(b, x, [c, 1, 1, 1, 1]);
  const y = apply(b, x, norm, NORM.own, mean, variance, slope);
  return { y, pass: { norm, mean, var: variance, count } };
}

/** Running statistics; they are constants of the gradient, which goes to x, γ and β as in any affine map. */
export function normactEval(b: GraphBuilder, x: Tensor, norm: BatchNorm, slope: number): Tensor {
  const { runningMean, runningVar } = norm;
  if (!runningMean || !runningVar)
    throw new MaclError('program', `the norm at ${b.scope} keeps no running statistics to evaluate with`);
  return apply(b, x, norm, NORM.given, runningMean, runningVar, slope);
}

/** Statistics of each sample and channel over D, H, W; none are kept, so training and evaluation are the same. */
export function instanceNorm(b: GraphBuilder, x: Tensor, norm: Norm, slope: number): Tensor {
  const [n, , , , c] = x.shape;
  if (sizeOf(x.shape) / (n * c) < 2)
    throw new MaclError(
      'config',
      `InstanceNorm at ${b.scope} sees one value a sample and channel in ${showShape(x.shape)}: give a larger patch`,
    );
  const { mean, variance } = statistics(b, x, [n, 1, 1, 1, c]);
  return apply(b, x, norm, NORM.own, mean, variance, slope);
}

/** Leaky ReLU alone (slope 0: ReLU). */
export function activation(b: GraphBuilder, x: Tensor, slope: number): Tensor {
  const y = b.tensor('act', x.shape, x.dtype);
  b.emit('normact_fwd', { norm: NORM.none, eps: 0, slope, sd: 1, sh: 1, sw: 1 }, { x }, { y });
  return y;
}

/**
 * Commit: moves the running statistics towards those of all passes, in their order, with one kernel. Passes of norms that
 * keep none are left out.
 * @param running the flat tensor in which the running statistics of all norms lie
 */
export function updateRunning(
  b: GraphBuilder,
  passes: readonly PassStatistics[],
  running: Tensor | undefined,
  momentum: number,
): void {
  const kept = passes.filter(({ norm }) => norm.runningMean && norm.runningVar);
  if (kept.length === 0) return;
  if (!running) throw new MaclError('program', 'the state was declared without running statistics');
  const batch = b.sideBySide(
    'batch',
    kept.flatMap((p) => [p.mean, p.var]),
  );
  const norms = [...new Set(kept.map((p) => p.norm))];
  const starts = [0];
  const rows: number[] = [];
  for (const norm of norms) {
    const place = placeOfRunning(norm, running);
    for (const { mean, count } of kept.filter((p) => p.norm === norm))
      rows.push(place, sizeOf(mean.shape), mean.view?.offset ?? 0, count);
    starts.push(rows.length / 4);
  }
  const table = b.constant('running.table', [...starts, ...rows]);
  b.emit('running_step', { momentum, norms: norms.length }, { batch, table }, { running }, true);
}

/** Where a norm's running mean begins in `running`; the variance has to lie right behind it. */
function placeOfRunning(norm: BatchNorm, running: Tensor): number {
  const [mean, variance] = [norm.runningMean as Tensor, norm.runningVar as Tensor];
  const offset = mean.view?.of === running ? mean.view.offset : -1;
  const behind = variance.view?.of === running ? variance.view.offset : -1;
  if (offset < 0 || behind !== offset + sizeOf(mean.shape))
    throw new MaclError('program', `${mean.name} and ${variance.name} have to lie side by side in ${running.name}`, {
      field: mean.name,
      expected: `element ${offset + sizeOf(mean.shape)} of ${running.name} for the variance`,
      found: behind < 0 ? `no part of ${running.name}` : `element ${behind}`,
    });
  return offset;
}

/** @param shape one number a channel, or [N, 1, 1, 1, C] */
function statistics(b: GraphBuilder, x: Tensor, shape: Shape): { mean: Tensor; variance: Tensor } {
  const mean = b.tensor('mean', shape, b.real);
  const variance = b.tensor('var', shape, b.real);
  b.emit('normact_stats', { unused: 0 }, { x }, { mean, var: variance, ws: b.opaque('ws') });
  return { mean, variance };
}

function apply(
  b: GraphBuilder,
  x: Tensor,
  n: Norm,
  norm: number,
  mean: Tensor,
  variance: Tensor,
  slope: number,
): Tensor {
  const y = b.tensor('normact', x.shape, x.dtype);
  const attrs = { norm, eps: n.eps, slope, sd: 1, sh: 1, sw: 1 };
  b.emit('normact_fwd', attrs, { x, mean, var: variance, gamma: n.gamma, beta: n.beta }, { y });
  return y;
}

/** A norm with statistics of its own differentiates through them as those of its x: any others would get a wrong gradient. */
function holdOwnStatistics(g: GradientContext, x: Tensor, mean: Tensor, variance: Tensor): void {
  const maker = g.b.producer(mean);
  if (maker?.kernel !== 'normact_stats' || required(maker, 'x') !== x || port(maker, 'var') !== variance)
    throw new MaclError('program', `${g.node.scope}: the statistics of a norm are said to be its own, and are not`, {
      field: 'normact_fwd',
      expected: 'mean and var of normact_stats of the same x',
      found: mean.name,
    });
  g.covers('mean', 'var');
}

function gradient(g: GradientContext): void {
  const dy = g.dout('y');
  if (!dy) return;
  const { norm = NORM.none, eps = 0, slope = 0 } = g.node.attrs;
  const x = g.input('x');
  const [mean, variance, gamma, beta] = [
    g.optional('mean'),
    g.optional('var'),
    g.optional('gamma'),
    g.optional('beta'),
  ];
  if (norm === NORM.own && mean && variance) holdOwnStatistics(g, x, mean, variance);
  const call = { dy, x, mean, var: variance, gamma, beta };
  const params = ([gamma, beta] as const).map((t) => (g.needs(t) ? t : null));
  const throughStatistics = norm === NORM.own && g.needs(x);
  let sums: Tensor | null = null;
  if (mean && (throughStatistics || params.some((t) => t))) {
    const [c, groups] = [x.shape[4], sizeOf(mean.shape) / x.shape[4]];
    sums = g.b.tensor('sums', groups === 1 ? [c, 2, 1, 1, 1] : [groups, c, 2, 1, 1], 'f64');
    const { tensors, accumulate } = g.sinks(params.filter((t) => t !== null));
    const [dgamma, dbeta] = params.map((t) => (t ? tensors.shift() : null));
    const out = { sums, dgamma, dbeta, ws: g.b.opaque('ws') };
    g.b.emit('normact_sums', { eps, slope, accumulate }, call, out);
  }
  if (!g.needs(x)) return;
  const toX = g.sinks([x]);
  const count = sizeOf(x.shape) / (mean ? sizeOf(mean.shape) : x.shape[4]);
  g.b.emit(
    'normact_bwd',
    { norm, eps, slope, count, accumulateX: toX.accumulate },
    { ...call, sums: throughStatistics ? sums : null },
    { dx: toX.tensors[0] },
  );
}
