/** linear: y = x·wᵀ + b. Equation: native/ops/linear.h. */
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import { sizeOf } from '../graph/shape.js';
import { defineKernel, noSecond, required, type GradientContext } from '../graph/kernel.js';

const ATTRS = 'i64 accumulate;';
defineKernel('linear_fwd', 'x w b? > y', ATTRS, {
  gradient,
  alike: ['x', 'y'],
  real: ['w', 'b'],
  narrows: (n) => ({ input: 'w', to: required(n, 'x').dtype }),
  flops: (n) => 2 * sizeOf(required(n, 'y').shape) * required(n, 'x').shape[4],
});
defineKernel('linear_bwd_x', 'dy w > dx', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['dx'] },
  alike: ['dy', 'dx'],
  real: ['w'],
  narrows: (n) => ({ input: 'w', to: required(n, 'dy').dtype }),
  flops: (n) => 2 * sizeOf(required(n, 'dy').shape) * required(n, 'dx').shape[4],
});
defineKernel('linear_bwd_w', 'x dy > dw db?', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['dw', 'db'] },
  alike: ['x', 'dy'],
  real: ['dw', 'db'],
  flops: (n) => 2 * sizeOf(required(n, 'dy').shape) * required(n, 'x').shape[4],
});

/**
 * @param x [N, 1, 1, 1, I]
 * @param w [O, I, 1, 1, 1], PyTorch's [O, I]
 * @returns [N, 1, 1, 1, O]
 */
export function linear(b: GraphBuilder, x: Tensor, w: Tensor, bias: Tensor | null): Tensor {
  if (x.shape[4] !== w.shape[1])
    throw new MaclError('config', `linear: the weights take ${w.shape[1]} values, x has ${x.shape[4]}`);
  const y = b.tensor(`${w.name}.y`, [x.shape[0], x.shape[1], x.shape[2], x.shape[3], w.shape[0]], x.dtype);
  b.emit('linear_fwd', { accumulate: 0 }, { x, w, b: bias }, { y });
  return y;
}

function gradient(g: GradientContext): void {
  const dy = g.dout('y');
  if (!dy) return;
  const [x, w, bias] = [g.input('x'), g.input('w'), g.optional('b')];
  if (g.needs(w) || g.needs(bias)) {
    const { tensors, accumulate } = g.sinks(bias && g.needs(bias) ? [w, bias] : [w]);
    g.b.emit('linear_bwd_w', { accumulate }, { x, dy }, { dw: tensors[0], db: tensors[1] });
  }
  if (g.needs(x)) {
    const { tensors, accumulate } = g.sinks([x]);
    g.b.emit('linear_bwd_x', { accumulate }, { dy, w }, { dx: tensors[0] });
  }
}
