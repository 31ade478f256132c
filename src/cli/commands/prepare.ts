/** macl prepare: checks and prepares every case, so that training finds it ready. */
import type { PretrainConfigInput } from '../../settings/types.js';
import { printJson } from '../context.js';
import { openProgress } from '../progress.js';
import { configOf } from '../config-flags.js';
import { choice, dataFlags, text, toggle, trainingFlags } from '../flags.js';
import { dataOptions, isSet, word, type Command } from './types.js';
import { counted } from '../../words.js';

export const command: Command = {
  name: 'prepare',
  describe: 'check every case and prepare it for training',
  flags: {
    ...dataFlags,
    out: text('out', 'folder for the prepared cases (training takes it with --cache)'),
    cache: text('cache', 'the same as --out; give one of them'),
    config: trainingFlags.config,
    dims: choice('dims', 'network of slices or of volumes', ['2', '3']),
    'slice-axis': trainingFlags['slice-axis'],
    set: trainingFlags.set,
    'skip-bad': trainingFlags['skip-bad'],
    json: toggle('print one JSON document'),
  },
  async run(flags, context) {
    const config = (await configOf(flags, 'pretrain', 'data')) as PretrainConfigInput;
    const { prepare } = await import('../../train/prepare-command.js');
    const progress = await openProgress(context);
    try {
      const summary = await prepare({
        ...dataOptions(flags),
        out: word(flags, 'out'),
        cacheDir: word(flags, 'cache'),
        config,
        skipBad: isSet(flags, 'skipBad'),
        signal: context.signal,
        onEvent: progress.onEvent,
      });
      progress.done();
      for (const { id, message } of summary.skipped) context.say(`left out ${id}: ${message}`);
      if (isSet(flags, 'json')) return printJson(context, summary);
      const leftOut = new Set(summary.skipped.map(({ id }) => id)).size;
      const left = leftOut > 0 ? `, ${leftOut} left out` : '';
      context.print(`${counted(summary.cases, 'case')} (${summary.labelled} labelled${left}) in ${summary.cacheDir}`);
    } finally {
      progress.done();
    }
  },
};
