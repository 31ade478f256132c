/**
 * `config.json` of a run: everything that a resume needs to go on exactly as it began (configuration, plan, cases), and
 * what was used to compute it. Unlike the model's metadata it may name paths and the machine.
 */
import type { PreparedCase } from '../data/prepare/prepared-case.js';
import { fileError, MaclError } from '../errors.js';
import { VARIANT_TABLE } from '../ops/conv3d-variants.js';
import { resolveConfig } from '../config/index.js';
import { mergeConfig } from '../config/merge.js';
import type { ConfigInput, ResolvedConfig } from '../settings/types.js';
import type { CaseSplit } from './cases.js';
import { isRecord } from '../model/config-file.js';
import { checkDescription, type ModelDescription } from '../model/description.js';

export interface RunRecord<C extends ResolvedConfig = ResolvedConfig> extends ModelDescription<C> {
  readonly format: 1;
  readonly dataset: string;
  readonly cases: CaseSplit;
  /** How the data's one channel meets several of the network. */
  readonly channels: 'same' | 'sum' | 'repeat';
  /** What computed it: other instruction sets give other bits. */
  readonly device: { readonly backend: string; readonly isa: string };
  /** By which table its convolutions' algorithms were chosen; absent in runs of before, which had no choice. */
  readonly variantTable?: number;
  /** The model that fine-tuning started from, as an absolute path. */
  readonly init: string | null;
  /** Names of what was taken from it: groups of parameters may go by them. Absent where nothing was, and in runs of before. */
  readonly loaded?: readonly string[];
  /** What the prepared volumes are told by, by case; absent in runs of before. */
  readonly volumes?: Readonly<Record<string, string>>;
}

const KEYS = {
  config: 'config',
  normalization: 'normalization',
  classes: 'classes',
  channelNames: 'channelNames',
} as const;

/**
 * A record from a file, checked like any other input.
 * @throws MaclError `file` with file and field where it is not a run's record, or `config` where it is of the other task
 */
export function readRecord<C extends ResolvedConfig>(value: unknown, task: C['task'], file: string): RunRecord<C> {
  if (!isRecord(value)) throw new MaclError('file', `${file}: not the record of a run`, { file });
  const described = checkDescription(
    {
      config: value['config'],
      normalization: value['normalization'],
      classes: value['classes'],
      channelNames: value['channelNames'],
    },
    file,
    KEYS,
  );
  if (described.config.task !== task)
    throw new MaclError('config', `${file}: this run is a ${described.config.task} run`, {
      file,
      expected: task,
      found: described.config.task,
    });
  const { dataset, channels, device, init = null, loaded = [], volumes } = value;
  const expect = (field: string, expected: string, fits: boolean, found: unknown): void => {
    if (!fits) throw fileError(file, field, `expected ${expected}, found ${JSON.stringify(found) ?? 'nothing'}`);
  };
  expect('dataset', 'a folder', typeof dataset === 'string', dataset);
  expect('channels', 'same, sum or repeat', ['same', 'sum', 'repeat'].includes(channels as string), channels);
  expect('device', 'backend and isa', isObject(device) && areTexts([device['backend'], device['isa']]), device);
  expect('init', 'a file or null', init === null || typeof init === 'string', init);
  expect('loaded', 'names', Array.isArray(loaded) && areTexts(loaded), loaded);
  expect(
    'volumes',
    'texts by case',
    volumes === undefined || (isObject(volumes) && areTexts(Object.values(volumes))),
    volumes,
  );
  return { ...(value as unknown as RunRecord<C>), ...(described as ModelDescription<C>), cases: casesOf(value, file) };
}

