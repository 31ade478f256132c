/** avgpool: the mean over D, H, W. Equation: native/ops/pool.h. */
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import { defineKernel, noSecond, type GradientContext } from '../graph/kernel.js';

defineKernel('avgpool_fwd', 'x > y ws?', 'i64 accumulate;', { gradient, alike: ['x', 'y'] });
defineKernel('avgpool_bwd', 'dy > dx', 'i64 accumulate;', {
  gradient: noSecond,
  accumulates: { accumulate: ['dx'] },
  alike: ['dy', 'dx'],
});

/** @returns [N, 1, 1, 1, C] */
export function avgpool(b: GraphBuilder, x: Tensor): Tensor {
  const y = b.tensor('avgpool', [x.shape[0], 1, 1, 1, x.shape[4]], x.dtype);
  b.emit('avgpool_fwd', { accumulate: 0 }, { x }, { y, ws: b.opaque('ws') });
  return y;
}

function gradient(g: GradientContext): void {
  const dy = g.dout('y');
  const x = g.input('x');
  if (!dy || !g.needs(x)) return;
  const { tensors, accumulate } = g.sinks([x]);
  g.b.emit('avgpool_bwd', { accumulate }, { dy }, { dx: tensors[0] });
}
