/** macl quickstart: the whole path on built-in synthetic volumes. */
import type { DeviceName } from '../../backend/types.js';
import { printJson } from '../context.js';
import { openProgress } from '../progress.js';
import { count, deviceFlags, text, toggle } from '../flags.js';
import { isSet, word, type Command } from './types.js';

export const command: Command = {
  name: 'quickstart',
  describe: 'pre-train, fine-tune, predict and evaluate on synthetic volumes, within minutes',
  flags: {
    out: text('out', 'folder for the runs'),
    seed: count('seed', 'seed of all random numbers'),
    ...deviceFlags,
    json: toggle('print one JSON document'),
  },
  async run(flags, context) {
    const { quickstart } = await import('../../quickstart/quickstart.js');
    const progress = await openProgress(context);
    try {
      const report = await quickstart({
        out: word(flags, 'out'),
        seed: flags['seed'] as number | undefined,
        device: word(flags, 'device') as DeviceName | undefined,
        threads: flags['threads'] as number | undefined,
        signal: context.signal,
        onEvent: progress.onEvent,
      });
      progress.done();
      if (isSet(flags, 'json')) printJson(context, report);
      else context.print(report.table);
    } finally {
      progress.done();
    }
  },
};
