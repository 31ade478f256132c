/** macl prepare: checks and prepares every case, so that training finds it ready. */
import { printJson } from '../context.js';
import { openProgress } from '../progress.js';
import { configOf } from '../config-flags.js';
import { choice, text, toggle, trainingFlags } from '../flags.js';
import { isSet, word, type Command } from './types.js';

export const command: Command = {
  name: 'prepare',
  describe: 'check every case and prepare it for training',
  flags: {
    data: trainingFlags.data,
    out: text('out', 'folder for the prepared cases (training takes it with --cache); default: the cache'),
    config: trainingFlags.config,
    dims: choice('dims', 'network of slices or of volumes', ['2', '3']),
    'slice-axis': trainingFlags['slice-axis'],
    set: trainingFlags.set,
    cases: text('cases', 'cases to prepare: FILE.json#KEY, a text file, a comma list, or a fraction'),
    'skip-bad': trainingFlags['skip-bad'],
    'follow-links': trainingFlags['follow-links'],
    json: toggle('print one JSON document'),
  },
  async run(flags, context) {
    const config = await configOf(flags, 'pretrain');
    const { prepare } = await import('../../api/prepare.js');
    const progress = await openProgress(context);
    try {
      const summary = await prepare({
        data: String(flags['data']),
        out: word(flags, 'out'),
        config,
        cases: word(flags, 'cases'),
        skipBad: isSet(flags, 'skipBad'),
        followLinks: isSet(flags, 'followLinks'),
        signal: context.signal,
        onEvent: progress.onEvent,
      });
      progress.done();
      if (isSet(flags, 'json')) return printJson(context, summary);
      const left = summary.skipped.length > 0 ? `, ${summary.skipped.length} left out` : '';
      context.print(`${summary.cases} cases (${summary.labelled} labelled${left}) in ${summary.folder}`);
    } finally {
      progress.done();
    }
  },
};
