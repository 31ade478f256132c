/** dice: soft Dice loss over the foreground classes (or all), per batch or per sample. Equation: native/ops/losses.h. */
import { checkLimit, CLASSES } from '../settings/limits.js';
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import { defineKernel, noSecond, type GradientContext } from '../graph/kernel.js';
import { IGNORE_LABEL } from '../volume.js';

const ATTRS = 'i64 ignore;i64 perSample;i64 background;f64 smooth;i64 accumulate;';
defineKernel('dice_fwd', 'x y > loss sums ws?', ATTRS, {
  gradient,
  lossGrad: { bwd: 'dice_bwd', fused: 'dice_fwdbwd' },
});
defineKernel('dice_bwd', 'x y sums dloss > dx', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['dx'] },
  alike: ['x', 'dx'],
});
defineKernel('dice_fwdbwd', 'x y dloss > loss sums dx ws?', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['dx'] },
  alike: ['x', 'dx'],
});

/**
 * @param x logits [N, D, H, W, K]
 * @param y labels [N, D, H, W, 1] int32
 * @param options perSample: sums of each sample, then their mean; background: class 0 counts too; smooth: 1e-5 by default
 */
export function dice(
  b: GraphBuilder,
  x: Tensor,
  y: Tensor,
  options: { perSample?: boolean; background?: boolean; smooth?: number } = {},
): Tensor {
  checkLimit(CLASSES, x.shape[4], 'dice');
  const loss = b.scalar('dice');
  const samples = options.perSample ? x.shape[0] : 1;
  const sums = b.tensor('sums', [samples, x.shape[4], 3, 1, 1], 'f64');
  const attrs = {
    ignore: IGNORE_LABEL,
    perSample: options.perSample ? 1 : 0,
    background: options.background ? 1 : 0,
    smooth: options.smooth ?? 1e-5,
    accumulate: 0,
  };
  b.emit('dice_fwd', attrs, { x, y }, { loss, sums, ws: b.opaque('ws') });
  return loss;
}

function gradient(g: GradientContext): void {
  const dloss = g.dout('loss');
  const x = g.input('x');
  if (!dloss || !g.needs(x)) return;
  const { tensors, accumulate } = g.sinks([x]);
  g.b.emit(
    'dice_bwd',
    { ...g.node.attrs, accumulate },
    { x, y: g.input('y'), sums: g.output('sums'), dloss },
    { dx: tensors[0] },
  );
}
