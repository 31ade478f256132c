/**
 * What a model is, and what the metadata of its file says: everything that determines the weights' meaning (configuration,
 * normalisation, classes, format), and nothing else: no time, path, host or thread count, so equal runs write equal bytes. No
 * Node modules; reading files is `model-file.ts`'s.
 */
import { ARITHMETIC_OF_BEFORE } from '../arithmetic.js';
import { meaningOf, resolveConfig } from '../config/index.js';
import type { ChannelNormalization, FinetuneConfig, Planned, ResolvedConfig } from '../settings/types.js';
import { parseJson } from '../data/json.js';
import type { RawTensor } from '../data/safetensors.js';
import { fileError, MaclError } from '../errors.js';
import { labelArrayType } from '../segment/label-values.js';

const FORMAT = '1';

/** A class of the dataset: the value in label files, and its name. Index 0 is the background. */
export interface ModelClass {
  readonly value: number;
  readonly name: string;
}

export interface ModelDescription<C extends ResolvedConfig = ResolvedConfig> {
  readonly config: Planned<C>;
  /** One rule a channel. */
  readonly normalization: readonly ChannelNormalization[];
  /** Empty for a pre-trained network. */
  readonly classes: readonly ModelClass[];
  readonly channelNames: readonly string[];
}

export interface LoadedModel<C extends ResolvedConfig = ResolvedConfig> extends ModelDescription<C> {
  readonly file: string;
  readonly tensors: ReadonlyMap<string, RawTensor>;
}

export function modelMetadata<C extends ResolvedConfig>(model: ModelDescription<C>): Record<string, string> {
  return {
    format: 'pt',
    'macl.format': FORMAT,
    'macl.task': model.config.task,
    'macl.config': JSON.stringify(meaningOf(model.config)),
    'macl.normalization': JSON.stringify(model.normalization),
    'macl.classes': JSON.stringify(model.classes),
    'macl.channels': JSON.stringify(model.channelNames),
  };
}

/**
 * Whether a file's `macl.config` means what a run's configuration does: letter for letter, or once what was added to
 * configurations since it was written has its default.
 */
export function sameMeaning(written: string | undefined, config: ResolvedConfig): boolean {
  const expected = JSON.stringify(meaningOf(config));
  if (written === expected) return true;
  try {
    return JSON.stringify(meaningOf(resolveConfig(withArithmetic(parseJson(written ?? ''))))) === expected;
  } catch {
    return false;
  }
}

/** Parses and checks the metadata of a model or checkpoint. Throws MaclError `file` with file and field. */
export function describeModel(metadata: Readonly<Record<string, string>>, file: string): ModelDescription {
  if (metadata['macl.format'] !== FORMAT)
    throw fileError(
      file,
      'macl.format',
      `expected ${FORMAT}, found ${metadata['macl.format'] ?? 'nothing'}: not a model of this software`,
    );
  const parse = (key: string): unknown => {
    try {
      return parseJson(metadata[key] ?? '');
    } catch (cause) {
      throw fileError(file, key, 'is not JSON', cause);
    }
  };
  const description = checkDescription(
    {
      config: parse('macl.config'),
      normalization: parse('macl.normalization'),
      classes: parse('macl.classes'),
      channelNames: parse('macl.channels'),
    },
    file,
    METADATA_KEYS,
  );
  const { config } = description;
  return {
    ...description,
    config: { ...config, train: { ...config.train, valEvery: 0, checkpointEvery: 0, threads: null } },
  };
}

type DescriptionKeys = Readonly<Record<keyof ModelDescription, string>>;
const METADATA_KEYS: DescriptionKeys = {
  config: 'macl.config',
  normalization: 'macl.normalization',
  classes: 'macl.classes',
  channelNames: 'macl.channels',
};

/** Checks a description that comes from a file, whose fields are called `keys` there. Throws `file` with file and field. */
export function checkDescription(
  found: Readonly<Record<keyof ModelDescription, unknown>>,
  file: string,
  keys: DescriptionKeys,
): ModelDescription {
  const config = checkedConfig(found.config, file, keys.config);
  const { inChannels } = config.model;
  const listed = <T>(
    key: keyof ModelDescription,
    what: string,
    isItem: (item: unknown) => item is T,
    lengths: readonly number[],
  ) => checkedList(found[key], file, keys[key], what, isItem, lengths);
  const classCount = config.task === 'finetune' ? config.model.classes : 0;
  return {
    config,
    normalization: listed('normalization', 'rules of ct or case', isRule, [inChannels]),
    classes: checkedClasses(listed('classes', 'values with a name', isClass, [classCount]), file, keys.classes),
    // A network that repeats one channel has one name.
    channelNames: listed('channelNames', 'names', isName, [inChannels, 1]),
  };
}

