/**
 * What the encoder's features look like, as a graph beside the training step: one pass with batch statistics over given
 * patches, and the products of the channels of each level. It has no commit phase, so it changes nothing.
 */
import type { GraphBuilder } from '../graph/builder.js';
import { sizeOf } from '../graph/shape.js';
import type { Graph, Shape } from '../graph/types.js';
import { channelProducts, warp3d, type Interpolation } from '../ops/index.js';
import type { Triple } from '../volume.js';
import type { Network } from './network.js';

/** A level of the encoder: its features are what goes to the decoder. Results are `<name>.products` and `<name>.sums`. */
export interface ProbedLevel {
  readonly name: string;
  readonly channels: number;
  /** Vectors that were summed over: samples × voxels. */
  readonly count: number;
}

/** The patches come from volumes, through the descriptors `x`, or (`given`) as the input `x`. The bottleneck comes last. */
export function buildProbe(
  { config, backbone, modules }: Network,
  batch: number,
  patch: Triple,
  source: Interpolation | 'given',
  b: GraphBuilder,
): { graph: Graph; levels: readonly ProbedLevel[] } {
  const shape: Shape = [batch, ...patch, config.model.inChannels];
  const x = source === 'given' ? b.input('x', shape) : b.within('views', () => warp3d(b, 'x', shape, source));
  const { skips, bottleneck } = modules.encoder.encode(b, x, { kind: 'train', statistics: [] });
  const names = backbone.levelNames(config.model);
  const levels = [...skips, bottleneck].map((features, l): ProbedLevel => {
    const name = names[l] ?? `level ${l}`;
    const { products, sums } = b.within(name, () => channelProducts(b, features));
    b.output(products, `${name}.products`);
    b.output(sums, `${name}.sums`);
    const channels = features.shape[4];
    return { name, channels, count: sizeOf(features.shape) / channels };
  });
  return { graph: b.finish(), levels };
}
