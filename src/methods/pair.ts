/**
 * What SimCLR and PCL have in common: two views of one patch, one encoder and one projector for both, contrast of the
 * projections among the batch's samples. Which samples are positives beside a sample's own other view is what they differ
 * in. Each view is a batch of its own to the norms.
 */
import type { Encoder } from '../backbones/index.js';
import type { View } from '../data/sampling/view.js';
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import type { PassMode } from '../nn/layers.js';
import { declareProjector, projectImage, type ImageProjector } from '../nn/projectors.js';
import { supcon, type PassStatistics, type SupconOptions } from '../ops/index.js';
import type { PretrainConfig } from '../settings/types.js';
import { alikeWatch, checkContrast } from './contrast.js';
import type { BatchResult, Method, Refuse } from './types.js';

export interface PairModules {
  readonly encoder: Encoder;
  readonly projector: ImageProjector;
}

type Shared = Pick<
  Method<PretrainConfig<unknown>, PairModules>,
  | 'task'
  | 'augment'
  | 'shrinks'
  | 'decoderBlocks'
  | 'passes'
  | 'patches'
  | 'foreground'
  | 'views'
  | 'couples'
  | 'results'
  | 'watchdogs'
>;

/** Without a change of intensity, two views of a patch are known by their histograms. */
const INTENSITY = { brightness: 0.2, contrast: 0.2, noise: 0.05 } as const;

export const PAIR: Shared = {
  task: 'pretrain',
  augment: { intensity: INTENSITY },
  couples: () => ['contrast'],
  shrinks: false,
  decoderBlocks: () => 0,
  passes: { full: 2, small: 0, decoded: 'full' },
  patches: 1,
  foreground: false,
  views: ({ augment: { intensity } }) =>
    ['v1', 'v2'].map((name): View => ({ name, kind: 'image', patch: 0, spatial: true, intensity })),
  results: () => ['loss', 'cosine'],
  watchdogs: () => [alikeWatch()],
};

export function checkPair({ train, augment }: PretrainConfig<unknown>, refuse: Refuse): void {
  checkContrast(train, refuse);
  const { brightness, contrast, noise } = augment.intensity;
  if (brightness === 0 && contrast === 0 && noise === 0)
    refuse(
      'augment.intensity',
      'brightness, contrast or noise above 0',
      JSON.stringify(augment.intensity),
      'two views of one intensity are known by their histograms, and nothing else is learnt',
    );
}

/** @param width of the projection; hidden layer and input have the bottleneck's channels */
export function declarePair(
  s: Parameters<Method['declare']>[0],
  backbone: Parameters<Method['declare']>[1],
  { model, init }: PretrainConfig<unknown>,
  width: number,
): PairModules {
  const wide = backbone.wide(model);
  return {
    encoder: backbone.declareEncoder(s, model),
    projector: declareProjector(s, 'projector.image', { inputs: wide, hidden: wide, outputs: width }, init.linear),
  };
}

/** @param pos [B, 1…3] float64 */
export function buildPair(
  b: GraphBuilder,
  net: PairModules,
  views: { readonly v1?: Tensor | undefined; readonly v2?: Tensor | undefined },
  pos: Tensor,
  options: SupconOptions,
): BatchResult {
  const statistics: PassStatistics[] = [];
  const train: PassMode = { kind: 'train', statistics };
  const project = (name: 'v1' | 'v2'): Tensor => {
    const view = views[name];
    if (!view) throw new MaclError('program', `the view ${name} is missing`);
    return b.within(name, () => projectImage(b, net.projector, net.encoder.encode(b, view, train).bottleneck));
  };
  const [z1, z2] = [project('v1'), project('v2')];
  const { loss, cosine } = b.within('loss', () => supcon(b, z1, z2, pos, options));
  return { loss, results: { cosine }, statistics };
}
