/**
 * One MACL pre-training step as a graph (arXiv 2309.11876; docs/architecture.md shows the flow): four encoder passes
 * with one set of weights, a partial decoder in the dominant branch only, three losses, backward, update.
 */
import { GraphBuilder } from '../graph/builder.js';
import type { Graph, Shape, Tensor } from '../graph/types.js';
import { maclLosses, type ContrastiveLoss } from '../losses/contrastive.js';
import type { PassMode } from '../nn/layers.js';
import { projectImage, projectPixels } from '../nn/projectors.js';
import { decode, encode } from '../nn/unet.js';
import { resize3d, warp3d, type Interpolation, type PassStatistics } from '../ops/index.js';
import { downsampling, type OptimizerConfig, type PretrainNetwork } from './network.js';
import { appendUpdate } from './update.js';
import { MaclError } from '../errors.js';

/** The four views, [B, D, H, W, C] at full size. */
export interface Views {
  readonly i1: Tensor;
  readonly i2: Tensor;
  readonly v1: Tensor;
  readonly v2: Tensor;
}

/** Where the views come from: given (inputs i1, i2, v1, v2), or drawn from volumes (descriptors i | i1, i2; v1; v2). */
export type ViewSource =
  | { readonly kind: 'given' }
  | {
      readonly kind: 'volumes';
      readonly interpolation: Interpolation;
      /** The non-spatial views are the patch itself: one warp serves both. */
      readonly identity: boolean;
    };

export interface PretrainStep {
  readonly batch: number;
  readonly patch: readonly [number, number, number];
  /** Axes of `pos`: 3, or 1. */
  readonly positionAxes: number;
  readonly loss: ContrastiveLoss;
  readonly optimizer: OptimizerConfig;
  readonly views: ViewSource;
}

/** Names of the results in io. */
export const PRETRAIN_RESULTS = [
  'loss',
  'loss.global',
  'loss.dense',
  'loss.er',
  'cosine',
  'bottleneck',
  'gradnorm',
  'guard',
] as const;

export function buildPretrainStep(net: PretrainNetwork, step: PretrainStep, b: GraphBuilder): Graph {
  const { model } = net;
  const factor = downsampling(model);
  const shape: Shape = [step.batch, ...step.patch, model.inChannels];
  const views = b.within('views', () => makeViews(b, shape, step.views));
  const pos = b.input('pos', [step.batch, step.positionAxes, 1, 1, 1], 'f64');
  const small = step.patch.map((s, a) => {
    const f = factor[a] as number;
    if (s % f !== 0)
      throw new MaclError('config', `patch ${step.patch.join('×')} is not divisible by 1/λ = ${factor.join('×')}`);
    return s / f;
  }) as [number, number, number];
  const down = (name: string, t: Tensor) => b.within(name, () => resize3d(b, t, small));
  const statistics: PassStatistics[] = [];
  const train: PassMode = { kind: 'train', statistics };

  // The order in which running statistics see the passes: i2, down(i1), v2, down(v1); in the decoder i1, then v1.
  const i2 = b.within('i2', () => encode(b, net.encoder, views.i2, train));
  const i1 = b.within('i1', () => encode(b, net.encoder, down('down', views.i1), train));
  const v2 = b.within('v2', () => encode(b, net.encoder, views.v2, train));
  const v1 = b.within('v1', () => encode(b, net.encoder, down('down', views.v1), train));
  const denseDominant = b.within('i1', () => decode(b, net.decoder, i1.bottleneck, i1.skips, train));
  const v1Decoded = b.within('v1', () => decode(b, net.decoder, v1.bottleneck, v1.skips, train));

  const losses = maclLosses(
    b,
    {
      globalDominant: b.within('v1', () => projectImage(b, net.imageDominant, v1Decoded)),
      globalAuxiliary: b.within('v2', () => projectImage(b, net.imageAuxiliary, v2.bottleneck)),
      denseDominant,
      denseAuxiliary: b.within('i2', () => projectPixels(b, net.pixel, i2.bottleneck, train)),
      bottleneckDominant: i1.bottleneck,
      bottleneckAuxiliary: i2.bottleneck,
    },
    pos,
    step.loss,
  );
  b.output(losses.total, 'loss');
  b.output(losses.global, 'loss.global');
  b.output(losses.dense, 'loss.dense');
  b.output(losses.er, 'loss.er');
  b.output(losses.cosine, 'cosine');
  b.output(losses.bottleneckMeanSquare, 'bottleneck');
  appendUpdate(b, net.state, losses.total, statistics, step.optimizer);
  return b.finish();
}

function makeViews(b: GraphBuilder, shape: Shape, source: ViewSource): Views {
  if (source.kind === 'given')
    return { i1: b.input('i1', shape), i2: b.input('i2', shape), v1: b.input('v1', shape), v2: b.input('v2', shape) };
  const warp = (name: string) => warp3d(b, name, shape, source.interpolation);
  const i1 = warp(source.identity ? 'i' : 'i1');
  return { i1, i2: source.identity ? i1 : warp('i2'), v1: warp('v1'), v2: warp('v2') };
}
