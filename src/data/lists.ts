/**
 * The case lists of the command line: `--labels`, `--cases`, `--val` take FILE.json#KEY, a text file with one case a
 * line, a comma list, or a fraction that is drawn with the run's seed; `--fold` takes k/n, or a fold of a list of splits.
 * All drawing is by patient. Node only.
 */
import { stat } from 'node:fs/promises';
import { fileError, MaclError } from '../errors.js';
import { readTextFile } from './files.js';
import { caseId, CHANNEL, compareText, shownNames } from './layouts/names.js';
import { Draws, PURPOSE } from '../philox.js';

/** The patient that a case is of. */
export type GroupOf = (id: string) => string;

const ownGroup: GroupOf = (id) => id;

export interface ResolveListOptions {
  /** The cases to choose from, sorted (for `--labels` those that have a label). */
  available: readonly string[];
  /** Cases that are taken only where a list names them. */
  also?: readonly string[];
  /** Default: every case is a patient of its own. */
  groupOf?: GroupOf | undefined;
  seed: number | bigint;
  /** The flag, for errors: `--labels`. */
  flag: string;
  /** What `available` is, for errors: `labelled cases`; default `cases`. */
  what?: string;
}

/** Cases by patient; a patient stands where the first of its cases would. */
function byGroup(available: readonly string[], groupOf: GroupOf): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const id of [...available].sort(compareText)) {
    const ids = groups.get(groupOf(id));
    if (ids) ids.push(id);
    else groups.set(groupOf(id), [id]);
  }
  return groups;
}

/** Patients in an order that only the seed decides, each with its cases. */
function shuffledGroups(available: readonly string[], seed: number | bigint, groupOf: GroupOf): string[][] {
  return new Draws(seed, 0, 0, PURPOSE.split).shuffled([...byGroup(available, groupOf).values()]);
}

/**
 * round(fraction × n) cases, at least one, in sorted order; more where a patient has several. The patients are put in an
 * order that only the seed decides and the first ones are taken, so that a smaller fraction lies within a larger one.
 */
export function drawFraction(
  available: readonly string[],
  fraction: number,
  seed: number | bigint,
  groupOf: GroupOf = ownGroup,
): string[] {
  const count = Math.max(1, Math.round(fraction * available.length));
  const drawn: string[] = [];
  for (const ids of shuffledGroups(available, seed, groupOf)) {
    if (drawn.length >= count) break;
    drawn.push(...ids);
  }
  return drawn.sort(compareText);
}

/** A number of folds that says anything. */
const FOLD = /^(\d+)\/(\d+)$/;

/**
 * The cases that fold k of n holds out: every patient in one fold, the same for the same seed. Folds are numbered from 0
 * as in nnU-Net, or from 1: 0/n and n/n are one. Throws MaclError `config`.
 */
export function drawFold(
  available: readonly string[],
  fold: string,
  seed: number | bigint,
  groupOf: GroupOf = ownGroup,
): string[] {
  const [k, n] = (FOLD.exec(fold)?.slice(1) ?? []).map(Number) as [number?, number?];
  const fail = (what: string): MaclError =>
    new MaclError('config', `--fold ${fold}: ${what}`, { field: '--fold', found: fold });
  if (k === undefined || n === undefined)
    throw fail('expected k/n such as 1/5, or a fold of a list of splits such as splits_final.json#0');
  if (n < 2 || k > n) throw fail(`expected n of at least 2 and k of 0 to n`);
  const groups = shuffledGroups(available, seed, groupOf);
  if (groups.length < n) throw fail(`${groups.length} patients with labels cannot be parted into ${n} folds`);
  return groups
    .filter((_, at) => at % n === k % n)
    .flat()
    .sort(compareText);
}

/** A fold of nnU-Net's splits_final.json: lists of cases to train with and to validate with. */
export interface NamedSplit {
  train: string[];
  val: string[];
}

const isNames = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((id) => typeof id === 'string');

function isSplit(value: unknown): value is NamedSplit {
  const split = value as Partial<NamedSplit> | null;
  return typeof split === 'object' && split !== null && isNames(split.train) && isNames(split.val);
}

/** The fold that FILE.json#KEY names; undefined where it names something else. */
export async function readSplit(text: string): Promise<NamedSplit | undefined> {
  const hash = text.lastIndexOf('#');
  if (hash <= 0) return undefined;
  const value = await readJsonKey(text.slice(0, hash), text.slice(hash + 1));
  return isSplit(value) ? value : undefined;
}

