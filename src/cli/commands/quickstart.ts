/** macl quickstart: the whole path on built-in synthetic volumes. */
import type { DeviceName } from '../../backend/types.js';
import { MaclError } from '../../errors.js';
import type { TrainEvent } from '../../train/events.js';
import { printJson } from '../context.js';
import { openProgress } from '../progress.js';
import { count, deviceFlags, text, toggle } from '../flags.js';
import { isSet, word, type Command } from './types.js';

export const command: Command = {
  name: 'quickstart',
  describe: 'pre-train, fine-tune, predict and evaluate on synthetic volumes, in about two minutes',
  flags: {
    out: text('out', 'folder for the runs; default: ./macl-quickstart, or a numbered sibling'),
    seed: count('seed', 'seed of all random numbers'),
    ...deviceFlags,
    json: toggle('print one JSON document'),
  },
  async run(flags, context) {
    const api: object = await import('../../index.js');
    if (!('quickstart' in api)) throw new MaclError('state', 'quickstart: not in this build');
    const quickstart = api.quickstart as (options: QuickstartOptions) => Promise<QuickstartSummary>;
    const progress = await openProgress(context);
    try {
      const summary = await quickstart({
        out: word(flags, 'out'),
        seed: flags['seed'] as number | undefined,
        device: word(flags, 'device') as DeviceName | undefined,
        threads: flags['threads'] as number | undefined,
        signal: context.signal,
        onEvent: progress.onEvent,
      });
      progress.done();
      if (isSet(flags, 'json')) printJson(context, summary);
      else context.print(summary.table);
    } finally {
      progress.done();
    }
  },
};

/** What the command gives to and takes from `quickstart`. */
export interface QuickstartOptions {
  readonly out: string | undefined;
  readonly seed: number | undefined;
  readonly device: DeviceName | undefined;
  readonly threads: number | undefined;
  readonly signal: AbortSignal;
  readonly onEvent: (event: TrainEvent) => void;
}

export interface QuickstartSummary {
  /** The comparison, for people: rows `scratch` and `pre-trained`. */
  readonly table: string;
}
