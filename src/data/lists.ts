/**
 * The case lists of the command line: `--labels`, `--cases`, `--val` take FILE.json#KEY, a text file with one case a
 * line, a comma list, or a fraction that is drawn with the run's seed. Node only.
 */
import { stat } from 'node:fs/promises';
import { fileError, MaclError } from '../errors.js';
import { readTextFile } from './files.js';
import { Draws, PURPOSE } from './philox.js';

export interface ResolveListOptions {
  /** The cases to choose from, sorted (for `--labels` those that have a label). */
  available: readonly string[];
  seed: number | bigint;
  /** The flag, for errors: `--labels`. */
  flag: string;
  /** What `available` is, for errors: `labelled cases`; default `cases`. */
  what?: string;
}

/** An id as users write it: a file name, a path or the id itself. */
function bareId(text: string): string {
  return text
    .trim()
    .replace(/^.*\//, '')
    .replace(/\.nii(\.gz)?$/, '');
}

/**
 * round(fraction × n) cases, at least one, in sorted order. The cases are put in an order that only the seed decides
 * and the first ones are taken, so that a smaller fraction lies within a larger one.
 */
export function drawFraction(available: readonly string[], fraction: number, seed: number | bigint): string[] {
  const count = Math.max(1, Math.round(fraction * available.length));
  return new Draws(seed, 0, 0, PURPOSE.split)
    .shuffled([...available].sort())
    .slice(0, count)
    .sort();
}

async function readList(text: string, flag: string): Promise<string[] | undefined> {
  const hash = text.lastIndexOf('#');
  if (hash > 0) return readJsonList(text.slice(0, hash), text.slice(hash + 1));
  const isFile = await stat(text).then(
    (info) => info.isFile(),
    () => false,
  );
  if (!isFile) {
    if (/\.(json|txt|csv|lst|list)$/i.test(text)) throw fileError(text, flag, 'no such file');
    return undefined;
  }
  if (text.endsWith('.json')) return readJsonList(text);
  const lines = (await readTextFile(text)).split(/\r?\n/).map((line) => line.replace(/#.*$/, '').trim());
  const ids = lines.filter(Boolean);
  if (!ids.length) throw fileError(text, flag, 'names no case');
  return ids;
}

async function readJsonList(file: string, key?: string): Promise<string[]> {
  const text = await readTextFile(file);
  let root: unknown;
  try {
    root = JSON.parse(text);
  } catch (cause) {
    throw fileError(file, 'JSON', (cause as Error).message, cause);
  }
  let list: unknown = root;
  if (key !== undefined) {
    const known = typeof root === 'object' && root !== null ? root : {};
    if (!Object.hasOwn(known, key)) {
      const keys = Object.entries(known).flatMap(([name, value]) => (Array.isArray(value) ? [name] : []));
      throw fileError(file, key, `no such key; lists there: ${keys.join(', ') || 'none'}`);
    }
    list = (known as Record<string, unknown>)[key];
  } else if (!Array.isArray(root)) {
    throw fileError(file, 'JSON', `expected a list; name one of its keys: ${file}#KEY`);
  }
  if (!Array.isArray(list) || !list.length || !list.every((id) => typeof id === 'string')) {
    throw fileError(file, key ?? 'JSON', 'expected a list of case names');
  }
  return list;
}

/** The cases that a flag names, sorted and each once. Throws MaclError naming every case that is not there. */
export async function resolveCases(argument: string | number, options: ResolveListOptions): Promise<string[]> {
  const { available, seed, flag } = options;
  const text = String(argument).trim();
  const known = new Set(available);
  const number = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) && !known.has(text) ? Number(text) : undefined;
  if (number !== undefined) {
    if (!(number > 0 && number <= 1)) {
      const words = `${flag} ${text}: a fraction is above 0 and at most 1`;
      throw new MaclError('config', words, { field: flag, expected: '0 < fraction <= 1', found: number });
    }
    if (!available.length)
      throw new MaclError('dataset', `${flag} ${text}: there are no cases to draw from`, { field: flag });
    return drawFraction(available, number, seed);
  }
  const fromFile = await readList(text, flag);
  const ids = (fromFile ?? text.split(',')).map(bareId).filter(Boolean);
  const missing = [...new Set(ids.filter((id) => !known.has(id)))];
  if (!ids.length || missing.length) {
    const shown = missing.slice(0, 8).join(', ') + (missing.length > 8 ? `, … (${missing.length} in all)` : '');
    const words = ids.length
      ? `${flag} ${text}: not among the ${available.length} ${options.what ?? 'cases'}: ${shown}`
      : `${flag} ${text}: names no case`;
    throw new MaclError('dataset', words, {
      field: flag,
      found: missing,
      ...(fromFile && { file: text.split('#')[0]! }),
    });
  }
  return [...new Set(ids)].sort();
}

/** Below this many labelled cases nothing is held back for validation unless `--val` says so. */
const LEAST_FOR_VALIDATION = 40;
const DEFAULT_VALIDATION = 0.2;

export interface SplitOptions {
  /** What `--labels` chose. */
  chosen: readonly string[];
  /** Every case with a label: `--val` may name cases that `--labels` does not. */
  available: readonly string[];
  /** `--val`: a list as `resolveCases` takes it, a fraction of `chosen`, `none`; undefined for the default. */
  val?: string | number;
  seed: number | bigint;
}

/**
 * Training and validation cases, disjoint and sorted. By default a fifth of 40 or more labelled cases is held back and
 * nothing of fewer. Throws MaclError where nothing is left to train on.
 */
export async function splitValidation(options: SplitOptions): Promise<{ train: string[]; val: string[] }> {
  const { chosen, available, seed } = options;
  const argument = options.val ?? (chosen.length < LEAST_FOR_VALIDATION ? 'none' : DEFAULT_VALIDATION);
  const text = String(argument).trim();
  let val: string[] = [];
  if (text !== 'none') {
    const isFraction = text !== '' && Number.isFinite(Number(text)) && !available.includes(text);
    const from = isFraction ? chosen : available;
    val = await resolveCases(argument, { available: from, seed, flag: '--val', what: 'labelled cases' });
  }
  const held = new Set(val);
  const train = chosen.filter((id) => !held.has(id)).sort();
  if (!train.length) {
    const words = `--val ${text}: holds back all ${chosen.length} labelled cases; none is left to train on`;
    throw new MaclError('config', words, { field: '--val' });
  }
  return { train, val };
}
