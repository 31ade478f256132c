/** gradnorm, sgd, adam: over the flat range of all parameters. Equations: native/ops/optim.h. */
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import { defineKernel, none } from '../graph/kernel.js';

const update = none('it updates the state');

defineKernel('gradnorm_fwd', 'g loss > norm clip guard ws?', 'f64 maxNorm;', {
  gradient: none('it judges gradients'),
  real: ['g'],
});
defineKernel('sgd_step', 'g lr clip > w m', 'f64 momentum;f64 weightDecay;', {
  gradient: update,
  inout: ['w', 'm'],
  real: ['g', 'w', 'm'],
});
defineKernel('adam_step', 'g lr clip > w m v t', 'f64 beta1;f64 beta2;f64 eps;f64 weightDecay;i64 decoupled;', {
  gradient: update,
  inout: ['w', 'm', 'v', 't'],
  real: ['g', 'w', 'm', 'v'],
});

export interface GradNorm {
  /** float64 scalars: the gradient's global norm, and the factor that clipping asks for. */
  readonly norm: Tensor;
  readonly clip: Tensor;
  /** int32: 1 where loss or gradient is not finite. */
  readonly guard: Tensor;
}

/** @param maxNorm clip the global norm to this; 0: never */
export function gradnorm(b: GraphBuilder, g: Tensor, loss: Tensor, maxNorm: number): GradNorm {
  const norm = b.scalar('gradnorm');
  const clip = b.scalar('clip');
  const guard = b.tensor('guard', [1, 1, 1, 1, 1], 'i32');
  b.emit('gradnorm_fwd', { maxNorm }, { g, loss }, { norm, clip, guard, ws: b.opaque('ws') });
  return { norm, clip, guard };
}

export interface Update {
  readonly g: Tensor;
  readonly lr: Tensor;
  readonly clip: Tensor;
  readonly w: Tensor;
}

export function sgd(b: GraphBuilder, u: Update, m: Tensor, o: { momentum: number; weightDecay: number }): void {
  const { g, lr, clip, w } = u;
  b.emit('sgd_step', { momentum: o.momentum, weightDecay: o.weightDecay }, { g, lr, clip }, { w, m }, true);
}

export interface AdamOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
  /** AdamW's decoupled weight decay. */
  readonly decoupled: boolean;
}

/** @param t float64 scalar in state: steps taken, counted by the kernel */
export function adam(b: GraphBuilder, u: Update, m: Tensor, v: Tensor, t: Tensor, o: AdamOptions): void {
  const { g, lr, clip, w } = u;
  const attrs = { ...o, decoupled: o.decoupled ? 1 : 0 };
  b.emit('adam_step', attrs, { g, lr, clip }, { w, m, v, t }, true);
}
