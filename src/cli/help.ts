/**
 * What --help adds to the flags' own sentences: an example a command, what is taken where a flag is not given, and what a
 * value looks like; and the nearest word to one that is not known. Text only.
 */
import type { Options } from 'yargs';
import { DEFAULT_ARITHMETIC } from '../arithmetic.js';
import { didYouMean } from '../suggest.js';
import type { Command } from './commands/types.js';

/** One that works as it stands, with DATA and runs/… in place of one's own. */
const EXAMPLES: Readonly<Record<string, string>> = {
  quickstart: 'macl quickstart',
  inspect: 'macl inspect --json',
  prepare: 'macl prepare --data DATA',
  pretrain: 'macl pretrain --data DATA --out runs/pre',
  finetune: 'macl finetune --data DATA --out runs/fine --init runs/pre --labels 0.1',
  predict: 'macl predict --model runs/fine --input DATA/imagesTs --out pred',
  evaluate: 'macl evaluate --pred pred --labels DATA/labelsTs',
  cache: 'macl cache --limit 20GiB',
  step: 'macl step --config C.json --weights W.safetensors --batch B.safetensors --out O.safetensors',
  config: 'macl config --preset paper-2d',
};

/** What is taken where a flag is not given; flags that only switch something on are off. */
const DEFAULTS: Readonly<Record<string, string>> = {
  device: 'auto: the first that works',
  threads: 'what affinity and quota leave',
  preset: 'default',
  dims: '3',
  steps: 'planned',
  seed: '0',
  precision: 'fp32',
  arithmetic: DEFAULT_ARITHMETIC,
  batch: 'planned',
  patch: 'planned',
  'checkpoint-every': '250',
  foreground: '0.33',
  'slice-axis': 'D',
  cache: '$XDG_CACHE_HOME/macl, else ~/.cache/macl',
  method: 'macl',
  cases: 'all',
  init: 'none: from scratch',
  labels: 'all that have a label',
  val: 'none below 40 labelled cases, a fifth from there on',
  'image-glob': 'the layout is recognised',
  'label-glob': 'the layout is recognised',
};
/** Where a flag means something else. */
const OTHER_DEFAULTS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  pretrain: { val: 'none' },
  prepare: { out: 'the cache', cache: '$XDG_CACHE_HOME/macl, else ~/.cache/macl' },
  quickstart: { out: './macl-quickstart, or a numbered sibling' },
  step: { steps: '1' },
  config: { task: 'pretrain' },
};

export const exampleOf = (command: string): string | undefined => EXAMPLES[command];

/** The flags with what is taken where they are not given. */
export function withDefaults({ name, flags }: Command): Record<string, Options> {
  return Object.fromEntries(
    Object.entries(flags).map(([flag, options]) => {
      const words = OTHER_DEFAULTS[name]?.[flag] ?? DEFAULTS[flag];
      const plain = options.demandOption || words === undefined ? options : { ...options, defaultDescription: words };
      return [flag, plain];
    }),
  );
}

/** What a value of a flag looks like: all are texts to the parser, which reads them itself. */
const KIND = new WeakMap<object, string>();
/** Remembers it for `withKinds`. */
export function ofKind<T extends Options>(kind: string, options: T): T {
  if (options.coerce) KIND.set(options.coerce, kind);
  return options;
}

/** The parser's help with the flags' own kinds in place of its types. */
export function withKinds(help: string, flags: Readonly<Record<string, Options>>): string {
  let flag = '';
  return help
    .split('\n')
    .map((line) => {
      flag = /^\s+(?:-\w, )?--([\w-]+)/.exec(line)?.[1] ?? flag;
      const coerce = flags[flag]?.coerce;
      const kind = (coerce && KIND.get(coerce)) ?? 'text';
      return line.replace('[string]', `[${kind}]`).replace('[boolean]', '[switch]');
    })
    .join('\n');
}

const dashed = (name: string): string => name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);

/** Names of flags that the command does not have. */
function strangers(args: readonly string[], { flags }: Command): string[] {
  const names = args.flatMap((arg) => /^--([\w-]+)/.exec(arg)?.[1] ?? []);
  return names.filter((name) => !Object.hasOwn(flags, name) && name !== 'help' && name !== 'version');
}

/** The parser's complaint with the nearest word that it knows. */
export function explained(message: string, args: readonly string[], commands: readonly Command[]): string {
  const word = args.find((arg) => !arg.startsWith('-'));
  const command = commands.find(({ name }) => name === word);
  // The parser looks for what is missing first; a flag with a slip in it explains that.
  const slips = command && /^Missing required/.test(message) ? strangers(args, command) : [];
  const unknown = /^Unknown arguments?: (.*)$/s.exec(message)?.[1] ?? (slips.length > 0 ? slips.join(', ') : undefined);
  if (unknown === undefined) return message;
  const names = commands.map(({ name }) => name);
  if (!command && word !== undefined) return `Unknown command: ${word}${didYouMean(word, names)}`;
  const known = Object.keys(command?.flags ?? {});
  // The parser names --skip-bda a second time, as skipBda.
  const words = unknown.split(', ');
  const once = words.filter((w) => dashed(w) === w || !words.includes(dashed(w)));
  const told = once.map((w) => {
    const elsewhere = commands.filter(({ flags }) => Object.hasOwn(flags, w)).map(({ name }) => name);
    const near = didYouMean(w, known).replace('did you mean ', 'did you mean --');
    return near !== '' || elsewhere.length === 0 ? `${w}${near}` : `${w} (a flag of ${elsewhere.join(', ')})`;
  });
  return `Unknown argument${once.length > 1 ? 's' : ''}: ${told.join(', ')}`;
}
