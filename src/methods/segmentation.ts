/** Segmentation with labels: fine-tuning's step, and inference. The whole decoder and a head, cross-entropy and soft Dice. */
import type { Decoder, Encoder, Head } from '../backbones/index.js';
import type { View } from '../data/sampling/view.js';
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import type { Graph, Tensor } from '../graph/types.js';
import { segmentationLosses } from '../losses/segmentation.js';
import type { PassMode } from '../nn/layers.js';
import type { PassStatistics } from '../ops/index.js';
import { list, number, object, oneOf, orNull } from '../settings/json-schema.js';
import { CLASSES } from '../settings/limits.js';
import type { FinetuneConfig, FinetuneLossConfig } from '../settings/types.js';
import type { Triple } from '../volume.js';
import type { Method } from './types.js';

export interface SegmentationModules {
  readonly encoder: Encoder;
  readonly decoder: Decoder;
  readonly head: Head;
}

export const segmentation: Method<FinetuneConfig, SegmentationModules> = {
  name: 'segmentation',
  task: 'finetune',
  describe: 'segmentation with labels',
  source: 'cross-entropy and soft Dice',

  lossSchema: object('The segmentation loss.', {
    name: oneOf('cross-entropy, or cross-entropy + soft Dice', 'ce', 'ce+dice'),
    classWeights: orNull(
      list(number(0, 1e6, 'a weight'), 2, CLASSES.most, 'a weight for each class, for the cross-entropy'),
    ),
    dicePer: oneOf('Dice over the whole batch, or per sample', 'batch', 'sample'),
  }),
  resolveLoss(input) {
    const loss = input as Partial<FinetuneLossConfig>;
    return { name: loss.name ?? 'ce+dice', classWeights: loss.classWeights ?? null, dicePer: loss.dicePer ?? 'batch' };
  },
  presets: { 'paper-2d': { loss: { name: 'ce' } }, 'code-2d': { loss: { name: 'ce' } } },
  check({ model, loss }, _input, refuse) {
    if (model.classes < 2) refuse('model.classes', 'the number of classes, the background counted', 'nothing');
    const { classWeights } = loss;
    if (classWeights && classWeights.length !== model.classes)
      refuse('loss.classWeights', `${model.classes} entries (model.classes)`, classWeights);
    if (classWeights && !classWeights.some((w) => w > 0))
      refuse('loss.classWeights', 'at least one weight above 0', classWeights);
  },
  describeLoss: ({ loss }) => loss.name,
  couples: ({ loss }) => [
    ...(loss.classWeights ? ["the cross-entropy's class weights"] : []),
    ...(loss.name === 'ce+dice' && loss.dicePer === 'batch' ? ['Dice'] : []),
  ],

  shrinks: false,
  decoderBlocks: (model) => model.levels,
  passes: { full: 1, small: 0, decoded: 'full' },

  patches: 1,
  foreground: true,
  views: ({ augment }): View[] => [
    { name: 'x', kind: 'image', patch: 0, spatial: true, intensity: augment.intensity },
    { name: 'y', kind: 'labels', of: 'x' },
  ],
  inputs: () => [],

  declare(s, backbone, { model }) {
    return {
      encoder: backbone.declareEncoder(s, model),
      decoder: backbone.declareDecoder(s, model, model.levels),
      head: backbone.declareHead(s, model, model.classes),
    };
  },
  build(b, net, { x, y }, { loss }) {
    if (!x || !y) throw new MaclError('program', 'segmentation needs x and y');
    const statistics: PassStatistics[] = [];
    const losses = segmentationLosses(b, logitsOf(b, net, x, { kind: 'train', statistics }), y, loss);
    const results = { 'loss.ce': losses.ce, ...(losses.dice ? { 'loss.dice': losses.dice } : {}) };
    return { loss: losses.total, results, statistics };
  },
  results: ({ loss }) => ['loss', 'loss.ce', ...(loss.name === 'ce+dice' ? ['loss.dice'] : [])],
};

/** [N, D, H, W, outputs of the head]. */
export function logitsOf(b: GraphBuilder, net: SegmentationModules, x: Tensor, mode: PassMode): Tensor {
  return net.head.apply(b, net.decoder.decode(b, net.encoder.encode(b, x, mode), mode));
}

/** Input `x` [N, D, H, W, C], result `logits` [N, D, H, W, K], with running statistics. */
export function buildInference(
  net: { readonly modules: SegmentationModules; readonly config: { readonly model: { readonly inChannels: number } } },
  batch: number,
  patch: Triple,
  b: GraphBuilder,
): Graph {
  const x = b.input('x', [batch, ...patch, net.config.model.inChannels]);
  b.output(logitsOf(b, net.modules, x, { kind: 'eval' }), 'logits');
  return b.finish();
}
