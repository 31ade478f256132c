/** Spacings and sizes that cannot be are refused before memory is taken. */
import { gzipSync } from 'node:zlib';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type MaclError } from '../../src/errors.js';
import { readNifti } from '../../src/data/nifti/index.js';
import { checkPreparedSize, type PreparedSize } from '../../src/data/prepare/size.js';
import { type Triple } from '../../src/volume.js';
import { makeNifti, testFolder } from './make-nifti.js';

const folder = testFolder();
const size = (shape: Triple, spacingMm: Triple, targetMm: Triple | null = [1, 1, 1]): PreparedSize => ({
  shape,
  spacingMm,
  targetMm,
  channels: 1,
  bytes: { each: 8, beside: 0 },
});
const FREE = 2 ** 36;
function failure(of: PreparedSize): MaclError {
  try {
    checkPreparedSize('a.nii', of, FREE);
  } catch (error) {
    return error as MaclError;
  }
  return expect.unreachable('nothing was thrown');
}

it.each([
  [
    'a micrometre for a millimetre',
    size([24, 24, 24], [1e-3, 1e-3, 1e-3]),
    'geometry',
    /whole volume is 0.024×0.024×0.024 mm, smaller than one voxel of 1×1×1 mm/,
  ],
  [
    '30 mm for one',
    size([24, 24, 24], [30, 30, 30]),
    'geometry',
    /voxels of 30×30×30 mm: at 1×1×1 mm it becomes 720×720×720 voxels, 27000 times its own \(2985984000 bytes needed/,
  ],
  ['a metre for a millimetre', size([240, 240, 240], [1000, 1000, 1000]), 'memory', /needed.*free/],
] as [string, PreparedSize, string, RegExp][])('%s is refused', (_, of, code, words) => {
  const error = failure(of);
  expect([error.code, error.details.file]).toEqual([code, 'a.nii']);
  expect(error.message).toMatch(words);
});

it('thick slices are none of it, 5 mm for one is said', () => {
  expect(checkPreparedSize('a.nii', size([30, 512, 512], [10, 0.5, 0.5], [1, 0.5, 0.5]), FREE)).toBeUndefined();
  expect(checkPreparedSize('a.nii', size([1, 1, 1], [1, 1, 1]), FREE)).toBeUndefined();
  expect(checkPreparedSize('a.nii', size([1, 24, 24], [0.5, 1, 1]), FREE)).toBeUndefined();
  expect(checkPreparedSize('a.nii', size([24, 24, 24], [1e-3, 1e-3, 1e-3], null), FREE)).toBeUndefined();
  expect(checkPreparedSize('a.nii', size([24, 24, 24], [5, 5, 5]), FREE)).toMatch(/125 times its own/);
});

it('an image of zeros that inflates to 256 MiB is a bomb, a label of that size may be one', async () => {
  const file = join(folder, 'bomb.nii.gz');
  const head = makeNifti({
    dims: [512, 512, 1024],
    sform: [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
    data: new Uint8Array(0),
  });
  writeFileSync(file, gzipSync(Buffer.concat([head, Buffer.alloc(2 ** 28)])));
  const refused = { code: 'file', message: expect.stringMatching(/refused as a decompression bomb/) as string };
  await expect(readNifti(file)).rejects.toMatchObject(refused);
  const seen: number[] = [];
  const stop = new Error('stop');
  const onHeader = ({ voxelBytes }: { voxelBytes: number }): void => {
    seen.push(voxelBytes);
    throw stop;
  };
  await expect(readNifti(file, { what: 'label', onHeader })).rejects.toThrow('stop');
  expect(seen).toEqual([2 ** 28]);
});
