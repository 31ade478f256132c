/**
 * A seal in a NIfTI header's `descrip`: who wrote the file with which settings, and a digest of header and voxels. A file
 * that was changed since (by hand, say) has another digest and is nobody's. Reading is in `read-seal.ts`. Node only.
 */
import { createHash } from 'node:crypto';
import { MaclError } from '../../errors.js';
import { type Breather } from '../../breathe.js';
import { type VoxelArray } from '../../volume.js';

/** First byte of `descrip`, which has 80. */
export const DESCRIP = { 1: 148, 2: 240 } as const;
export const DESCRIP_BYTES = 80;
const DIGEST_LETTERS = 16;
/** Bytes that are hashed at once: about a millisecond. */
const BLOCK_BYTES = 1 << 18;

function withoutSeal(raw: Uint8Array, version: 1 | 2): Uint8Array {
  return raw.slice().fill(0, DESCRIP[version], DESCRIP[version] + DESCRIP_BYTES);
}

/** Of a header (its seal left out) and the voxels behind it, in memory's order of bytes. */
export async function digestOf(raw: Uint8Array, version: 1 | 2, voxels: VoxelArray, breath: Breather): Promise<string> {
  const hash = createHash('sha256').update(withoutSeal(raw, version));
  const bytes = new Uint8Array(voxels.buffer, voxels.byteOffset, voxels.byteLength);
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    hash.update(bytes.subarray(at, at + BLOCK_BYTES));
    if (breath.due()) await breath.breathe();
  }
  return hash.digest('hex').slice(0, DIGEST_LETTERS);
}

/** Writes `text` and the digest into the header's bytes. The header must be as it will be on disk. */
export async function seal(
  raw: Uint8Array,
  version: 1 | 2,
  voxels: VoxelArray,
  text: string,
  breath: Breather,
): Promise<void> {
  const words = new TextEncoder().encode(`${text} ${await digestOf(raw, version, voxels, breath)}`);
  if (words.length >= DESCRIP_BYTES) throw new MaclError('program', `a seal of ${words.length} bytes does not fit`);
  raw.fill(0, DESCRIP[version], DESCRIP[version] + DESCRIP_BYTES);
  raw.set(words, DESCRIP[version]);
}
