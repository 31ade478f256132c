/** Fine-tuning and inference of the segmentation network as graphs. */
import type { GraphBuilder } from '../graph/builder.js';
import type { Graph, Shape, Tensor } from '../graph/types.js';
import { segmentationLosses, type SegmentationLoss } from '../losses/segmentation.js';
import type { PassMode } from '../nn/layers.js';
import { applyHead, decode, encode } from '../nn/unet.js';
import { warp3d, type Interpolation, type PassStatistics } from '../ops/index.js';
import type { OptimizerConfig, SegmentNetwork } from './network.js';
import { appendUpdate } from './update.js';

/** Where samples come from: given (inputs x, y), or drawn from volumes (descriptors x and y). */
export type SampleSource =
  { readonly kind: 'given' } | { readonly kind: 'volumes'; readonly interpolation: Interpolation };

export interface FinetuneStep {
  readonly batch: number;
  readonly patch: readonly [number, number, number];
  readonly loss: SegmentationLoss;
  readonly optimizer: OptimizerConfig;
  readonly samples: SampleSource;
}

export const FINETUNE_RESULTS = ['loss', 'loss.ce', 'loss.dice', 'gradnorm', 'guard'] as const;

function forward(b: GraphBuilder, net: SegmentNetwork, x: Tensor, mode: PassMode): Tensor {
  const { bottleneck, skips } = encode(b, net.encoder, x, mode);
  return applyHead(b, net.head, decode(b, net.decoder, bottleneck, skips, mode));
}

export function buildFinetuneStep(net: SegmentNetwork, step: FinetuneStep, b: GraphBuilder): Graph {
  const shape: Shape = [step.batch, ...step.patch, net.model.inChannels];
  const labelShape: Shape = [step.batch, ...step.patch, 1];
  const { samples } = step;
  const given = samples.kind === 'given';
  const x = given ? b.input('x', shape) : b.within('views', () => warp3d(b, 'x', shape, samples.interpolation));
  const y = given
    ? b.input('y', labelShape, 'i32')
    : b.within('views', () => warp3d(b, 'y', labelShape, 'nearest', 'i32'));
  const statistics: PassStatistics[] = [];
  const logits = forward(b, net, x, { kind: 'train', statistics });
  const losses = segmentationLosses(b, logits, y, step.loss);
  b.output(losses.total, 'loss');
  b.output(losses.ce, 'loss.ce');
  if (losses.dice) b.output(losses.dice, 'loss.dice');
  appendUpdate(b, net.state, losses.total, statistics, step.optimizer);
  return b.finish();
}

/** Input `x` [N, D, H, W, C], result `logits` [N, D, H, W, K], with running statistics. */
export function buildInference(
  net: SegmentNetwork,
  batch: number,
  patch: readonly [number, number, number],
  b: GraphBuilder,
): Graph {
  const x = b.input('x', [batch, ...patch, net.model.inChannels]);
  b.output(forward(b, net, x, { kind: 'eval' }), 'logits');
  return b.finish();
}
