/** softmaxce: cross-entropy over voxels with class weights and an ignored label. Equation: native/ops/losses.h. */
import { checkLimit, CLASSES } from '../settings/limits.js';
import { IGNORE_LABEL } from '../volume.js';
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import { defineKernel, noSecond, type GradientContext } from '../graph/kernel.js';

const ATTRS = 'i64 ignore;i64 accumulate;';
defineKernel('softmaxce_fwd', 'x y cw? > loss count ws?', ATTRS, {
  gradient,
  lossGrad: { bwd: 'softmaxce_bwd', fused: 'softmaxce_fwdbwd' },
});
defineKernel('softmaxce_bwd', 'x y cw? count dloss > dx', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['dx'] },
  alike: ['x', 'dx'],
});
defineKernel('softmaxce_fwdbwd', 'x y cw? dloss > loss count dx ws?', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['dx'] },
  alike: ['x', 'dx'],
});

/**
 * @param x logits [N, D, H, W, K]
 * @param y labels [N, D, H, W, 1] int32
 * @param classWeights [K] float64, or null for 1 each
 */
export function softmaxce(b: GraphBuilder, x: Tensor, y: Tensor, classWeights: Tensor | null = null): Tensor {
  checkLimit(CLASSES, x.shape[4], 'softmaxce');
  const loss = b.scalar('ce');
  const count = b.scalar('count');
  b.emit(
    'softmaxce_fwd',
    { ignore: IGNORE_LABEL, accumulate: 0 },
    { x, y, cw: classWeights },
    { loss, count, ws: b.opaque('ws') },
  );
  return loss;
}

function gradient(g: GradientContext): void {
  const dloss = g.dout('loss');
  const x = g.input('x');
  if (!dloss || !g.needs(x)) return;
  const { tensors, accumulate } = g.sinks([x]);
  const inputs = { x, y: g.input('y'), cw: g.optional('cw'), count: g.output('count'), dloss };
  g.b.emit('softmaxce_bwd', { ...g.node.attrs, accumulate }, inputs, { dx: tensors[0] });
}
