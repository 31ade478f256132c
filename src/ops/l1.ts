/** l1: mean absolute difference of two tensors of one shape (MACL's L_ER). Equation: native/ops/losses.h. */
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import { sameShape, showShape } from '../graph/shape.js';
import { defineKernel, noSecond, type GradientContext } from '../graph/kernel.js';

const ATTRS = 'i64 relative;i64 accumulate;';
defineKernel('l1_fwd', 'a b > loss sums meansq? ws?', ATTRS, {
  gradient,
  alike: ['a', 'b'],
  lossGrad: { bwd: 'l1_bwd', fused: 'l1_fwdbwd' },
});
defineKernel('l1_bwd', 'a b sums dloss > da db', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['da', 'db'] },
  alike: ['a', 'b', 'da', 'db'],
});
defineKernel('l1_fwdbwd', 'a b dloss > loss sums meansq? da db ws?', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['da', 'db'] },
  alike: ['a', 'b', 'da', 'db'],
});

/** @param relative divides by the tensors' own size, so that shrinking both does not help @returns float64 scalars */
export function l1(b: GraphBuilder, x: Tensor, y: Tensor, relative = false): { loss: Tensor; meansq: Tensor } {
  if (!sameShape(x.shape, y.shape))
    throw new MaclError('config', `l1: shapes differ: ${showShape(x.shape)} and ${showShape(y.shape)}`);
  const loss = b.scalar('l1');
  const meansq = b.scalar('meansq');
  const sums = b.tensor('sums', [2, 1, 1, 1, 1], 'f64');
  b.emit(
    'l1_fwd',
    { relative: relative ? 1 : 0, accumulate: 0 },
    { a: x, b: y },
    { loss, sums, meansq, ws: b.opaque('ws') },
  );
  return { loss, meansq };
}

function gradient(g: GradientContext): void {
  const dloss = g.dout('loss');
  const [a, b] = [g.input('a'), g.input('b')];
  if (!dloss || !(g.needs(a) || g.needs(b))) return;
  const { tensors, accumulate } = g.sinks([a, b]);
  const sums = g.output('sums');
  g.b.emit('l1_bwd', { ...g.node.attrs, accumulate }, { a, b, sums, dloss }, { da: tensors[0], db: tensors[1] });
}
