/**
 * `config.json` of a run: everything that a resume needs to go on exactly as it began (configuration, plan, cases), and
 * what was used to compute it. Unlike the model's metadata it may name paths and the machine.
 */
import { MaclError } from '../errors.js';
import { resolveConfig } from '../config/index.js';
import { mergeConfig } from '../config/merge.js';
import type { ConfigInput, ResolvedConfig } from '../config/types.js';
import type { ModelDescription } from './model-file.js';
import type { CaseSplit } from './setup.js';

export interface RunRecord<C extends ResolvedConfig = ResolvedConfig> extends ModelDescription<C> {
  readonly format: 1;
  readonly dataset: string;
  readonly cases: CaseSplit;
  /** How the data's one channel meets several of the network. */
  readonly channels: 'same' | 'sum' | 'repeat';
  /** What computed it: other instruction sets give other bits. */
  readonly device: { readonly backend: string; readonly isa: string };
  /** The model that fine-tuning started from, as an absolute path. */
  readonly init: string | null;
}

/** @throws MaclError `file` where it is not a run's record, or `config` where it is of the other task */
export function readRecord<C extends ResolvedConfig>(value: unknown, task: C['task'], file: string): RunRecord<C> {
  const record = value as Partial<RunRecord<C>> | null;
  if (!record || record.format !== 1 || !record.config || !record.cases)
    throw new MaclError('file', `${file}: not the record of a run`, { file });
  if (record.config.task !== task)
    throw new MaclError('config', `${file}: this run is a ${record.config.task} run`, {
      file,
      expected: task,
      found: record.config.task,
    });
  return record as RunRecord<C>;
}

/** What was given beside --resume has to agree with what the run began with. */
export function checkResume(given: ConfigInput, begun: ResolvedConfig): void {
  // Short forms (one rotation for all axes) are what they become.
  compare(given, begun, resolveConfig(mergeConfig<ConfigInput>(begun, given)), '');
}

function compare(given: unknown, begun: unknown, resolved: unknown, path: string): void {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    if (given === undefined || JSON.stringify(given) === JSON.stringify(begun)) return;
    throw new MaclError(
      'config',
      `--resume: ${path}: the run began with ${JSON.stringify(begun)}, found ${JSON.stringify(given)}`,
      {
        field: path,
        expected: begun,
        found: given,
      },
    );
  }
  for (const [key, value] of Object.entries(given)) {
    const where = path === '' ? key : `${path}.${key}`;
    // How it is computed and how often it is saved says nothing about the result.
    if (where === 'train.threads' || where === 'train.checkpointEvery') continue;
    const [before, now] = [begun, resolved].map((of) => (of as Record<string, unknown> | undefined)?.[key]);
    const isShort = Array.isArray(before) && !Array.isArray(value);
    // What stays "auto" or open was planned when the run began.
    if (isShort && !Array.isArray(now)) continue;
    compare(isShort ? now : value, before, now, where);
  }
}
