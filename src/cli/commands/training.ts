/** What `pretrain` and `finetune` share: options of a run from flags, and what is said at its end. */
import type { RunSummary } from '../../train/trainer.js';
import type { DeviceName } from '../../backend/types.js';
import { printJson, type CommandContext } from '../context.js';
import type { Given } from '../config-flags.js';
import { openProgress } from '../progress.js';
import { dataOptions, isSet, word } from './types.js';
import { counted } from '../../words.js';

export async function runTraining(
  flags: Given,
  context: CommandContext,
  start: (options: ReturnType<typeof runOptions>) => Promise<RunSummary>,
): Promise<void> {
  const progress = await openProgress(context);
  try {
    const summary = await start(runOptions(flags, context, progress.onEvent));
    progress.done();
    if (isSet(flags, 'json')) printJson(context, summary);
    else context.print(summary.model);
    if (summary.skipped > 0)
      context.say(`${counted(summary.skipped, 'step')} skipped: loss or gradient was not finite`);
  } finally {
    progress.done();
  }
}

function runOptions(
  flags: Given,
  context: CommandContext,
  onEvent: Awaited<ReturnType<typeof openProgress>>['onEvent'],
) {
  return {
    ...dataOptions(flags),
    out: String(flags['out']),
    cacheDir: word(flags, 'cache'),
    skipBad: isSet(flags, 'skipBad'),
    device: word(flags, 'device') as DeviceName | undefined,
    threads: flags['threads'] as number | undefined,
    resume: isSet(flags, 'resume'),
    signal: context.signal,
    onEvent,
  };
}
