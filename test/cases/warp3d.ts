/**
 * Cases of warp3d: a volume [C, D, H, W] of some dtype in the store, an affine output voxel → volume voxel a sample.
 * `kind` names the affine: identity, mirror (W), shift (by a fraction), oblique (rotation, scale, shift).
 */
import { encode } from '../../src/graph/codec.js';
import { DTYPE_BYTES, type Shape } from '../../src/graph/types.js';
import { WARP_WORDS, warp3d as warp, writeDescriptor } from '../../src/ops/index.js';
import { normal } from '../golden/random.js';
import { count, results } from './build.js';
import { opCases, type Case, type Inputs, type Kind, type Triple } from './types.js';

export interface Warp3dCase extends Case {
  readonly interp: 'nearest' | 'linear' | 'cubic';
  readonly kind: 'identity' | 'mirror' | 'shift' | 'oblique';
  readonly dtype: 'f32' | 'f16' | 'i16' | 'u8';
  readonly volume: Triple;
  readonly out: Triple;
  readonly samples: number;
  readonly channels: number;
  /** stored · scale + offset */
  readonly scale: number;
  readonly offset: number;
  readonly fill: number;
  readonly noise: number;
}

export const cases: readonly Warp3dCase[] = [
  {
    name: 'identity',
    interp: 'linear',
    kind: 'identity',
    dtype: 'f32',
    volume: [4, 5, 6],
    out: [5, 5, 8],
    samples: 1,
    channels: 2,
    scale: 1,
    offset: 0,
    fill: -1.5,
    noise: 0,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'mirrorLabels',
    interp: 'nearest',
    kind: 'mirror',
    dtype: 'u8',
    volume: [4, 5, 7],
    out: [4, 5, 7],
    samples: 1,
    channels: 1,
    scale: 1,
    offset: 0,
    fill: 255,
    noise: 0,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'labels',
    interp: 'nearest',
    kind: 'oblique',
    dtype: 'u8',
    volume: [6, 7, 9],
    out: [5, 6, 7],
    samples: 2,
    channels: 1,
    scale: 1,
    offset: 0,
    fill: 0,
    noise: 0,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'linear',
    interp: 'linear',
    kind: 'oblique',
    dtype: 'i16',
    volume: [6, 7, 9],
    out: [5, 6, 7],
    samples: 2,
    channels: 2,
    scale: 0.0125,
    offset: -3.5,
    fill: 0.5,
    noise: 0,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'half',
    interp: 'linear',
    kind: 'shift',
    dtype: 'f16',
    volume: [4, 6, 5],
    out: [4, 6, 6],
    samples: 2,
    channels: 1,
    scale: 2,
    offset: 0.25,
    fill: 0,
    noise: 0,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'cubic',
    interp: 'cubic',
    kind: 'oblique',
    dtype: 'f32',
    volume: [6, 7, 9],
    out: [5, 6, 7],
    samples: 2,
    channels: 2,
    scale: 1,
    offset: 0,
    fill: 0.75,
    noise: 0,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'cubicFlat2d',
    interp: 'cubic',
    kind: 'shift',
    dtype: 'i16',
    volume: [1, 8, 9],
    out: [1, 7, 9],
    samples: 2,
    channels: 1,
    scale: 0.01,
    offset: 1,
    fill: 0,
    noise: 0,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'noise',
    interp: 'linear',
    kind: 'shift',
    dtype: 'f32',
    volume: [3, 4, 5],
    out: [3, 5, 4],
    samples: 2,
    channels: 2,
    scale: 1,
    offset: 0,
    fill: 0,
    noise: 0.3,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'large',
    interp: 'cubic',
    kind: 'oblique',
    dtype: 'i16',
    volume: [19, 23, 31],
    out: [13, 21, 37],
    samples: 3,
    channels: 2,
    scale: 0.01,
    offset: 0,
    fill: 0,
    noise: 0.2,
    golden: false,
    gradcheck: false,
  },
];