function casesOf({ cases }: Readonly<Record<string, unknown>>, file: string): CaseSplit {
  const { train, validation, twins = [] } = cases as Readonly<Record<string, unknown>>;
  for (const [name, list, least] of [
    ['train', train, 1],
    ['validation', validation, 0],
    ['twins', twins, 0],
  ] as const) {
    const fits = Array.isArray(list) && areTexts(list) && list.length >= least && new Set(list).size === list.length;
    if (!fits) throw fileError(file, `cases.${name}`, `expected names of cases, each once, at least ${least}`);
  }
  const both = (validation as string[]).filter((id) => (train as string[]).includes(id));
  if (both.length > 0) throw fileError(file, 'cases', `${both[0]} is in training and in validation`);
  const left = twins as string[];
  return { train: train as string[], validation: validation as string[], ...(left.length && { twins: left }) };
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const areTexts = (values: readonly unknown[]): boolean => values.every((v) => typeof v === 'string');

/** What the prepared volumes of a run are told by: see `PreparedCase.contentId`. */
export function volumesOf(cases: readonly PreparedCase[]): Record<string, string> {
  return Object.fromEntries(cases.map((c) => [c.id, c.contentId]));
}

/**
 * Whether a run goes on with the volumes that it began with; their names alone do not say so.
 * @returns a warning where it cannot be known, as after a change of how volumes are prepared
 * @throws MaclError `dataset` naming the cases whose volumes are others, or are not there any more
 */
export function checkSameVolumes(record: RunRecord, now: Readonly<Record<string, string>>): string | null {
  const { volumes: begun } = record;
  if (begun === undefined) return null;
  const version = (id: string): string => id.slice(0, id.indexOf(':'));
  const ids = Object.keys(begun);
  const gone = ids.filter((id) => now[id] === undefined);
  const known = ids.filter((id) => now[id] !== undefined && version(begun[id] as string) === version(now[id]));
  const other = known.filter((id) => begun[id] !== now[id]);
  if (other.length > 0 || gone.length > 0) {
    const words = [...other.map((id) => `${id} (other voxels)`), ...gone.map((id) => `${id} (not read)`)];
    const shown = words.slice(0, 8).join(', ') + (words.length > 8 ? `, … (${words.length} in all)` : '');
    throw new MaclError(
      'dataset',
      `--resume: ${record.dataset}: the volumes are not those that the run began with: ${shown}; ` +
        `a new run, in another --out, can train on them`,
      { field: 'volumes', found: [...other, ...gone] },
    );
  }
  if (known.length === ids.length) return null;
  return 'volumes are prepared in another way than when this run began: that they are the same cannot be checked';
}

/** What was given beside --resume has to agree with what the run began with. */
export function checkResume(given: ConfigInput, begun: ResolvedConfig): void {
  // Short forms (one rotation for all axes) are what they become.
  compare(given, begun, resolveConfig(mergeConfig<ConfigInput>(begun, given)), '');
}

/** A run goes on with the algorithms that it began with, or not at all: others have other bits. */
export function checkVariants({ config, variantTable }: RunRecord): void {
  const { arithmetic } = config.train;
  if (arithmetic === 'direct' || variantTable === VARIANT_TABLE) return;
  throw new MaclError(
    'config',
    `--resume: the run began with arithmetic ${arithmetic} by table ${variantTable ?? 'unknown'}, this version has table ${VARIANT_TABLE}: ` +
      `a version with that table can go on with it`,
    { field: 'variantTable', expected: VARIANT_TABLE, found: variantTable ?? null },
  );
}

const HOW: ReadonlySet<string> = new Set(['train.threads', 'train.checkpointEvery', 'model.recompute']);

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
    if (HOW.has(where)) continue;
    const [before, now] = [begun, resolved].map((of) => (of as Record<string, unknown> | undefined)?.[key]);
    // Entries of a list are completed too.
    const isShort = Array.isArray(before) && (!Array.isArray(value) || Array.isArray(now));
    // What stays "auto" or open was planned when the run began.
    if (isShort && !Array.isArray(now)) continue;
    compare(isShort ? now : value, before, now, where);
  }
}
