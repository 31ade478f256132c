/** resize3d: trilinear with aligned corners. Equation: native/ops/resize3d.h. */
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import { defineKernel, noSecond, type GradientContext } from '../graph/kernel.js';

defineKernel('resize3d_fwd', 'x > y', 'i64 accumulate;', { gradient, alike: ['x', 'y'] });
defineKernel('resize3d_bwd', 'dy > dx', 'i64 accumulate;', {
  gradient: noSecond,
  accumulates: { accumulate: ['dx'] },
  alike: ['dy', 'dx'],
});

/** @param size [D', H', W'] @returns [N, D', H', W', C]; x itself where the size is the same */
export function resize3d(b: GraphBuilder, x: Tensor, size: readonly [number, number, number]): Tensor {
  if (size.every((s, a) => s === x.shape[a + 1])) return x;
  const y = b.tensor('resize', [x.shape[0], size[0], size[1], size[2], x.shape[4]], x.dtype);
  b.emit('resize3d_fwd', { accumulate: 0 }, { x }, { y });
  return y;
}

function gradient(g: GradientContext): void {
  const dy = g.dout('y');
  const x = g.input('x');
  if (!dy || !g.needs(x)) return;
  const { tensors, accumulate } = g.sinks([x]);
  g.b.emit('resize3d_bwd', { accumulate }, { dy }, { dx: tensors[0] });
}
