/** `macl step`: runs `step.ts` on files. */
import { dirname } from 'node:path';
import { resolveConfig } from '../config/index.js';
import { makeFolder, readSafetensorsFile, writeSafetensorsFile } from '../data/files.js';
import { asFloat64 } from '../data/safetensors.js';
import { MaclError } from '../errors.js';
import { checkOptions, type OptionKinds } from '../options.js';
import { readConfigFile } from '../model/config-file.js';
import { ARITHMETICS, type Arithmetic } from '../arithmetic.js';
import { withTrain } from '../settings/with-train.js';
import { PRECISIONS, type Precision } from '../precision.js';
import { runStep } from './step.js';
import { MACHINE_OPTIONS, openMachine, type MachineOptions } from '../backend/machine.js';

export interface StepOptions extends MachineOptions {
  /** A JSON file, or the configuration itself. */
  readonly config: string | object;
  readonly weights: string;
  readonly batch: string;
  readonly out: string;
  /** Repetitions on the same batch. Default 1. */
  readonly steps?: number | undefined;
  /** Over the configuration's `train.precision`. */
  readonly precision?: Precision | undefined;
  /** Over the configuration's `train.arithmetic`. */
  readonly arithmetic?: Arithmetic | undefined;
  readonly signal?: AbortSignal | undefined;
}

const OPTIONS: OptionKinds<StepOptions> = {
  ...MACHINE_OPTIONS,
  config: 'text or object',
  weights: 'text',
  batch: 'text',
  out: 'text',
  steps: 'number',
  precision: PRECISIONS,
  arithmetic: ARITHMETICS,
  signal: 'signal',
};

/** @returns the loss and its parts, by name, of the last step */
export async function step(options: StepOptions): Promise<Record<string, number>> {
  checkOptions('step', options, OPTIONS, ['config', 'weights', 'batch', 'out']);
  const steps = options.steps ?? 1;
  if (!Number.isInteger(steps) || steps < 1)
    throw new MaclError('config', `steps: expected a whole number of at least 1, found ${steps}`);
  const source = typeof options.config === 'string' ? options.config : 'configuration';
  const config = withTrain(resolveConfig(await readConfigFile(options.config), { source }), options);
  const [weights, batch] = await Promise.all([
    readSafetensorsFile(options.weights),
    readSafetensorsFile(options.batch),
  ]);
  await makeFolder(dirname(options.out));
  const backend = await openMachine(options);
  try {
    const out = await runStep({
      config,
      weights: weights.tensors,
      batch: batch.tensors,
      backend,
      steps,
      files: { weights: options.weights, batch: options.batch },
      signal: options.signal,
    });
    await writeSafetensorsFile(options.out, out);
    return Object.fromEntries(
      [...out]
        .filter(([name]) => name === 'loss' || name.startsWith('loss.'))
        .map(([name, t]) => [name, asFloat64(t, name)[0] as number]),
    );
  } finally {
    await backend.close();
  }
}
