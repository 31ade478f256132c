/**
 * How each operation with a gradient is put into a one-op graph from a case: shared by golden values, parity with the
 * reference, and finite differences. Names of inputs and results are those of tools/goldens/ops.py.
 */
import { cases as convCases, type Conv3dCase } from '../cases/conv3d.js';
import { cases as linearCases, type LinearCase } from '../cases/linear.js';
import { l1Cases, segmentCases, type L1Case, type SegmentLossCase } from '../cases/losses.js';
import { cases as normactCases, type NormactCase } from '../cases/normact.js';
import { cases as poolCases, type PoolCase } from '../cases/pool.js';
import { cases as resizeCases, type Resize3dCase } from '../cases/resize3d.js';
import { cases as supconCases, type SupconCase } from '../cases/supcon.js';
import { cases as upconvCases, type Upconv3dCase } from '../cases/upconv3d.js';
import type { Shape, Tensor } from '../../src/graph/types.js';
import * as ops from '../../src/ops/index.js';
import type { Rig } from './rig.js';

/** Values of an input, by name; the count is what the shape holds. */
export type Inputs = (name: string, count: number) => ArrayLike<number>;

export interface Mode {
  /** What gradients hold before; undefined: the kernels write. */
  readonly addTo?: number;
  /** Upstream gradient of a loss. */
  readonly dloss: number;
}

export interface BaseCase {
  readonly name: string;
  readonly golden: boolean;
  readonly gradcheck: boolean;
}

export interface Driver {
  readonly op: string;
  readonly cases: readonly BaseCase[];
  /** A loss: its gradients scale with `dloss`, and there is no dy. */
  readonly loss: boolean;
  /** How many values the labels of a case have. */
  classes(c: BaseCase): number;
  build(rig: Rig, c: BaseCase, inputs: Inputs, mode: Mode): Built;
}

export interface Built {
  /** Results, and among them the gradients. */
  readonly results: readonly string[];
  readonly gradients: readonly string[];
  /** Inputs that the gradients belong to, in the same order. */
  readonly wrt: readonly string[];
}

function driver<C extends BaseCase>(
  op: string,
  cases: readonly C[],
  loss: boolean,
  build: (rig: Rig, c: C, inputs: Inputs, mode: Mode) => Built,
): Driver {
  const classes = (c: BaseCase) => (op === 'softmaxce' || op === 'dice' ? (c as unknown as SegmentLossCase).x[4] : 1);
  return { op, cases, loss, classes, build: (rig, c, inputs, mode) => build(rig, c as C, inputs, mode) };
}

const count = (s: readonly number[]) => s.reduce((a, b) => a * b, 1);
const pad = (s: readonly number[]): Shape => [s[0] ?? 1, s[1] ?? 1, s[2] ?? 1, s[3] ?? 1, s[4] ?? 1];

function take(rig: Rig, inputs: Inputs, name: string, shape: readonly number[]): Tensor {
  return rig.input(name, pad(shape), inputs(name, count(shape)));
}

/** y as a result, dy as an input, gradients of `targets`. */
function finish(
  rig: Rig,
  y: Tensor,
  inputs: Inputs,
  mode: Mode,
  targets: Record<string, Tensor | null>,
  more: string[] = [],
): Built {
  rig.result('y', y);
  const dy = take(rig, inputs, 'dy', y.shape);
  rig.gradients(y, dy, targets, mode.addTo === undefined ? {} : { addTo: mode.addTo });
  const wrt = Object.keys(targets).filter((k) => targets[k]);
  return { results: ['y', ...more], gradients: wrt.map((k) => `d${k}`), wrt };
}

function finishLoss(rig: Rig, loss: Tensor, mode: Mode, targets: Record<string, Tensor>, more: string[] = []): Built {
  rig.gradients(loss, rig.constant(mode.dloss), targets, mode.addTo === undefined ? {} : { addTo: mode.addTo });
  rig.result('loss', loss);
  const wrt = Object.keys(targets);
  return { results: ['loss', ...more], gradients: wrt.map((k) => `d${k}`), wrt };
}

const conv3d = driver<Conv3dCase>('conv3d', convCases, false, (rig, c, inputs, mode) => {
  const x = take(rig, inputs, 'x', c.x);
  const w = take(rig, inputs, 'w', [c.out, c.x[4], ...c.kernel]);
  const b = c.bias ? take(rig, inputs, 'b', [c.out]) : null;
  const y = ops.conv3d(rig.b, x, w, b, { stride: c.stride });
  return finish(rig, y, inputs, mode, { x, w, b });
});

const upconv3d = driver<Upconv3dCase>('upconv3d', upconvCases, false, (rig, c, inputs, mode) => {
  const x = take(rig, inputs, 'x', c.x);
  const w = take(rig, inputs, 'w', [c.x[4], c.out, ...c.stride]);
  const b = c.bias ? take(rig, inputs, 'b', [c.out]) : null;
  return finish(rig, ops.upconv3d(rig.b, x, w, b), inputs, mode, { x, w, b });
});

const linear = driver<LinearCase>('linear', linearCases, false, (rig, c, inputs, mode) => {
  const x = rig.input('x', [c.n, 1, 1, 1, c.inputs], inputs('x', c.n * c.inputs));
  const w = take(rig, inputs, 'w', [c.out, c.inputs]);
  const b = c.bias ? take(rig, inputs, 'b', [c.out]) : null;
  return finish(rig, ops.linear(rig.b, x, w, b), inputs, mode, { x, w, b });
});

