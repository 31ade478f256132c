/**
 * VolumeFusion (Wang et al., arXiv 2306.16925; openmedlab/MIS-FM): patches f and b of two cases are mixed within random boxes,
 * x = α·f + (1 − α)·b with α of five levels (0 outside), and the network says the level of every voxel. It pre-trains the whole
 * decoder; the head is the pretext's own.
 */
import type { View } from '../data/sampling/view.js';
import { MaclError } from '../errors.js';
import { segmentationLosses } from '../losses/segmentation.js';
import { BOX_WORDS, boxmix, type PassStatistics } from '../ops/index.js';
import type { Draws } from '../philox.js';
import { object, oneOf } from '../settings/json-schema.js';
import type { FinetuneLossConfig, PretrainConfig } from '../settings/types.js';
import type { Triple } from '../volume.js';
import { logitsOf, type SegmentationModules } from './segmentation.js';
import type { Method, NumberInput } from './types.js';
import { staysAbove } from './watchdog.js';

type FusionLossConfig = Pick<FinetuneLossConfig, 'name'>;

/** α = level / 4. */
const LEVELS = 4;
const CLASSES = LEVELS + 1;
/** Boxes of a sample; a row for each that could be. */
const BOXES = { least: 10, most: 40 } as const;
/** Voxels of a box along an axis: published for 64×128×128 as 8 … 40 and 8 … 80. */
const LEAST_SIDE = 8;
const MOST_SHARE = 0.625;
/** Cross-entropy that stays at that of equal chances. */
const UNLEARNT = 0.995 * Math.log(CLASSES);
const UNLEARNT_STEPS = 200;

export const volumefusion: Method<PretrainConfig<FusionLossConfig>, SegmentationModules> = {
  name: 'volumefusion',
  task: 'pretrain',
  describe: 'two volumes mixed within boxes, the share of each told voxel by voxel: trains the whole decoder',
  source: 'arXiv 2306.16925; openmedlab/MIS-FM',

  lossSchema: object('The loss of VolumeFusion.', {
    name: oneOf('cross-entropy, or cross-entropy + soft Dice over all five levels', 'ce', 'ce+dice'),
  }),
  resolveLoss: ({ name }: Partial<FusionLossConfig>) => ({ name: name ?? 'ce+dice' }),
  describeLoss: ({ loss }) => `${loss.name} over ${CLASSES} levels of mixture`,
  couples: ({ loss }) => (loss.name === 'ce+dice' ? ['Dice'] : []),

  shrinks: false,
  decoderBlocks: (model) => model.levels,
  passes: { full: 1, small: 0, decoded: 'full' },

  patches: 2,
  foreground: false,
  views: ({ augment: { intensity } }) =>
    ['f', 'b'].map((name, patch): View => ({ name, kind: 'image', patch, spatial: true, intensity })),
  inputs: ({ data }) => [boxInput(data.patch)],

  declare: (s, backbone, { model }) => ({
    encoder: backbone.declareEncoder(s, model),
    decoder: backbone.declareDecoder(s, model, model.levels),
    // Under a name of its own: it says nothing of any fine-tuning's classes, however many those are.
    head: s.under('pretext.', {}, () => backbone.declareHead(s, model, CLASSES)),
  }),
  build(b, net, { f, b: second, boxes }, { loss }) {
    if (!f || !second || !boxes) throw new MaclError('program', 'volumefusion needs f, b and boxes');
    const statistics: PassStatistics[] = [];
    const { x, labels } = b.within('views', () => boxmix(b, f, second, boxes, LEVELS));
    const losses = segmentationLosses(b, logitsOf(b, net, x, { kind: 'train', statistics }), labels, {
      ...loss,
      classWeights: null,
      dicePer: 'batch',
      background: true,
    });
    const results = { 'loss.ce': losses.ce, ...(losses.dice ? { 'loss.dice': losses.dice } : {}) };
    return { loss: losses.total, results, statistics };
  },
  results: ({ loss }) => ['loss', 'loss.ce', ...(loss.name === 'ce+dice' ? ['loss.dice'] : [])],

  watchdogs: () => [
    staysAbove(
      'loss.ce',
      UNLEARNT,
      UNLEARNT_STEPS,
      (step) =>
        `nothing is learnt: the cross-entropy has stayed at ln ${CLASSES}, that of equal chances, for ${UNLEARNT_STEPS} steps ` +
        `(step ${step}). A higher learning rate, or volumes that show more, may help.`,
    ),
  ],
};

/** `boxes` [B, 40, 7] int32: start D, H, W, size D, H, W, level; rows of zeros follow the boxes that were drawn. */
function boxInput(patch: Triple | null): NumberInput {
  return {
    name: 'boxes',
    dtype: 'i32',
    sizes: [BOXES.most, BOX_WORDS],
    fits: {
      accepts: ({ length, 0: m = 0, 1: words }) => length === 2 && m >= 1 && words === BOX_WORDS,
      expected: 'M, 7',
    },
    values(_sample, draws) {
      if (!patch) throw new MaclError('program', 'boxes are drawn within a patch, and none is planned');
      const rows = new Int32Array(BOXES.most * BOX_WORDS);
      const count = BOXES.least + draws.int(BOXES.most - BOXES.least + 1);
      for (let i = 0; i < count; i++) rows.set(boxWithin(patch, draws), i * BOX_WORDS);
      return rows;
    },
  };
}

/** Lies within the patch whole; an axis of one voxel has it. */
function boxWithin(patch: Triple, draws: Draws): number[] {
  const sides = patch.map((length) => {
    const least = Math.min(LEAST_SIDE, Math.max(1, Math.round(length / LEAST_SIDE)));
    return least + draws.int(Math.max(least, Math.floor(MOST_SHARE * length)) - least + 1);
  });
  const starts = patch.map((length, axis) => draws.int(length - (sides[axis] as number) + 1));
  return [...starts, ...sides, draws.int(CLASSES)];
}
