/** One grid or two: what headers may say of a volume's place, and which differences are silent, warned about, refused. */
import { describe, expect, it } from 'vitest';
import { type MaclError } from '../../src/errors.js';
import { readImages, readLabelVolume } from '../../src/data/case-io.js';
import { type Placement, fitGrid } from '../../src/data/grid.js';
import { readNiftiHeader } from '../../src/data/nifti/index.js';
import { orientationOf, rasGrid } from '../../src/data/orientation.js';
import { IDENTITY, makeNifti, type MakeNifti, put, ramp, testFolder } from './make-nifti.js';

const folder = testFolder();
let count = 0;
const file = (options: MakeNifti): string => put(folder, `v${count++}.nii`, makeNifti({ data: ramp(24), ...options }));
const failure = async (promise: Promise<unknown>): Promise<MaclError> =>
  promise.then(
    () => expect.unreachable('nothing was thrown'),
    (error: unknown) => error as MaclError,
  );

/** A label read onto the grid of an image: its voxels and what was said. */
async function onto(image: MakeNifti, label: MakeNifti) {
  const path = file(image);
  const { volume } = await readImages([path]);
  const read = await readLabelVolume(file(label), undefined, { grid: volume.grid, file: path });
  expect(read.volume.grid).toBe(volume.grid);
  return { image: [...volume.voxels], label: [...read.volume.voxels], warnings: read.warnings };
}

