/** macl predict: volumes → label volumes on their own grids. */
import type { DeviceName } from '../../backend/types.js';
import type { Arithmetic } from '../../arithmetic.js';
import type { PrecisionChoice } from '../../precision.js';
import { printJson } from '../context.js';
import { openProgress } from '../progress.js';
import { choice, deviceFlags, networkFlags, text, texts, toggle } from '../flags.js';
import { isSet, word, type Command } from './types.js';

export const command: Command = {
  name: 'predict',
  describe: 'segment a volume or a folder of volumes',
  flags: {
    model: {
      ...texts("a fine-tuned run's folder, or its model.safetensors; several: their mean"),
      demandOption: true,
    },
    input: { ...text('input', 'a volume, or a folder of volumes'), demandOption: true },
    out: { ...text('out', 'folder for the results, or the .nii.gz of a single one'), demandOption: true },
    cases: text('cases', 'only these: FILE.json#KEY, a text file, a comma list, or a fraction'),
    mirror: toggle('average over mirrored volumes too, on the axes that training mirrored'),
    'largest-component': toggle('keep the largest connected part of each class'),
    'non-finite': choice('non-finite', 'voxels that are not finite; default: as in training', ['refuse', 'zero']),
    probabilities: toggle('write probabilities beside the labels'),
    continue: toggle('leave out cases whose results are there'),
    overwrite: toggle('replace files that predict did not write'),
    ...deviceFlags,
    ...networkFlags,
    json: toggle('print one JSON document'),
  },
  async run(flags, context) {
    const { predict } = await import('../../index.js');
    const progress = await openProgress(context);
    try {
      const files = await predict({
        model: flags['model'] as readonly string[],
        input: String(flags['input']),
        out: String(flags['out']),
        cases: word(flags, 'cases'),
        mirror: isSet(flags, 'mirror'),
        largestComponent: isSet(flags, 'largestComponent'),
        probabilities: isSet(flags, 'probabilities'),
        continue: isSet(flags, 'continue'),
        overwrite: isSet(flags, 'overwrite'),
        nonFinite: word(flags, 'nonFinite') as 'refuse' | 'zero' | undefined,
        device: word(flags, 'device') as DeviceName | undefined,
        threads: flags['threads'] as number | undefined,
        precision: word(flags, 'precision') as PrecisionChoice | undefined,
        arithmetic: word(flags, 'arithmetic') as Arithmetic | undefined,
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
