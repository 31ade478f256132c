/** NIfTI volumes, plain and compressed: header fields at the edges, flipped bits, cut and doubled pieces. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { readNifti, scaledVoxels, toRas } from '../src/data/nifti/index.js';
import { EDGES, mutateBytes, Random } from './random.js';
import type { Target } from './target.js';

/** A NIfTI-1 or NIfTI-2 file with fields from the edges here and there; written independently of the reader. */
export function randomNifti(random: Random): Uint8Array {
  const two = random.chance(0.3);
  const little = random.chance(0.8);
  const dims = Array.from({ length: 1 + random.below(5) }, () => 1 + random.below(9));
  const [code, bitpix] = random.pick([
    [2, 8],
    [4, 16],
    [8, 32],
    [16, 32],
    [64, 64],
    [256, 8],
    [512, 16],
    [768, 32],
    [1024, 64],
    [128, 24],
    [1, 1],
  ] as const);
  const size = two ? 540 : 348;
  const voxels = dims.reduce((a, b) => a * b, 1) * Math.ceil(bitpix / 8);
  const out = new Uint8Array(size + 4 + voxels);
  const view = new DataView(out.buffer);
  const edge = (usual: number): number => (random.chance(0.06) ? random.pick(EDGES) : usual);
  const i16 = (at: number, v: number) => view.setInt16(at, edge(v), little);
  const f32 = (at: number, v: number) => view.setFloat32(at, edge(v), little);
  const f64 = (at: number, v: number) => view.setFloat64(at, edge(v), little);
  const i64 = (at: number, v: number) => {
    const e = edge(v);
    view.setBigInt64(at, BigInt.asIntN(64, BigInt(Number.isFinite(e) ? Math.trunc(e) : 0)), little);
  };
  view.setInt32(0, size, little);
  const magic = two ? 'n+2\0\r\n\x1a\n' : 'n+1\0';
  for (let i = 0; i < magic.length; i++) out[(two ? 4 : 344) + i] = magic.charCodeAt(i);
  const all = [dims.length, ...dims, ...Array<number>(7 - dims.length).fill(1)];
  const affine = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0].map((v) => (random.chance(0.1) ? random.below(5) - 2 : v));
  if (two) {
    i16(12, code);
    i16(14, bitpix);
    all.forEach((v, i) => i64(16 + 8 * i, v));
    for (let i = 0; i < 8; i++) f64(104 + 8 * i, 1);
    i64(168, size + 4);
    f64(176, random.below(3));
    f64(184, random.below(3));
    view.setInt32(344, random.below(3), little);
    view.setInt32(348, random.below(3), little);
    affine.forEach((v, i) => f64(400 + 8 * i, v));
    view.setInt32(500, edge(2), little);
  } else {
    all.forEach((v, i) => i16(40 + 2 * i, v));
    i16(70, code);
    i16(72, bitpix);
    for (let i = 0; i < 8; i++) f32(76 + 4 * i, 1);
    f32(108, size + 4);
    f32(112, random.below(3));
    f32(116, random.below(3));
    out[123] = edge(2) & 255;
    i16(252, random.below(3));
    i16(254, random.below(3));
    for (let i = 0; i < 6; i++) f32(256 + 4 * i, 0);
    affine.forEach((v, i) => f32(280 + 4 * i, v));
  }
  for (let i = size + 4; i < out.length; i++) out[i] = random.word() & 255;
  return out;
}

let folder = '';
export const nifti: Target = {
  name: 'nifti',
  describe: 'readNifti, scaling and turning of made and mutated .nii and .nii.gz',
  setUp(f) {
    folder = f;
  },
  async run(number) {
    const random = new Random(number);
    let bytes = randomNifti(random);
    if (random.chance(0.5)) bytes = mutateBytes(bytes, random);
    const compressed = random.chance(0.4);
    if (compressed) {
      bytes = gzipSync(bytes, { level: 1 });
      if (random.chance(0.3)) bytes = mutateBytes(bytes, random);
    }
    const file = join(folder, compressed ? 'v.nii.gz' : 'v.nii');
    writeFileSync(file, bytes);
    const image = await readNifti(file, { nonFinite: random.pick(['refuse', 'zero']), maxVoxelBytes: 2 ** 26 });
    const values = await scaledVoxels(image);
    if (values.length !== image.voxels.length) throw new Error(`${values.length} scaled of ${image.voxels.length}`);
    const { volume } = await toRas(image);
    const count = volume.grid.shape.reduce((a, b) => a * b, volume.channels);
    if (volume.voxels.length !== count) throw new Error(`${volume.voxels.length} voxels of ${volume.grid.shape}`);
    if (!volume.grid.affine.every(Number.isFinite)) throw new Error(`affine ${volume.grid.affine}`);
  },
};
