/**
 * How flags are read. A flag that cannot be read is MaclError `usage` (exit code 2); whether its value makes sense is
 * for the configuration's schema to say (exit code 1).
 */
import type { Options } from 'yargs';
import { MaclError } from '../errors.js';
import { ARITHMETICS } from '../arithmetic.js';
import { PRECISION_CHOICES, PRECISIONS } from '../precision.js';
import { DEVICES } from '../backend/types.js';
import type { Triple } from '../settings/types.js';
import { ofKind } from './help.js';

export function usage(message: string): MaclError {
  return new MaclError('usage', message);
}

function single(flag: string, value: unknown): string {
  if (Array.isArray(value)) throw usage(`--${flag} is given twice`);
  return String(value);
}

function parseNumber(flag: string, value: unknown): number {
  const text = single(flag, value).trim();
  const number = Number(text);
  if (text === '' || !Number.isFinite(number) || !/^[-+]?[\d.]/.test(text) || /^0[xob]/i.test(text)) {
    throw usage(`--${flag}: expected a number, found ${text || 'nothing'}`);
  }
  return number;
}

function parseCount(flag: string, value: unknown): number {
  const number = parseNumber(flag, value);
  if (!Number.isSafeInteger(number) || number < 0)
    throw usage(`--${flag}: expected a whole number, found ${String(value)}`);
  return number;
}

function parsePatch(flag: string, value: unknown): Triple {
  const text = single(flag, value);
  const sizes = text.split(/[,x×]/).map((part) => part.trim());
  if ((sizes.length !== 2 && sizes.length !== 3) || !sizes.every((size) => /^\d+$/.test(size))) {
    throw usage(`--${flag}: expected D,H,W (or H,W in 2-D), found ${text}`);
  }
  const numbers = sizes.map(Number);
  return numbers.length === 2 ? [1, numbers[0]!, numbers[1]!] : [numbers[0]!, numbers[1]!, numbers[2]!];
}

type Described = Options & { readonly describe: string };

export const text = (flag: string, describe: string): Described => ({
  type: 'string',
  requiresArg: true,
  describe,
  coerce: (value: unknown) => (value === undefined ? undefined : single(flag, value)),
});
/** As `text`, as often as one likes. */
export const texts = (describe: string): Described => ({
  type: 'string',
  requiresArg: true,
  describe,
  coerce: (value: unknown) => (value === undefined ? undefined : [value].flat().map(String)),
});
const number = (flag: string, describe: string): Described =>
  ofKind('number', {
    type: 'string',
    requiresArg: true,
    describe,
    coerce: (value: unknown) => (value === undefined ? undefined : parseNumber(flag, value)),
  });
export const count = (flag: string, describe: string): Described =>
  ofKind('whole number', {
    type: 'string',
    requiresArg: true,
    describe,
    coerce: (value: unknown) => (value === undefined ? undefined : parseCount(flag, value)),
  });
const patch = (flag: string, describe: string): Described =>
  ofKind('D,H,W', {
    type: 'string',
    requiresArg: true,
    describe,
    coerce: (value: unknown) => (value === undefined ? undefined : parsePatch(flag, value)),
  });
/** One of a few words. */
export const choice = (flag: string, describe: string, choices: readonly string[]): Described =>
  ofKind('word', {
    type: 'string',
    requiresArg: true,
    describe: `${describe} [${choices.join(', ')}]`,
    coerce: (value: unknown) => {
      if (value === undefined) return undefined;
      const word = single(flag, value);
      if (!choices.includes(word)) throw usage(`--${flag}: expected ${choices.join(' or ')}, found ${word}`);
      return word;
    },
  });
export const toggle = (describe: string): Described => ({ type: 'boolean', describe });

const device: Described = ofKind('word', {
  type: 'string',
  requiresArg: true,
  describe: `what computes [${DEVICES.words.join(', ')}]; cuda:1 is another card than the first`,
  coerce: (value: unknown) => {
    if (value === undefined) return undefined;
    const word = single('device', value);
    const { words, or } = DEVICES;
    if (!(words as readonly string[]).includes(word) && !or.test(word))
      throw usage(`--device: expected ${words.join(' or ')}, found ${word}`);
    return word;
  },
});

export const deviceFlags = {
  device,
  threads: count('threads', 'threads'),
} as const;

const HELD = 'what activations are held in; weights stay fp32';
const precision = choice('precision', `${HELD}; auto: bf16 where the device has it`, PRECISION_CHOICES);
const arithmetic = choice('arithmetic', 'how convolutions are computed, where the device has a choice', ARITHMETICS);
/** Of `predict`. */
export const networkFlags = { precision, arithmetic } as const;
/** Of commands that show what a step is, for any device. */
export const stepFlags = { precision: choice('precision', HELD, PRECISIONS), arithmetic } as const;

/** Flags of every command that opens a dataset. */
export const dataFlags = {
  data: {
    ...text('data', 'dataset: a folder (Decathlon, nnU-Net, a sub-folder a patient), or a table of cases (.csv)'),
    demandOption: true,
  },
  'image-glob': texts("image files in --data, such as '*/ct.nii.gz'; once for each channel"),
  'label-glob': text('label-glob', "label files in --data, such as '*/ct_seg.nii.gz'"),
  cases: text('cases', 'cases to use: FILE.json#KEY, a text file, a comma list, or a fraction'),
  'follow-links': toggle('links may lead out of the dataset'),
} as const;

/** Flags of every training command. */
export const trainingFlags = {
  ...dataFlags,
  out: { ...text('out', "the run's folder"), demandOption: true },
  config: text('config', 'configuration file (JSON)'),
  preset: choice('preset', 'named values below the configuration', ['default', 'paper-2d', 'code-2d']),
  dims: choice('dims', 'network of slices or of volumes', ['2', '3']),
  ...deviceFlags,
  resume: toggle('go on with the run in --out'),
  steps: count('steps', 'training steps'),
  seed: count('seed', 'seed of all random numbers'),
  precision,
  arithmetic,
  batch: count('batch', 'samples a step'),
  patch: patch('patch', 'size of a patch in voxels: D,H,W'),
  'checkpoint-every': count('checkpoint-every', 'steps between checkpoints'),
  foreground: number('foreground', 'share of patches that are centred on foreground'),
  'slice-axis': choice('slice-axis', 'axis that 2-D slices are taken along; default: the thin one', ['D', 'H', 'W']),
  set: {
    type: 'string',
    requiresArg: true,
    describe: 'any value of the configuration: --set optimizer.lr=0.003',
  } as Described,
  cache: text('cache', 'folder of prepared cases'),
  'skip-bad': toggle('leave cases out that cannot be read'),
  json: toggle('print one JSON document'),
} as const;
