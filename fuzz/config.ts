/** Configurations: trees with changed, missing, renamed and nested members. */
import { resolveConfig } from '../src/config/index.js';
import { mutateJson, Random } from './random.js';
import type { Target } from './target.js';

const SEEDS: readonly unknown[] = [
  { task: 'pretrain', preset: 'default', model: { dims: 3, filters: 16, levels: 3, decoderBlocks: 1 } },
  { task: 'pretrain', preset: 'paper-2d', loss: { temperature: 0.1, threshold: [0.1], weights: { dense: 0.5 } } },
  {
    task: 'finetune',
    model: {
      dims: 3,
      inChannels: 1,
      filters: 8,
      levels: 3,
      classes: 3,
      strides: [
        [1, 2, 2],
        [2, 2, 2],
        [2, 2, 2],
      ],
    },
    data: { patch: [32, 64, 32], spacingMm: [1, 1, 1], normalize: ['case'], foreground: 0.33 },
    train: { steps: 100, batch: 2, seed: 1, valEvery: 10 },
    optimizer: { name: 'adam', lr: 1e-3, lrFinal: 0, schedule: 'cosine' },
    augment: { rotation: [10, 10, 10], mirror: [true, false, true], scale: [0.8, 1.2], interpolation: 'cubic' },
    loss: { name: 'ce+dice', classWeights: [1, 2, 3], dicePer: 'batch' },
  },
];

export const config: Target = {
  name: 'config',
  describe: 'resolveConfig of mutated configurations; what is accepted is accepted again',
  run(number) {
    const random = new Random(number);
    const once = resolveConfig(mutateJson(random.pick(SEEDS), random));
    const again = resolveConfig(JSON.parse(JSON.stringify(once)));
    if (JSON.stringify(again) !== JSON.stringify(once)) throw new Error('a resolved configuration resolves to another');
  },
};
