/** Reads a configuration's file. What it says is checked by `config/schema.ts`. */
import type { ConfigInput } from '../settings/types.js';
import { readTextFile } from '../data/files.js';
import { parseJson } from '../data/json.js';
import { MaclError } from '../errors.js';

/** Far above any configuration. */
const MAX_BYTES = 16 * 2 ** 20;

/**
 * A configuration from a JSON file; an object is taken as it is. The `config.json` of a run is a configuration too: the one
 * that the run used, with everything filled in.
 * @throws MaclError `file`, or `config` where it is not JSON (which has no NaN)
 */
export async function readConfigFile(config: string | object): Promise<unknown> {
  if (typeof config !== 'string') return configIn(config);
  const text = await readTextFile(config, MAX_BYTES);
  try {
    return configIn(parseJson(text));
  } catch (cause) {
    throw new MaclError('config', `${config}: not JSON: ${(cause as Error).message}`, { file: config }, { cause });
  }
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** What a run's record is told by, whatever else is wrong with it. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return isObject(value) && value['format'] === 1 && isObject(value['config']) && isObject(value['cases']);
}

/**
 * The configuration of a call from Node: an object without its task, or with this one, or a run's own record.
 * @throws MaclError `config` where it is of another task
 */
export function configFor<C extends ConfigInput>(task: C['task'], config: object | undefined): C {
  const given = configIn(config ?? {}) as Partial<C>;
  if (given.task !== undefined && given.task !== task) {
    const details = { field: 'config.task', expected: task, found: given.task };
    throw new MaclError('config', `config.task: expected ${task}, found ${JSON.stringify(given.task)}`, details);
  }
  return { ...given, task } as C;
}

function configIn(value: unknown): unknown {
  return isRecord(value) ? value['config'] : value;
}