describe('grids', () => {
  it.each([
    ['1e-4 mm', 1e-4, undefined],
    ['0.01 mm', 0.01, /corners lie up to 0.01 mm \(0.01 voxels\)/],
    ['0.49 voxels', 0.49, /0.49 voxels/],
  ] as const)('that lie %s apart are one', async (_, shift, words) => {
    const sform = [...IDENTITY];
    sform[3] = shift;
    const { image, label, warnings } = await onto({ sform: IDENTITY }, { sform });
    expect(label).toEqual(image);
    if (words) expect(warnings).toEqual([expect.stringMatching(words)]);
    else expect(warnings).toEqual([]);
  });

  it.each([
    [
      'a place half a voxel off',
      { sform: [1, 0, 0, 0.51, 0, 1, 0, 0, 0, 0, 1, 0] },
      /0.51 mm \(0.51 voxels\) elsewhere/,
    ],
    [
      'another spacing',
      { sform: [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1.5, 0], pixdim: [1, 1, 1, 1.5, 1, 1, 1, 1] },
      /spacing \[1.5, 1, 1\]/,
    ],
    ['another shape', { sform: IDENTITY, dims: [3, 2, 4] }, /shape \(D, H, W\) \[4, 2, 3\], expected \[4, 3, 2\]/],
    ['another unit', { sform: IDENTITY, units: 3 }, /elsewhere/],
  ] as [string, MakeNifti, RegExp][])('of %s are two', async (_, label, words) => {
    const error = await failure(onto({ sform: IDENTITY }, label));
    expect(error.code).toBe('geometry');
    expect(error.message).toMatch(words);
    expect(error.details.field).toBe('grid');
  });

  it('half a voxel is half of that axis’ own, and one slice has a thickness', async () => {
    const pixdim = [1, 1, 1, 5, 1, 1, 1, 1];
    const thick = (z: number, mm = 5): number[] => [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, mm, z];
    expect((await onto({ sform: thick(0), pixdim }, { sform: thick(2), pixdim })).warnings).toHaveLength(1);
    const across = [...thick(0)];
    across[3] = 2;
    await failure(onto({ sform: thick(0), pixdim }, { sform: across, pixdim }));
    const slice = { dims: [6, 4, 1] };
    await failure(onto({ ...slice, sform: thick(0), pixdim }, { ...slice, sform: thick(0, 1) }));
  });

  it('stored in another order are one, whichever way', async () => {
    // The same voxels, with i and j exchanged and k from the other end.
    const value = (i: number, j: number, k: number): number => (k * 3 + j) * 2 + i;
    const data = new Uint8Array(24);
    let at = 0;
    for (let k = 0; k < 4; k++) for (let b = 0; b < 2; b++) for (let a = 0; a < 3; a++) data[at++] = value(b, a, 3 - k);
    const sform = [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, -1, 3];
    const { image, label, warnings } = await onto({ sform: IDENTITY }, { dims: [3, 2, 4], data, sform });
    expect(label).toEqual(image);
    expect(warnings).toEqual([]);
  });

  it('at 45 degrees, where names of axes tie, are one however they are rounded', async () => {
    const s = Math.SQRT1_2;
    for (const off of [1e-6, -1e-6]) {
      const turned = (e: number): number[] => [s + e, -(s - e), 0, 0, s - e, s + e, 0, 0, 0, 0, 1, 0];
      const { image, label, warnings } = await onto({ sform: turned(off) }, { sform: turned(-off) });
      expect(label).toEqual(image);
      expect(warnings).toEqual([]);
    }
  });

  it.each([
    ['the image', { quatern: undefined }, { sform: [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0] }],
    ['the label', { sform: [-1, 0, 0, 5, 0, -1, 0, 7, 0, 0, 1, 0] }, {}],
  ] as [string, MakeNifti, MakeNifti][])('of which %s lies nowhere fit voxel by voxel', async (_, image, label) => {
    const read = await onto(image, label);
    expect(read.label).toEqual(read.image);
    expect(read.warnings).toEqual([expect.stringMatching(/has no sform and no qform.*voxel by voxel/)]);
    const spaced = {
      ...label,
      pixdim: [1, 1, 1, 2, 1, 1, 1, 1],
      ...(label.sform && { sform: [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 2, 0] }),
    };
    const error = await failure(onto(image, spaced));
    expect(error.message).toMatch(/has no sform and no qform: give the label the image's header/);
  });

  it('of a unit that is not said have the other one’s', async () => {
    const micro = { sform: [800, 0, 0, 0, 0, 800, 0, 0, 0, 0, 800, 0], pixdim: [1, 800, 800, 800, 1, 1, 1, 1] };
    for (const [a, b] of [
      [3, 0],
      [0, 3],
    ]) {
      const { image, label, warnings } = await onto({ ...micro, units: a! }, { ...micro, units: b! });
      expect(label).toEqual(image);
      expect(warnings.at(-1)).toMatch(/does not say its unit/);
    }
    expect((await onto({ sform: IDENTITY, units: 0 }, { sform: IDENTITY, units: 2 })).warnings).toEqual([]);
  });

  it('of channels are held against each other the same way', async () => {
    const sform = [...IDENTITY];
    sform[3] = 0.3;
    const [a, near] = [file({ sform: IDENTITY }), file({ sform })];
    expect((await readImages([a, near])).warnings).toEqual([expect.stringMatching(/corners lie up to 0.3 mm/)]);
    sform[3] = 0.7;
    expect((await failure(readImages([a, file({ sform })]))).code).toBe('geometry');
  });

  it('are not asked for the header of the other file where they fit', async () => {
    const header = await readNiftiHeader(file({ sform: IDENTITY }));
    const grid = rasGrid(orientationOf(header.shape, header.affine));
    const asked = (): Promise<Placement> => Promise.reject(new Error('asked'));
    expect(await fitGrid(header, 'a', grid, 'b', asked)).toEqual({
      orientation: orientationOf(header.shape, header.affine),
    });
  });
});

describe('a header that contradicts itself', () => {
  const zooms = (mm: number): number[] => [1, mm, mm, mm, 1, 1, 1, 1];
  const quatern = { b: 0, c: 0, d: 0, offset: [1, 2, 3], qfac: 1 };
  const scaled = (mm: number): number[] => [mm, 0, 0, 1, 0, mm, 0, 2, 0, 0, mm, 3];
  it.each([
    [
      'sform against qform and pixdim: the qform',
      { sform: scaled(0.8), quatern, pixdim: zooms(0.6) },
      0.6,
      'qform',
      /sform's voxels measure \[0.8, 0.8, 0.8\], pixdim says \[0.6, 0.6, 0.6\]: the qform/,
    ],
    [
      'directions that nobody has scaled: with pixdim’s lengths',
      { sform: scaled(1), pixdim: zooms(0.6) },
      0.6,
      'sform',
      /directions were taken with pixdim's lengths/,
    ],
    [
      'sform against pixdim alone: the sform',
      { sform: scaled(0.8), pixdim: zooms(0.6) },
      0.8,
      'sform',
      /the sform was taken/,
    ],
    [
      'sform and qform of one scale elsewhere: the sform',
      { sform: [-1, 0, 0, 9, 0, -1, 0, 9, 0, 0, 1, 9], quatern, pixdim: zooms(1) },
      1,
      'sform',
      /place its corners up to .* voxels apart: the sform/,
    ],
    [
      'pixdim of zero beside a sform: the sform',
      { sform: scaled(0.8), pixdim: [1, 0.8, 0, 0.8, 1, 1, 1, 1] },
      0.8,
      'sform',
      /pixdim\[2\]: expected a positive spacing, found 0; the sform is good and was taken/,
    ],
    [
      'a negative pixdim beside a sform and a qform: the sform',
      { sform: scaled(0.8), quatern, pixdim: [1, -0.8, 0.8, 0.8, 1, 1, 1, 1] },
      0.8,
      'sform',
      /pixdim\[1\]: .* found -0.8.*; the sform/,
    ],
    [
      'a singular sform beside a qform: the qform',
      { sform: Array<number>(12).fill(0), quatern, pixdim: zooms(0.6) },
      0.6,
      'qform',
      /sform: the affine is singular.*; the qform was taken/,
    ],
    [
      'a rotation that is none beside a sform: the sform',
      { sform: scaled(0.6), quatern: { ...quatern, b: 2 }, pixdim: zooms(0.6) },
      0.6,
      'sform',
      /is no rotation; the sform was taken/,
    ],
  ] as [string, MakeNifti, number, string, RegExp][])('%s', async (_, options, mm, source, words) => {
    const header = await readNiftiHeader(file(options));
    expect(header.affineSource).toBe(source);
    expect(rasGrid(orientationOf(header.shape, header.affine)).spacingMm.map((x) => Number(x.toPrecision(6)))).toEqual([
      mm,
      mm,
      mm,
    ]);
    expect(header.warnings).toEqual([expect.stringMatching(words)]);
  });

  it.each([
    ['within a hundredth', { sform: scaled(0.801), pixdim: zooms(0.8) }],
    ['on an axis that the file has not', { dims: [4, 6], sform: scaled(1), pixdim: [1, 1, 1, 0, 1, 1, 1, 1] }],
    ['of rounding alone', { sform: scaled(Math.fround(0.7)), quatern, pixdim: zooms(0.7) }],
  ] as [string, MakeNifti][])('%s is silent', async (_, options) => {
    expect((await readNiftiHeader(file(options))).warnings).toEqual([]);
  });

  it.each([
    ['no form at all', { pixdim: [1, 1, -1, 1, 1, 1, 1, 1] }, 'pixdim[2]'],
    ['a qform alone, whose spacing pixdim is', { quatern, pixdim: [1, 1, 0, 1, 1, 1, 1, 1] }, 'pixdim[2]'],
    ['two forms that are none', { sform: Array<number>(12).fill(0), quatern: { ...quatern, b: 2 } }, 'sform'],
  ] as [string, MakeNifti, string][])('is refused where no form is good: %s', async (_, options, field) => {
    const error = await failure(readNiftiHeader(file(options)));
    expect([error.code, error.details.field]).toEqual(['file', field]);
  });
});

describe('label values', () => {
  const floats = (values: number[]): MakeNifti => ({
    code: 16,
    bitpix: 32,
    data: new Uint8Array(Float32Array.from(values).buffer),
  });
  it('that are whole but for a scaling’s rounding are whole', async () => {
    const values = Array.from({ length: 24 }, (_, n) => (n % 3) + (n % 2 ? 9e-4 : -9e-4));
    expect([...(await readLabelVolume(file(floats(values)))).volume.voxels]).toEqual(
      values.map((v) => Math.round(v) + 0),
    );
    const int16 = new Uint8Array(Int16Array.from({ length: 24 }, (_, n) => 16384 * (n % 2)).buffer);
    const { volume } = await readLabelVolume(
      file({ code: 4, bitpix: 16, data: int16, slope: 1.0000152587890625 / 16384 }),
    );
    expect([...new Set(volume.voxels)]).toEqual([0, 1]);
  });
  it('that are not stay as they are, to be refused', async () => {
    const { volume } = await readLabelVolume(file(floats(Array<number>(24).fill(0.7))));
    expect(volume.voxels[0]).toBeCloseTo(0.7, 6);
  });
  it('that are NaN come without a remedy that does not work', async () => {
    const error = await failure(readLabelVolume(file(floats(Array<number>(24).fill(NaN)))));
    expect(error.message).toMatch(/24 are NaN, infinite or beyond the range of float32$/);
  });
});

it('values beyond float32 are refused by name in any voxel type, or zeroed', async () => {
  for (const value of [1e200, -1e306, 3.5e38]) {
    const data = Float64Array.from({ length: 24 }, (_, n) => (n === 7 ? value : n));
    const path = file({ code: 64, bitpix: 64, data: new Uint8Array(data.buffer) });
    const error = await failure(readImages([path]));
    expect(error.message).toMatch(/voxels: 1 are NaN, infinite or beyond the range of float32 \(data.nonFinite/);
    expect(error.details.file).toBe(path);
    const { volume, nonFinite } = await readImages([path], { nonFinite: 'zero' });
    expect([nonFinite, volume.voxels[7], volume.voxels[8]]).toEqual([1, 0, 8]);
  }
  const scaled = Float64Array.from({ length: 24 }, (_, n) => n * 1e20);
  const path = file({ code: 64, bitpix: 64, data: new Uint8Array(scaled.buffer), slope: 1e20 });
  expect((await failure(readImages([path]))).details).toMatchObject({ file: path, field: 'scl_slope' });
});
