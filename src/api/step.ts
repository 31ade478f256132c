/** One training step on a given batch, from files to a file: what other frameworks are held against. */
import { resolveConfig } from '../config/index.js';
import { readSafetensorsFile, writeSafetensorsFile } from '../data/files.js';
import { asFloat64 } from '../data/safetensors.js';
import { runStep } from '../train/step.js';
import { openMachine } from '../train/trainer.js';
import { readConfigFile } from './config-file.js';
import type { StepOptions, StepSummary } from './types.js';

/** @throws MaclError: `config`, `file`, `weights`, `device`, `memory` */
export async function step(options: StepOptions): Promise<StepSummary> {
  const config = resolveConfig(await readConfigFile(options.config), { source: options.config });
  const [weights, batch] = await Promise.all([
    readSafetensorsFile(options.weights),
    readSafetensorsFile(options.batch),
  ]);
  const backend = await openMachine(options);
  try {
    const tensors = await runStep({
      config,
      weights: weights.tensors,
      batch: batch.tensors,
      backend,
      steps: options.steps ?? 1,
      files: { weights: options.weights, batch: options.batch },
      signal: options.signal,
    });
    await writeSafetensorsFile(options.out, tensors, { format: 'pt' });
    const losses = [...tensors].filter(([name]) => name === 'loss' || name.startsWith('loss.'));
    return {
      out: options.out,
      results: Object.fromEntries(losses.map(([name, t]) => [name, asFloat64(t, name)[0] as number])),
    };
  } finally {
    await backend.close();
  }
}
