/** macl finetune: labelled cases (and a pre-trained run, or none) → a segmentation model. */
import type { FinetuneConfigInput } from '../../settings/types.js';
import { text, trainingFlags } from '../flags.js';
import { configOf } from '../config-flags.js';
import { runTraining } from './training.js';
import { word, type Command } from './types.js';

export const command: Command = {
  name: 'finetune',
  describe: 'train a segmentation with labelled cases, from a pre-trained run or from scratch',
  flags: {
    ...trainingFlags,
    init: text('init', 'pre-trained run or model file; from scratch without'),
    labels: text('labels', 'labelled cases to train on: FILE.json#KEY, a text file, a comma list, or a fraction'),
    val: text('val', 'validation cases: a list as for --labels, a fraction, or none'),
    fold: text('fold', 'validate on fold k of n (by patient): k/n, or a fold of a list such as splits_final.json#0'),
  },
  async run(flags, context) {
    const config = (await configOf(flags, 'finetune')) as FinetuneConfigInput;
    const { finetune } = await import('../../train/finetune.js');
    await runTraining(flags, context, (options) =>
      finetune({
        ...options,
        config,
        init: word(flags, 'init'),
        labels: word(flags, 'labels'),
        val: word(flags, 'val'),
        fold: word(flags, 'fold'),
      }),
    );
  },
};
