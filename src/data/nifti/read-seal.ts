/** Reads the seal that `nifti-seal.ts` writes, and holds it against the file. Node only. */
import { MaclError } from '../../errors.js';
import { Breather } from '../../breathe.js';
import { readNifti, readNiftiHeader } from './index.js';
import { DESCRIP, DESCRIP_BYTES, digestOf } from './seal.js';

/** The text of a file's seal; undefined where it has none that begins so, or was changed since, or is damaged. */
export async function readSeal(
  file: string,
  begins: string,
  options: { signal?: AbortSignal } = {},
): Promise<string | undefined> {
  try {
    const { raw, version } = await readNiftiHeader(file, options);
    const field = raw.subarray(DESCRIP[version], DESCRIP[version] + DESCRIP_BYTES);
    const words = new TextDecoder('latin1').decode(field).replace(/\0.*$/s, '');
    if (!words.startsWith(begins)) return undefined;
    const at = words.lastIndexOf(' ');
    const { header, voxels } = await readNifti(file, options);
    const digest = await digestOf(header.raw, version, voxels, new Breather(options.signal));
    return words.slice(at + 1) === digest ? words.slice(0, at) : undefined;
  } catch (error) {
    if (error instanceof MaclError && error.code === 'file') return undefined;
    throw error;
  }
}
