/** What the lists share: inputs by name, and the end of a one-op graph with its gradient rule. */
import { withChannels } from '../../src/graph/builder.js';
import type { Shape, Tensor } from '../../src/graph/types.js';
import type { Rig } from '../golden/rig.js';
import type { Built, Inputs, Mode } from './types.js';

export const count = (s: readonly number[]): number => s.reduce((a, b) => a * b, 1);
export const pad = (s: readonly number[]): Shape => [s[0] ?? 1, s[1] ?? 1, s[2] ?? 1, s[3] ?? 1, s[4] ?? 1];

/** An input of what activations are held in. */
export function take(rig: Rig, inputs: Inputs, name: string, shape: readonly number[]): Tensor {
  return rig.input(name, pad(shape), inputs(name, count(shape)));
}

/** An input of what weights and statistics are held in. */
export function takeReal(rig: Rig, inputs: Inputs, name: string, shape: readonly number[]): Tensor {
  return rig.input(name, pad(shape), inputs(name, count(shape)), rig.b.real);
}

/** int32 labels on the grid of logits. */
export function takeLabels(rig: Rig, inputs: Inputs, name: string, logits: Shape): Tensor {
  const shape = withChannels(logits, 1);
  return rig.input(name, shape, inputs(name, count(shape)), 'i32');
}

/** A float64 scalar input. */
export function takeScalar(rig: Rig, inputs: Inputs, name: string): Tensor {
  return rig.input(name, pad([]), inputs(name, 1), 'f64');
}

const adding = (mode: Mode) => (mode.addTo === undefined ? {} : { addTo: mode.addTo });

/** y as a result, dy as an input, gradients of `targets`. */
export function finish(
  rig: Rig,
  y: Tensor,
  inputs: Inputs,
  mode: Mode,
  targets: Readonly<Record<string, Tensor | null>>,
  more: readonly string[] = [],
): Built {
  rig.result('y', y);
  rig.gradients(y, take(rig, inputs, 'dy', y.shape), targets, adding(mode));
  const wrt = Object.keys(targets).filter((k) => targets[k]);
  return { results: ['y', ...more], gradients: wrt.map((k) => `d${k}`), wrt };
}

export function finishLoss(
  rig: Rig,
  loss: Tensor,
  mode: Mode,
  targets: Readonly<Record<string, Tensor>>,
  more: readonly string[] = [],
): Built {
  rig.gradients(loss, rig.constant(mode.dloss), targets, adding(mode));
  rig.result('loss', loss);
  const wrt = Object.keys(targets);
  return { results: ['loss', ...more], gradients: wrt.map((k) => `d${k}`), wrt };
}

/** Results of an operation whose gradient is not asked for. */
export function results(...names: readonly string[]): Built {
  return { results: names, gradients: [], wrt: [] };
}
