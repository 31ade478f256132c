/** From --config, --preset, --set and the other flags to one partial configuration, checked before anything is opened. */
import { mergeConfig } from '../config/merge.js';
import { readConfig } from '../config/resolve.js';
import type { ConfigInput, Task } from '../settings/types.js';
import { parseJson } from '../data/json.js';
import { MaclError } from '../errors.js';
import { readConfigFile } from '../model/config-file.js';
import { usage } from './flags.js';

/** What yargs hands over; only what was given is there. */
export type Given = Readonly<Record<string, unknown>>;

/** Values under the configuration's keys, from flags of the same meaning. */
function fromFlags(given: Given): object {
  const { dims, method, preset } = given;
  return {
    preset,
    method,
    model: { dims: dims === undefined ? undefined : Number(dims) },
    data: { patch: given['patch'], foreground: given['foreground'], sliceAxis: given['sliceAxis'] },
    train: {
      steps: given['steps'],
      batch: given['batch'],
      seed: given['seed'],
      precision: given['precision'],
      arithmetic: given['arithmetic'],
      checkpointEvery: given['checkpointEvery'],
      threads: given['threads'],
    },
  };
}

/** --set a.b=VALUE; VALUE is JSON, or a word. */
function fromSets(sets: unknown): object {
  const out: Record<string, unknown> = {};
  for (const text of sets === undefined ? [] : [sets].flat().map(String)) {
    const match = /^([A-Za-z]\w*(?:\.[A-Za-z]\w*)*)=(.*)$/s.exec(text);
    if (!match) throw usage(`--set: expected KEY.KEY=VALUE, found ${text}`);
    const [, path, word] = match as unknown as [string, string, string];
    let value: unknown = word;
    try {
      value = parseJson(word);
    } catch (error) {
      // A word, such as cosine.
      if (/^[[{]/.test(word)) throw usage(`--set ${path}: not JSON: ${(error as Error).message}`);
    }
    const keys = path.split('.');
    const last = keys.pop() as string;
    let at = out;
    for (const key of keys)
      at = (Object.hasOwn(at, key) ? at[key] : (at[key] = Object.create(null))) as Record<string, unknown>;
    at[last] = value;
  }
  return out;
}

/** Removes what was not given, so that no empty section stands in a configuration. */
function given<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const kept = Object.entries(value)
    .map(([key, inner]) => [key, given(inner) as unknown] as const)
    .filter(
      ([, inner]) =>
        inner !== undefined &&
        !(typeof inner === 'object' && inner !== null && !Array.isArray(inner) && Object.keys(inner).length === 0),
    );
  return Object.fromEntries(kept) as T;
}

/** What a configuration of the other task says about the data: all that preparing them needs. */
function dataPart(config: object, source: string): object {
  readConfig(config, source);
  const { data, model } = config as ConfigInput;
  const { patch: _, foreground: __, position: ___, ...rest } = data ?? {};
  return { data: rest, model: { dims: model?.dims } };
}

/**
 * @param use `data`: only what a configuration says about the data counts, and it may be of either task
 * @throws MaclError `config`, `file` or `usage`
 */
export async function configOf(flags: Given, task: Task, use: 'all' | 'data' = 'all'): Promise<ConfigInput> {
  const file = flags['config'] === undefined ? undefined : String(flags['config']);
  const fromFile = file === undefined ? {} : await readConfigFile(file);
  const source = file ?? 'flags';
  if (typeof fromFile !== 'object' || fromFile === null || Array.isArray(fromFile)) {
    throw new MaclError('config', `${source}: expected an object`, { file: source });
  }
  const { task: named } = fromFile as { task?: unknown };
  if (use === 'data' && (named === 'pretrain' || named === 'finetune'))
    return configOfParts(flags, given(dataPart(fromFile, source)), task, file);
  if (named !== undefined && named !== task) {
    throw new MaclError('config', `${source}: task: expected ${task}, found ${JSON.stringify(named)}`, {
      field: 'task',
      expected: task,
      found: named,
    });
  }
  // The file by itself first, so that an error says where it is.
  if (file !== undefined) readConfig({ ...fromFile, task }, source);
  return configOfParts(flags, fromFile, task, file);
}

function configOfParts(flags: Given, fromFile: object, task: Task, file: string | undefined): ConfigInput {
  const input = mergeConfig<ConfigInput>(fromFile, given(fromFlags(flags)), fromSets(flags['set']), { task });
  readConfig(input, file === undefined ? 'flags' : `${file} with flags`);
  return input;
}
