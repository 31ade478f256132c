/**
 * supcon: the position-aware contrastive loss, image-level (one vector a sample). densesupcon.ts is the same kernel at
 * every position of a grid. Equation: native/ops/supcon.h (MACL's L_g; the published code's L_d in a Python loop).
 */
import { checkLimit, CONTRASTED } from '../settings/limits.js';
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import { sameShape, showShape, sizeOf } from '../graph/shape.js';
import { defineKernel, noSecond, required, type GradientContext } from '../graph/kernel.js';
import type { Node } from '../graph/types.js';

const ATTRS = 'f64 tau;f64 scale;f64 threshold0;f64 threshold1;f64 threshold2;i64 accumulate;';
const gram = (n: Node) => 2 * 4 * required(n, 'z1').shape[0] * sizeOf(required(n, 'z1').shape);
defineKernel('supcon_fwd', 'z1 z2 pos > loss cosine ws?', ATTRS, {
  gradient,
  alike: ['z1', 'z2'],
  lossGrad: { bwd: 'supcon_bwd', fused: 'supcon_fwdbwd' },
  flops: gram,
});
defineKernel('supcon_bwd', 'z1 z2 pos dloss > dz1 dz2 ws?', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['dz1', 'dz2'] },
  alike: ['z1', 'z2', 'dz1', 'dz2'],
  flops: (n) => 2 * gram(n),
});
defineKernel('supcon_fwdbwd', 'z1 z2 pos dloss > loss cosine dz1 dz2 ws?', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['dz1', 'dz2'] },
  alike: ['z1', 'z2', 'dz1', 'dz2'],
  flops: (n) => 2 * gram(n),
});

export interface SupconOptions {
  readonly temperature: number;
  /** Samples are positives where their positions differ by less than this: one number, or one an axis of `pos`. */
  readonly threshold: number | readonly number[];
  /** The loss's factor: 1, or the released code's τ / 0.07. */
  readonly scale?: number;
}

export interface SupconResult {
  /** float64 scalar. */
  readonly loss: Tensor;
  /** float64 scalar: mean off-diagonal cosine similarity, averaged over positions. */
  readonly cosine: Tensor;
}

/**
 * @param z1 [B, D, H, W, C], the dominant branch's projections, which come first
 * @param z2 [B, D, H, W, C], the auxiliary branch's
 * @param pos [B, P] float64, P = 1…3
 */
export function supconAt(b: GraphBuilder, z1: Tensor, z2: Tensor, pos: Tensor, options: SupconOptions): SupconResult {
  if (!sameShape(z1.shape, z2.shape))
    throw new MaclError(
      'config',
      `supcon: the branches' projections differ: ${showShape(z1.shape)} and ${showShape(z2.shape)}`,
    );
  checkLimit(CONTRASTED, z1.shape[0], 'supcon');
  const axes = pos.shape[1];
  const { threshold } = options;
  const t = typeof threshold === 'number' ? [threshold, threshold, threshold] : [...threshold];
  if (typeof threshold !== 'number' && threshold.length !== axes)
    throw new MaclError('config', `supcon: ${threshold.length} thresholds for positions of ${axes} axes`);
  const loss = b.scalar('supcon');
  const cosine = b.scalar('cosine');
  const attrs = {
    tau: options.temperature,
    scale: options.scale ?? 1,
    threshold0: t[0] ?? 0,
    threshold1: t[1] ?? 0,
    threshold2: t[2] ?? 0,
    accumulate: 0,
  };
  b.emit('supcon_fwd', attrs, { z1, z2, pos }, { loss, cosine, ws: b.opaque('ws') });
  return { loss, cosine };
}

/** Image level: z1 and z2 are [B, 1, 1, 1, C]. */
export function supcon(b: GraphBuilder, z1: Tensor, z2: Tensor, pos: Tensor, options: SupconOptions): SupconResult {
  if (z1.shape[1] * z1.shape[2] * z1.shape[3] !== 1)
    throw new MaclError('config', `supcon takes one vector a sample, found ${showShape(z1.shape)}`);
  return supconAt(b, z1, z2, pos, options);
}

function gradient(g: GradientContext): void {
  const dloss = g.dout('loss');
  const [z1, z2, pos] = [g.input('z1'), g.input('z2'), g.input('pos')];
  if (!dloss || !(g.needs(z1) || g.needs(z2))) return;
  const { tensors, accumulate } = g.sinks([z1, z2]);
  const [dz1, dz2] = tensors;
  g.b.emit('supcon_bwd', { ...g.node.attrs, accumulate }, { z1, z2, pos, dloss }, { dz1, dz2, ws: g.b.opaque('ws') });
}
