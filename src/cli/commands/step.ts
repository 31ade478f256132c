/** macl step: one training step on a given batch, by which other frameworks are held against this one. */
import type { DeviceName } from '../../backend/types.js';
import type { Arithmetic } from '../../arithmetic.js';
import type { Precision } from '../../precision.js';
import { printJson } from '../context.js';
import { count, deviceFlags, stepFlags, text, toggle } from '../flags.js';
import { isSet, word, type Command } from './types.js';

export const command: Command = {
  name: 'step',
  describe: 'one training step on a given batch: losses, gradients, new weights',
  flags: {
    config: { ...text('config', 'configuration (JSON)'), demandOption: true },
    weights: { ...text('weights', 'weights (safetensors)'), demandOption: true },
    batch: { ...text('batch', 'batch (safetensors)'), demandOption: true },
    out: { ...text('out', 'results (safetensors)'), demandOption: true },
    steps: count('steps', 'repetitions on the same batch'),
    ...deviceFlags,
    ...stepFlags,
    json: toggle('print one JSON document'),
  },
  async run(flags, context) {
    const { step } = await import('../../step/files.js');
    const out = String(flags['out']);
    const results = await step({
      config: String(flags['config']),
      weights: String(flags['weights']),
      batch: String(flags['batch']),
      out,
      steps: flags['steps'] as number | undefined,
      device: word(flags, 'device') as DeviceName | undefined,
      threads: flags['threads'] as number | undefined,
      precision: word(flags, 'precision') as Precision | undefined,
      arithmetic: word(flags, 'arithmetic') as Arithmetic | undefined,
      signal: context.signal,
    });
    if (isSet(flags, 'json')) return printJson(context, { out, results });
    for (const [name, value] of Object.entries(results)) context.print(`${name} ${value}`);
  },
};
