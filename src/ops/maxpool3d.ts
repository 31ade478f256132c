/** maxpool3d: kernel = stride, 1 or 2 an axis, floor sizes. Equation: native/ops/pool.h. */
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import { sizeOf } from '../graph/shape.js';
import { defineKernel, noSecond, required, type GradientContext } from '../graph/kernel.js';

const ATTRS = 'i64 sd;i64 sh;i64 sw;i64 accumulate;';
defineKernel('maxpool3d_fwd', 'x > y', ATTRS, { gradient, flops: (n) => sizeOf(required(n, 'x').shape) });
defineKernel('maxpool3d_bwd', 'x dy > dx', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['dx'] },
  flops: (n) => sizeOf(required(n, 'x').shape),
});

/** @returns [N, ⌊D/sD⌋, ⌊H/sH⌋, ⌊W/sW⌋, C] */
export function maxpool3d(b: GraphBuilder, x: Tensor, stride: readonly [number, number, number]): Tensor {
  const [sd, sh, sw] = stride;
  const [n, d, h, w, c] = x.shape;
  const y = b.tensor('pool', [n, Math.floor(d / sd), Math.floor(h / sh), Math.floor(w / sw), c]);
  b.emit('maxpool3d_fwd', { sd, sh, sw, accumulate: 0 }, { x }, { y });
  return y;
}

function gradient(g: GradientContext): void {
  const dy = g.dout('y');
  const x = g.input('x');
  if (!dy || !g.needs(x)) return;
  const { tensors, accumulate } = g.sinks([x]);
  g.b.emit('maxpool3d_bwd', { ...g.node.attrs, accumulate }, { x, dy }, { dx: tensors[0] });
}