/** A volume in the store: row by row, or with its axes the other way round, behind some unrelated bytes. */
export interface Stored {
  readonly bytes: Uint8Array;
  /** Byte offset of every channel. */
  readonly bases: readonly number[];
  /** Elements from one voxel to the next along D, H, W. */
  readonly strides: Triple;
}

const LEAD = 64;

/** @param at byte offset in the store where this one begins */
function stored(c: Warp3dCase, values: ArrayLike<number>, at: number, turned: boolean): Stored {
  const raw = encode(c.dtype, values);
  const size = DTYPE_BYTES[c.dtype];
  const [d, h, w] = c.volume;
  const voxels = d * h * w;
  const bytes = new Uint8Array(Math.ceil((LEAD + raw.length) / 64) * 64).fill(0x7f);
  const strides: Triple = turned ? [1, d, d * h] : [h * w, w, 1];
  for (let ch = 0; ch < c.channels; ch++)
    for (let i = 0; i < d; i++)
      for (let j = 0; j < h; j++)
        for (let k = 0; k < w; k++) {
          const from = (ch * voxels + (i * h + j) * w + k) * size;
          const to = LEAD + (ch * voxels + i * strides[0] + j * strides[1] + k * strides[2]) * size;
          bytes.set(raw.subarray(from, from + size), to);
        }
  const bases = Array.from({ length: c.channels }, (_, ch) => at + LEAD + ch * voxels * size);
  return { bytes, bases, strides };
}

function descriptors(c: Warp3dCase, inputs: Inputs, from: Stored): Float64Array {
  const each = c.samples * c.channels;
  const [matrix, gain] = [inputs('matrix', c.samples * 12), inputs('gain', each)];
  const [bias, seeds] = [inputs('bias', each), inputs('seeds', 2 * each)];
  const words = new Float64Array(each * WARP_WORDS);
  for (let i = 0; i < each; i++) {
    const [n, ch] = [Math.floor(i / c.channels), i % c.channels];
    const { scale, offset, dtype, fill } = c;
    const base = from.bases[ch] as number;
    writeDescriptor(
      words,
      i,
      { base, shape: c.volume, strides: from.strides, dtype, scale, offset },
      {
        affine: Array.from({ length: 12 }, (_, k) => matrix[n * 12 + k] as number),
        gain: gain[i] as number,
        bias: bias[i] as number,
        noiseSd: c.noise,
        noiseSeed: [seeds[2 * i] as number, seeds[2 * i + 1] as number],
        fill,
      },
    );
  }
  return words;
}

const TOLERANCE: Readonly<Record<Kind, number>> = { f64: 1e-12, f32: 1e-6, tf32: 1e-6 };

/** Results y, and yTurned of the same volume with its axes in another order: the same values. */
export const warp3d = opCases<Warp3dCase>({
  op: 'warp3d',
  cases,
  build(rig, c, inputs) {
    const values = inputs('volume', c.channels * count(c.volume));
    const straight = stored(c, values, 0, false);
    const turned = stored(c, values, straight.bytes.length, true);
    rig.store(new Uint8Array([...straight.bytes, ...turned.bytes]));
    const shape: Shape = [c.samples, ...c.out, c.channels];
    const dtype = c.interp === 'nearest' ? 'i32' : rig.b.real;
    for (const [name, from] of [['y', straight] as const, ['yTurned', turned] as const]) {
      rig.result(name, warp(rig.b, `${name}.desc`, shape, c.interp, dtype));
      rig.give(`${name}.desc`, descriptors(c, inputs, from));
    }
    return results('y', 'yTurned');
  },
  expected: (_, name, value) => value(name === 'yTurned' ? 'y' : name),
  tolerance: (c, kind) => (c.interp === 'nearest' ? 0 : TOLERANCE[kind]),
  random(c, name, next) {
    if (name === 'volume') {
      if (c.dtype === 'u8') return Math.floor(256 * next());
      return c.dtype === 'i16' ? Math.round(300 * normal(next)) : normal(next);
    }
    if (name === 'seeds') return Math.floor(next() * 2 ** 32);
    return name === 'matrix' ? 2 * normal(next) : 0.5 + next();
  },
});