async function readList(text: string, flag: string): Promise<string[] | undefined> {
  const hash = text.lastIndexOf('#');
  if (hash > 0) return readJsonList(text.slice(0, hash), flag, text.slice(hash + 1));
  const isFile = await stat(text).then(
    (info) => info.isFile(),
    () => false,
  );
  if (!isFile) {
    if (/\.(json|txt|csv|lst|list)$/i.test(text)) throw fileError(text, flag, 'no such file');
    return undefined;
  }
  if (text.endsWith('.json')) return readJsonList(text, flag);
  const lines = (await readTextFile(text)).split(/\r?\n/).map((line) => line.replace(/#.*$/, '').trim());
  const ids = lines.filter(Boolean);
  if (!ids.length) throw fileError(text, flag, 'names no case');
  return ids;
}

/** The whole file, or what KEY names in it: a key, a position in a list, or several of them (0.train). */
async function readJsonKey(file: string, key?: string): Promise<unknown> {
  const text = await readTextFile(file);
  let root: unknown;
  try {
    root = JSON.parse(text.replace(/^\ufeff/, ''));
  } catch (cause) {
    throw fileError(file, 'JSON', (cause as Error).message, cause);
  }
  if (key === undefined) return root;
  let at: unknown = root;
  const parts = typeof root === 'object' && root !== null && Object.hasOwn(root, key) ? [key] : key.split(/[./]/);
  for (const part of parts) {
    const known = typeof at === 'object' && at !== null ? at : {};
    if (!Object.hasOwn(known, part)) {
      const keys = Object.entries(known).flatMap(([name, value]) =>
        Array.isArray(value) || isSplit(value) ? [name] : [],
      );
      throw fileError(file, key, `no such key; lists there: ${shownNames(keys) || 'none'}`);
    }
    at = (known as Record<string, unknown>)[part];
  }
  return at;
}

async function readJsonList(file: string, flag: string, key?: string): Promise<string[]> {
  const found = await readJsonKey(file, key);
  // Of a fold `--val` means the part that is held out.
  const list = isSplit(found) ? (flag === '--val' ? found.val : found.train) : found;
  if (key === undefined && !Array.isArray(found))
    throw fileError(file, 'JSON', `expected a list; name one of its keys: ${file}#KEY`);
  if (!isNames(list) || !list.length) throw fileError(file, key ?? 'JSON', 'expected a list of case names');
  return list;
}

/** Ids as users write them: the id itself, a file's name or path, with a channel's number, or a patient for all its cases. */
function idsOf(text: string, known: ReadonlySet<string>, groups: ReadonlyMap<string, string[]>): string[] {
  const id = caseId(text.trim());
  const stem = id.replace(CHANNEL, '');
  return known.has(id) ? [id] : known.has(stem) ? [stem] : (groups.get(id) ?? [id]);
}

/** The cases that a flag names, sorted and each once. Throws MaclError naming every case that is not there. */
export async function resolveCases(argument: string | number, options: ResolveListOptions): Promise<string[]> {
  const { available, seed, flag } = options;
  const text = String(argument).trim();
  const also = options.also ?? [];
  const groupOf = options.groupOf ?? ownGroup;
  const known = new Set([...available, ...also]);
  const number = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) && !known.has(text) ? Number(text) : undefined;
  if (number !== undefined) {
    if (!(number > 0 && number <= 1)) {
      const words = `${flag} ${text}: a fraction is above 0 and at most 1`;
      throw new MaclError('config', words, { field: flag, expected: '0 < fraction <= 1', found: number });
    }
    if (!available.length)
      throw new MaclError('dataset', `${flag} ${text}: there are no cases to draw from`, { field: flag });
    return drawFraction(available, number, seed, groupOf);
  }
  const fromFile = await readList(text, flag);
  const groups = byGroup([...known], groupOf);
  const ids = (fromFile ?? text.split(',')).flatMap((one) => idsOf(one, known, groups)).filter(Boolean);
  const missing = [...new Set(ids.filter((id) => !known.has(id)))];
  if (!ids.length || missing.length) {
    const shown = shownNames(missing);
    const words = ids.length
      ? `${flag} ${text}: not among the ${available.length} ${options.what ?? 'cases'}: ${shown}`
      : `${flag} ${text}: names no case`;
    throw new MaclError('dataset', words, {
      field: flag,
      found: missing,
      ...(fromFile && { file: text.split('#')[0]! }),
    });
  }
  return [...new Set(ids)].sort(compareText);
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
  /** What the dataset itself holds back: the default where there is some. */
  heldBack?: readonly string[];
  groupOf?: GroupOf;
  seed: number | bigint;
}

export interface Split {
  train: string[];
  val: string[];
  /** Chosen, but of a patient that is validated on: in neither part. */
  parted?: string[];
}

/** Training and validation cases of two lists: no case, and no patient, is in both. */
export function partCases(chosen: readonly string[], val: readonly string[], groupOf: GroupOf = ownGroup): Split {
  const held = new Set(val);
  const patients = new Set(val.map(groupOf));
  const rest = chosen.filter((id) => !held.has(id)).sort(compareText);
  const parted = rest.filter((id) => patients.has(groupOf(id)));
  const train = rest.filter((id) => !patients.has(groupOf(id)));
  return { train, val: [...val].sort(compareText), ...(parted.length && { parted }) };
}

/**
 * Training and validation cases, disjoint by patient and sorted. By default what the dataset holds back is validated on;
 * else a fifth of 40 or more labelled cases is held back and nothing of fewer. Throws MaclError where nothing is left to
 * train on.
 */
export async function splitValidation(options: SplitOptions): Promise<Split> {
  const { chosen, available, seed, heldBack = [], groupOf } = options;
  let val: string[];
  let text = 'the dataset';
  if (options.val === undefined && heldBack.length) val = [...heldBack];
  else {
    const argument = options.val ?? (chosen.length < LEAST_FOR_VALIDATION ? 'none' : DEFAULT_VALIDATION);
    text = String(argument).trim();
    const isFraction = text !== '' && Number.isFinite(Number(text)) && !available.includes(text);
    const from = isFraction ? { available: chosen } : { available, also: heldBack };
    val =
      text === 'none'
        ? []
        : await resolveCases(argument, { ...from, groupOf, seed, flag: '--val', what: 'labelled cases' });
  }
  const split = partCases(chosen, val, groupOf);
  if (!split.train.length) {
    const words = `--val ${text}: holds back all ${chosen.length} labelled cases; none is left to train on`;
    throw new MaclError('config', words, { field: '--val' });
  }
  return split;
}
