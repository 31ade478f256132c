/** Reads a configuration's file. What it says is checked by `config/schema.ts`. */
import { readTextFile } from '../data/files.js';
import { MaclError } from '../errors.js';

/** @throws MaclError `file`, or `config` where it is not JSON (which has no NaN) */
export async function readConfigFile(file: string): Promise<unknown> {
  const text = await readTextFile(file);
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new MaclError('config', `${file}: not JSON: ${(cause as Error).message}`, { file }, { cause });
  }
}
