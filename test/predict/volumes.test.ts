/** Volumes in memory: what is no grid or no label is refused before anything is computed. */
import { describe, expect, it } from 'vitest';
import type { Grid, Volume } from '../../src/volume.js';
import { MaclError } from '../../src/errors.js';
import { Breather } from '../../src/breathe.js';
import { labelValues } from '../../src/segment/label-values.js';
import { evaluateVolumes, segmentAnyOrientation } from '../../src/predict/volumes.js';

const failure = async (promise: Promise<unknown>): Promise<MaclError> => {
  const error: unknown = await promise.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(MaclError);
  return error as MaclError;
};

/** W 0.5, H 1, D 3 mm, W running to the left. */
const affineOf = (...at: [index: number, value: number][]): Float64Array => {
  const affine = Float64Array.of(-0.5, 0, 0, 9, 0, 1, 0, 8, 0, 0, 3, 7, 0, 0, 0, 1);
  for (const [n, value] of at) affine[n] = value;
  return affine;
};
const GRID: Grid = { shape: [2, 3, 4], spacingMm: [3, 1, 0.5], affine: affineOf() };
const segment = (volume: Volume): Promise<Uint8Array> =>
  segmentAnyOrientation(volume, {}, (ras) => Promise.resolve(Uint8Array.from(ras.voxels)));
const volumeOf = (grid: unknown): Volume => ({ grid: grid as Grid, channels: 1, voxels: new Float32Array(24).fill(3) });

describe('segmenting a volume in memory', () => {
  it('takes a grid whose spacing is that of the affine, up to rounding', async () => {
    for (const spacingMm of [
      [3, 1, 0.5],
      [3.002, 0.9995, 0.5],
    ] as const)
      expect(await segment(volumeOf({ ...GRID, spacingMm }))).toEqual(new Uint8Array(24).fill(3));
  });

  it.each<[what: string, grid: unknown, field: string, message: RegExp]>([
    ['no grid', undefined, 'grid', /grid: expected an object .*found nothing/],
    ['null for a grid', null, 'grid', /grid: .*found null/],
    ['no shape', { ...GRID, shape: undefined }, 'shape', /shape: expected three .*found nothing/],
    ['a shape of halves', { ...GRID, shape: [2, 1.5, 8] }, 'shape', /found \[2,1.5,8\]/],
    ['a shape with 0', { ...GRID, shape: [0, 3, 4] }, 'shape', /found \[0,3,4\]/],
    ['no affine', { ...GRID, affine: undefined }, 'affine', /affine: expected 16/],
    ['an affine of zeros', { ...GRID, affine: new Float64Array(16) }, 'affine', /affine: .*singular.*\[0,0,/],
    [
      'parallel axes',
      { ...GRID, affine: affineOf([1, 1], [4, -0.5]) },
      'affine',
      /affine: .*parallel.*found \[-0.5,1,/,
    ],
    ['an affine with NaN', { ...GRID, affine: affineOf([3, NaN]) }, 'affine', /affine: expected 16 finite.*NaN/],
    ['no spacing', { ...GRID, spacingMm: undefined }, 'spacingMm', /spacingMm: expected three positive/],
    ['a spacing of 0', { ...GRID, spacingMm: [0, 1, 1] }, 'spacingMm', /found \[0,1,1\]/],
    ['a negative spacing', { ...GRID, spacingMm: [-1, 1, 1] }, 'spacingMm', /found \[-1,1,1\]/],
    ['a spacing of NaN', { ...GRID, spacingMm: [NaN, 1, 1] }, 'spacingMm', /found \[NaN,1,1\]/],
    [
      'a spacing that is not the affine’s',
      { ...GRID, spacingMm: [1, 1, 0.5] },
      'spacingMm',
      /expected 3, 1, 0.5 .*columns/,
    ],
    ['a spacing in W, H, D', { ...GRID, spacingMm: [0.5, 1, 3] }, 'spacingMm', /expected 3, 1, 0.5 /],
  ])('refuses %s', async (_, grid, field, message) => {
    let ran = false;
    const error = await failure(
      segmentAnyOrientation(volumeOf(grid), {}, (ras) => {
        ran = true;
        return Promise.resolve(ras.voxels);
      }),
    );
    expect([error.code, error.details.field, ran]).toEqual(['geometry', field, false]);
    expect(error.message).toMatch(message);
  });

  it('refuses channels and voxels that are none', async () => {
    const volume = volumeOf(GRID);
    expect((await failure(segment({ ...volume, channels: 0 }))).details.field).toBe('channels');
    const error = await failure(segment({ ...volume, voxels: undefined as unknown as Float32Array }));
    expect([error.code, error.details.field]).toEqual(['geometry', 'voxels']);
  });
});

describe('evaluating volumes in memory', () => {
  const one = { id: 'one', shape: [1, 2, 3], spacingMm: [1, 1, 1] } as const;
  const evaluate = (pred: ArrayLike<number>, ref: ArrayLike<number>, background?: number) =>
    evaluateVolumes({
      cases: [{ ...one, pred, ref }],
      classes: [{ value: 1 }, { value: 7 }],
      ...(background === undefined ? {} : { background }),
    });
  const RIGHT = [0, 1, 1, 7, 0, 0];

  it('takes the classes and the background', async () => {
    expect((await evaluate(RIGHT, Uint8Array.from(RIGHT))).mean['all']!.dice).toBe(1);
    const other = RIGHT.map((v) => v || 5);
    expect((await evaluate(other, other, 5)).mean['all']!.dice).toBe(1);
  });

  it.each<[what: string, value: number, found: unknown]>([
    ['a label outside the classes', 2, [2]],
    ['NaN', NaN, NaN],
    ['half a label', 0.5, 0.5],
  ])('refuses %s', async (_, value, found) => {
    const wrong = Float32Array.from(RIGHT);
    wrong[4] = value;
    for (const [field, pair] of [
      ['pred', [wrong, RIGHT]],
      ['ref', [RIGHT, wrong]],
    ] as const) {
      const error = await failure(evaluate(pair[0], pair[1]));
      expect([error.code, error.details.field, error.details.found]).toEqual(['label', field, found]);
      expect(error.message).toMatch(new RegExp(`^one: ${field}: `));
    }
  });

  it('refuses 0 where the background is another value', async () => {
    expect((await failure(evaluate(RIGHT, RIGHT, 5))).code).toBe('label');
  });
});

describe('label values', () => {
  it.each([
    [[0, 255], Uint8Array],
    [[0, 300], Int16Array],
    [[-1, 7], Int16Array],
    [[0, 40000], Uint16Array],
    [[-1, 40000], Int32Array],
    [[0, 3000000000], Uint32Array],
    [[0, 4294967295], Uint32Array],
  ])('%j are kept as they are', async (values, Type) => {
    const found = await labelValues(Uint8Array.of(1, 0, 1), values, new Breather());
    expect(found).toBeInstanceOf(Type);
    expect([...found]).toEqual([values[1], values[0], values[1]]);
  });

  it.each([[[0, 4294967296]], [[-1, 3000000000]], [[-2147483649, 0]], [[0, 0.5]]])('%j fit nothing', async (values) => {
    await expect(labelValues(Uint8Array.of(0), values, new Breather())).rejects.toMatchObject({ code: 'label' });
  });
});
