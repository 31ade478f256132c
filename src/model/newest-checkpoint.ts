/** The newest checkpoint of a run, for readers that do not hold the run's lock: it may be going on meanwhile. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { asFileError, isDamage, readSafetensorsFile, systemCode } from '../data/files.js';
import type { Safetensors } from '../data/safetensors.js';
import { MaclError } from '../errors.js';

const CHECKPOINT = /^step-(\d{9})\.safetensors$/;

export interface FoundCheckpoint {
  readonly step: number;
  readonly file: string;
  readonly contents: Safetensors;
}

/**
 * Null where there is none that is whole. Damaged ones are reported and passed over; one that cannot be read (no permission,
 * an I/O error) may be whole, and is an error.
 */
export async function newestCheckpoint(
  run: string,
  onDamaged: (error: MaclError) => void,
): Promise<FoundCheckpoint | null> {
  const folder = join(run, 'checkpoints');
  const names = await readdir(folder).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return [];
    throw asFileError(error, folder, 'read');
  });
  // Names have as many digits each.
  for (const name of names
    .filter((n) => CHECKPOINT.test(n))
    .sort()
    .reverse()) {
    const file = join(folder, name);
    try {
      return { step: Number(CHECKPOINT.exec(name)![1]), file, contents: await readSafetensorsFile(file) };
    } catch (error) {
      // The run that goes on removes its oldest one.
      if (error instanceof MaclError && systemCode(error.cause) === 'ENOENT') continue;
      if (!isDamage(error)) throw error;
      onDamaged(error);
    }
  }
  return null;
}
