/** macl pretrain: a dataset without labels → a network that fine-tuning starts from. */
import { METHOD_NAMES } from '../../methods/index.js';
import type { PretrainConfigInput } from '../../settings/types.js';
import { choice, text, trainingFlags } from '../flags.js';
import { configOf } from '../config-flags.js';
import { runTraining } from './training.js';
import { word, type Command } from './types.js';

export const command: Command = {
  name: 'pretrain',
  describe: 'pre-train on volumes without labels',
  flags: {
    ...trainingFlags,
    method: choice('method', 'pre-training method', METHOD_NAMES),
    fold: text('fold', 'leave out what this fold of the labelled cases holds out, as finetune --fold does'),
    val: text('val', 'none: pre-training has no validation'),
  },
  async run(flags, context) {
    const config = (await configOf(flags, 'pretrain')) as PretrainConfigInput;
    const { pretrain } = await import('../../train/pretrain.js');
    await runTraining(flags, context, (options) =>
      pretrain({ ...options, config, fold: word(flags, 'fold'), val: word(flags, 'val') }),
    );
  },
};
