/** macl predict: volumes → label volumes on their own grids. */
import type { DeviceName } from '../../backend/types.js';
import { printJson } from '../context.js';
import { openProgress } from '../progress.js';
import { deviceFlags, text, toggle } from '../flags.js';
import { isSet, word, type Command } from './types.js';

export const command: Command = {
  name: 'predict',
  describe: 'segment a volume or a folder of volumes',
  flags: {
    model: { ...text('model', "a fine-tuned run's folder, or its model.safetensors"), demandOption: true },
    input: { ...text('input', 'a volume, or a folder of volumes'), demandOption: true },
    out: { ...text('out', 'folder for the results'), demandOption: true },
    mirror: toggle('average over mirrored volumes too'),
    probabilities: toggle('write probabilities beside the labels'),
    ...deviceFlags,
    json: toggle('print one JSON document'),
  },
  async run(flags, context) {
    const { predict } = await import('../../index.js');
    const progress = await openProgress(context);
    try {
      const files = await predict({
        model: String(flags['model']),
        input: String(flags['input']),
        out: String(flags['out']),
        mirror: isSet(flags, 'mirror'),
        probabilities: isSet(flags, 'probabilities'),
        device: word(flags, 'device') as DeviceName | undefined,
        threads: flags['threads'] as number | undefined,
        signal: context.signal,
        onCase: (event) => progress.onEvent({ kind: 'predict', ...event }),
        onNote: (message) => progress.onEvent({ kind: 'note', message }),
      });
      progress.done();
      if (isSet(flags, 'json')) return printJson(context, { files });
      for (const { file } of files) context.print(file);
    } finally {
      progress.done();
    }
  },
};