const RUNNING_MOMENTUM = 0.1;

const normact = driver<NormactCase>('normact', normactCases, false, (rig, c, inputs, mode) => {
  const x = take(rig, inputs, 'x', c.x);
  const { b } = rig;
  const pooled = (y: Tensor): string[] => {
    if (c.pool.every((s) => s === 1)) return [];
    rig.result('pooled', ops.maxpool3d(b, y, c.pool));
    return ['pooled'];
  };
  if (!c.norm) {
    const y = ops.activation(b, x, c.slope);
    return finish(rig, y, inputs, mode, { x }, pooled(y));
  }
  const [gamma, beta, runningMean, runningVar] = (['gamma', 'beta', 'rm', 'rv'] as const).map((name) =>
    take(rig, inputs, name, [c.x[4]]),
  ) as [Tensor, Tensor, Tensor, Tensor];
  const norm = { gamma, beta, runningMean, runningVar, eps: 1e-5 };
  if (!c.training) {
    const y = ops.normactEval(b, x, norm, c.slope);
    rig.result('y', y);
    return { results: ['y', ...pooled(y)], gradients: [], wrt: [] };
  }
  const { y, pass } = ops.normactTrain(b, x, norm, c.slope);
  rig.result('mean', pass.mean);
  rig.result('var', pass.var);
  // Not in the commit phase here: these running statistics are an input that is read back.
  const attrs = { momentum: RUNNING_MOMENTUM, count: pass.count };
  b.emit('normact_running', attrs, { mean: pass.mean, var: pass.var }, { rm: runningMean, rv: runningVar });
  return finish(rig, y, inputs, mode, { x, gamma, beta }, ['mean', 'var', 'rm', 'rv', ...pooled(y)]);
});

const maxpool3d = driver<PoolCase>('maxpool3d', poolCases, false, (rig, c, inputs, mode) => {
  const x = take(rig, inputs, 'x', c.x);
  return finish(rig, ops.maxpool3d(rig.b, x, c.stride), inputs, mode, { x });
});

const avgpool = driver<PoolCase>('avgpool', poolCases, false, (rig, c, inputs, mode) => {
  const x = take(rig, inputs, 'x', c.x);
  return finish(rig, ops.avgpool(rig.b, x), inputs, mode, { x });
});

const resize3d = driver<Resize3dCase>('resize3d', resizeCases, false, (rig, c, inputs, mode) => {
  const x = take(rig, inputs, 'x', c.x);
  let y = ops.resize3d(rig.b, x, c.to);
  if (y === x) {
    // The op leaves equal sizes out; the kernel has to copy them all the same.
    y = rig.b.tensor('resize', x.shape);
    rig.b.emit('resize3d_fwd', { accumulate: 0 }, { x }, { y });
  }
  return finish(rig, y, inputs, mode, { x });
});

const supcon = driver<SupconCase>('supcon', supconCases, true, (rig, c, inputs, mode) => {
  const [z1, z2] = [take(rig, inputs, 'z1', c.z), take(rig, inputs, 'z2', c.z)];
  const n = c.z[0] * c.threshold.length;
  const pos = rig.input('pos', [c.z[0], c.threshold.length, 1, 1, 1], inputs('pos', n), 'f64');
  const positions = c.z[1] * c.z[2] * c.z[3];
  const op = positions === 1 ? ops.supcon : ops.densesupcon;
  const { loss, cosine } = op(rig.b, z1, z2, pos, { temperature: c.tau, threshold: c.threshold, scale: c.scale });
  rig.result('cosine', cosine);
  return finishLoss(rig, loss, mode, { z1, z2 }, ['cosine']);
});

const l1 = driver<L1Case>('l1', l1Cases, true, (rig, c, inputs, mode) => {
  const [a, b] = [take(rig, inputs, 'a', c.x), take(rig, inputs, 'b', c.x)];
  const { loss, meansq } = ops.l1(rig.b, a, b, c.relative);
  rig.result('meansq', meansq);
  return finishLoss(rig, loss, mode, { a, b }, ['meansq']);
});

function logits(rig: Rig, c: SegmentLossCase, inputs: Inputs): { x: Tensor; y: Tensor } {
  const shape: Shape = [c.x[0], c.x[1], c.x[2], c.x[3], 1];
  return { x: take(rig, inputs, 'x', c.x), y: rig.input('y', shape, inputs('y', count(shape)), 'i32') };
}

const softmaxce = driver<SegmentLossCase>('softmaxce', segmentCases, true, (rig, c, inputs, mode) => {
  const { x, y } = logits(rig, c, inputs);
  const cw = c.classWeights ? rig.input('cw', pad([c.x[4]]), c.classWeights, 'f64') : null;
  return finishLoss(rig, ops.softmaxce(rig.b, x, y, cw), mode, { x });
});

const dice = driver<SegmentLossCase>('dice', segmentCases, true, (rig, c, inputs, mode) => {
  const { x, y } = logits(rig, c, inputs);
  return finishLoss(rig, ops.dice(rig.b, x, y, { perSample: c.perSample }), mode, { x });
});

export const drivers: readonly Driver[] = [
  conv3d,
  upconv3d,
  linear,
  normact,
  maxpool3d,
  avgpool,
  resize3d,
  supcon,
  l1,
  softmaxce,
  dice,
];