/** What a file without a word of arithmetic was made with, whatever the default is now. */
function withArithmetic(config: unknown): unknown {
  if (!isObject(config) || !isObject(config['train']) || config['train']['arithmetic'] !== undefined) return config;
  return { ...config, train: { ...config['train'], arithmetic: ARITHMETIC_OF_BEFORE } };
}

function checkedConfig(value: unknown, file: string, field: string): Planned {
  const within = (path: string): string => (path === '' ? field : `${field}.${path}`);
  let config: ResolvedConfig;
  try {
    config = resolveConfig(withArithmetic(value), { source: `${file}: ${field}` });
  } catch (error) {
    if (!(error instanceof MaclError)) throw error;
    // To the user it is the file that is wrong, not a configuration of theirs.
    const details = { ...error.details, file, field: within(error.details.field ?? '') };
    throw new MaclError('file', error.message, details, { cause: error });
  }
  const { patch, normalize } = config.data;
  if (patch === null) throw fileError(file, within('data.patch'), 'expected D, H, W, found null');
  if (normalize === 'auto') throw fileError(file, within('data.normalize'), 'expected a kind a channel, found auto');
  return config as Planned;
}

function checkedList<T>(
  value: unknown,
  file: string,
  key: string,
  what: string,
  isItem: (item: unknown) => item is T,
  lengths: readonly number[],
): T[] {
  if (!Array.isArray(value)) throw fileError(file, key, `expected a list of ${what}, found ${JSON.stringify(value)}`);
  const items: readonly unknown[] = value;
  const wrong = items.findIndex((item) => !isItem(item));
  if (wrong >= 0) throw fileError(file, `${key}[${wrong}]`, `expected ${what}, found ${JSON.stringify(items[wrong])}`);
  if (!lengths.includes(items.length)) {
    const expected = [...new Set(lengths)].join(' or ');
    throw fileError(file, key, `expected ${expected} entries, as the configuration says, found ${items.length}`);
  }
  return items as T[];
}

/** What the labels are written as is known from here on: values that no type holds are refused before any work. */
function checkedClasses(classes: readonly ModelClass[], file: string, field: string): readonly ModelClass[] {
  const values = classes.map(({ value }) => value);
  if (new Set(values).size < values.length)
    throw fileError(file, field, `a value is there twice: ${values.join(', ')}`);
  labelArrayType(values, { file, field });
  return classes;
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isName = (value: unknown): value is string => typeof value === 'string';

function isRule(value: unknown): value is ChannelNormalization {
  if (!isObject(value)) return false;
  if (['case', 'unit', 'none'].includes(value['kind'] as string)) return true;
  if (value['kind'] === 'robust') return isPercentiles(value['percentiles']);
  const numbers = [value['low'], value['high'], value['mean'], value['std']];
  return value['kind'] === 'ct' && numbers.every(Number.isFinite);
}

function isPercentiles(value: unknown): boolean {
  if (!Array.isArray(value) || value.length !== 2) return false;
  const [low, high] = value as readonly unknown[];
  return typeof low === 'number' && typeof high === 'number' && low >= 0 && low < high && high <= 100;
}

function isClass(value: unknown): value is ModelClass {
  return isObject(value) && Number.isSafeInteger(value['value']) && typeof value['name'] === 'string';
}

/**
 * The axes (D, H, W with the slice axis first) that mirrored copies may be averaged over: those that training mirrored. A
 * network that never saw a mirrored image tells left from right by position, and would be averaged with its opposite.
 * @throws MaclError `config` where there is none, or the model does not say
 */
export function mirrorAxesOf({ config, file }: LoadedModel<FinetuneConfig>): number[] {
  const axes = [0, 1, 2].filter((a) => config.augment.mirror[a]);
  if (axes.length > 0) return axes;
  const words = `${file}: mirror: the model was trained without mirroring (augment.mirror), so that mirrored copies would be averaged that it never learned`;
  throw new MaclError('config', words, { file, field: 'mirror', expected: 'augment.mirror on an axis', found: [] });
}
