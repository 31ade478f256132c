/**
 * The check of what a caller hands to the library: every option is known and of its kind, like a configuration's keys.
 * An option that nobody reads would be a setting that is silently not followed. No Node modules.
 */
import { MaclError } from './errors.js';
import { didYouMean } from './suggest.js';

/** What a value must be; a list is of words. Whether it makes sense beyond that is for whoever reads it. */
export type OptionKind =
  | 'text'
  | 'text or list'
  | 'text or object'
  | 'flag'
  | 'count'
  | 'number'
  | 'integer'
  | 'function'
  | 'signal'
  | 'list'
  | 'object'
  | 'any'
  | readonly string[]
  | Pattern;

/** Words, and others that need no mention. */
export interface Pattern {
  readonly words: readonly string[];
  readonly or: RegExp;
}

/** A kind for every option of T: one that is added to T and not here does not compile. */
export type OptionKinds<T> = { readonly [K in keyof T]-?: OptionKind };

interface Meaning {
  readonly words: string;
  is(value: unknown): boolean;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Of any realm: what the library uses of one. */
const isSignal = (value: unknown): boolean =>
  isObject(value) && typeof value['aborted'] === 'boolean' && typeof value['addEventListener'] === 'function';

const MEANINGS: Readonly<Record<Extract<OptionKind, string>, Meaning>> = {
  text: { words: 'text', is: (v) => typeof v === 'string' },
  'text or list': {
    words: 'text, or a list of texts',
    is: (v) => typeof v === 'string' || (Array.isArray(v) && v.every((one) => typeof one === 'string')),
  },
  'text or object': { words: 'text, or an object', is: (v) => typeof v === 'string' || isObject(v) },
  flag: { words: 'true or false', is: (v) => typeof v === 'boolean' },
  count: { words: 'a whole number of at least 0', is: (v) => Number.isSafeInteger(v) && (v as number) >= 0 },
  number: { words: 'a number', is: (v) => typeof v === 'number' && !Number.isNaN(v) },
  integer: { words: 'a whole number', is: (v) => Number.isSafeInteger(v) || typeof v === 'bigint' },
  function: { words: 'a function', is: (v) => typeof v === 'function' },
  signal: { words: 'an AbortSignal', is: isSignal },
  list: { words: 'a list', is: (v) => Array.isArray(v) },
  object: { words: 'an object', is: isObject },
  any: { words: 'a value', is: () => true },
};

/** A value in a few words, for an error: whatever it is, this does not throw. */
export function showValue(value: unknown, depth = 0): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) {
    const shown = depth > 2 ? ['…'] : value.slice(0, 16).map((one) => showValue(one, depth + 1));
    return `[${shown.join(',')}${value.length > 16 ? ',…' : ''}]`;
  }
  if (typeof value !== 'object' || value === null) return String(value);
  const name = Object.prototype.toString.call(value).slice(8, -1);
  if (name === 'AbortController') return 'an AbortController (give its signal)';
  return name === 'Object' ? 'an object' : `an object (${name})`;
}

const wordsOf = (kind: readonly string[] | Pattern): readonly string[] => ('words' in kind ? kind.words : kind);

function optionError(what: string, field: string, expected: unknown, found: unknown, words: string): MaclError {
  return new MaclError('config', `${what}: ${field === '' ? '' : `${field}: `}${words}`, { field, expected, found });
}

/**
 * @param what the function, for errors
 * @param elsewhere where a word that is no option here belongs, as `config.train.steps`
 * @throws MaclError `config` that names the option, what was expected and what was found
 */
export function checkOptions<T>(
  what: string,
  given: unknown,
  kinds: OptionKinds<T>,
  required: readonly (keyof T & string)[] = [],
  elsewhere: readonly string[] = [],
): asserts given is T {
  if (!isObject(given))
    throw optionError(what, '', 'an object', given, `expected an object with options, found ${showValue(given)}`);
  const known = Object.keys(kinds);
  for (const key in given) {
    if (Object.hasOwn(kinds, key)) continue;
    const there = elsewhere.find((path) => path.slice(path.lastIndexOf('.') + 1) === key);
    const hint = there === undefined ? didYouMean(key, known) : `; did you mean ${there}?`;
    throw optionError(what, key, known, key, `unknown option${hint} (known here: ${known.join(', ')})`);
  }
  for (const [key, kind] of Object.entries<OptionKind>(kinds)) {
    const value = given[key];
    if (value === undefined) {
      if (!(required as readonly string[]).includes(key)) continue;
      const words = typeof kind === 'string' ? MEANINGS[kind].words : wordsOf(kind).join(' or ');
      throw optionError(what, key, words, value, `expected ${words}, found nothing`);
    }
    if (typeof kind !== 'string') {
      const words = wordsOf(kind);
      if (typeof value === 'string' && (words.includes(value) || ('or' in kind && kind.or.test(value)))) continue;
      const hint = typeof value === 'string' ? didYouMean(value, words) : '';
      throw optionError(what, key, words, value, `expected ${words.join(' or ')}, found ${showValue(value)}${hint}`);
    }
    const { words, is } = MEANINGS[kind];
    if (!is(value)) throw optionError(what, key, words, value, `expected ${words}, found ${showValue(value)}`);
  }
}
