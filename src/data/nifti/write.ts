/**
 * NIfTI files out, written atomically. With `like` the header of the input is the template: grid, affine, form codes,
 * units, byte order, rank and extensions stay as they were. Without it a NIfTI-1 header is made from an affine. Node only.
 */
import { createGzip } from 'node:zlib';
import { Readable } from 'node:stream';
import { MaclError } from '../../errors.js';
import { Breather } from '../../breathe.js';
import { writeFileAtomic } from '../files.js';
import {
  datatypeCode,
  datatypeOf,
  HEADER_BYTES,
  LEAST_OFFSET,
  millimetresPerUnit,
  type NiftiDatatype,
  type NiftiHeader,
  storedDims,
} from './header.js';
import { seal } from './seal.js';
import { affineFault, columnLengths, determinant3 } from '../orientation.js';
import { type Triple, type VoxelArray } from '../../volume.js';

const CHUNK_VOXELS = 1 << 18;

export interface WriteNiftiOptions {
  /** The input whose grid the voxels have: a NiftiImage, or its header alone. */
  like?: { header: NiftiHeader; extensions?: Uint8Array };
  /** Without `like`: voxels along i, j, k, and (i, j, k, 1) → RAS millimetres. */
  shape?: Triple;
  affine?: Float64Array;
  /** In file order: i fastest, then j, k, channel. */
  voxels: VoxelArray;
  channels?: number;
  /** Default: the type of `voxels`. Integer values are written as they are, without scaling. */
  datatype?: NiftiDatatype;
  /** Goes into the header's description with a digest of the file (`nifti-seal.ts`); without it that stays as it is. */
  seal?: string;
  signal?: AbortSignal;
}

/** Unit quaternion (b, c, d) and qfac of a rotation, or undefined where the columns are not perpendicular. */
function quaternionOf(affine: Float64Array): { b: number; c: number; d: number; qfac: number } | undefined {
  const lengths = columnLengths(affine);
  const r = [0, 1, 2].map((row) => [0, 1, 2].map((column) => affine[4 * row + column]! / lengths[column]!));
  for (const [p, q] of [
    [0, 1],
    [0, 2],
    [1, 2],
  ] as const) {
    const dot = r.reduce((sum, row) => sum + row[p]! * row[q]!, 0);
    if (Math.abs(dot) > 1e-4) return undefined;
  }
  const qfac = determinant3(affine) < 0 ? -1 : 1;
  for (const row of r) row[2] = row[2]! * qfac;
  const [m0, m1, m2] = r as [number[], number[], number[]];
  const [xx, yy, zz] = [m0[0]!, m1[1]!, m2[2]!];
  // The largest of the four squares is the one to divide by.
  const squares = [1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz];
  const largest = squares.indexOf(Math.max(...squares));
  const s = Math.sqrt(squares[largest]!) * 2;
  const [dx, dy, dz] = [m2[1]! - m1[2]!, m0[2]! - m2[0]!, m1[0]! - m0[1]!];
  const [xy, xz, yz] = [m0[1]! + m1[0]!, m0[2]! + m2[0]!, m1[2]! + m2[1]!];
  const [a, b, c, d] = [
    [s / 4, dx / s, dy / s, dz / s],
    [dx / s, s / 4, xy / s, xz / s],
    [dy / s, xy / s, s / 4, yz / s],
    [dz / s, xz / s, yz / s, s / 4],
  ][largest] as [number, number, number, number];
  // q and −q are one rotation; the header leaves out a, which is taken as positive.
  const sign = a < 0 ? -1 : 1;
  return { b: sign * b, c: sign * c, d: sign * d, qfac };
}

/** A little-endian header for a grid of our own: sform and, where it is a rotation, qform, both "scanner". */
function newHeader(shape: Triple, channels: number, affine: Float64Array): { raw: Uint8Array; version: 1 | 2 } {
  const version = Math.max(...shape, channels) > 32767 ? 2 : 1;
  const raw = new Uint8Array(HEADER_BYTES[version]);
  const view = new DataView(raw.buffer);
  const magic = version === 1 ? [0x6e, 0x2b, 0x31, 0] : [0x6e, 0x2b, 0x32, 0, 0x0d, 0x0a, 0x1a, 0x0a];
  view.setInt32(0, HEADER_BYTES[version], true);
  raw.set(magic, version === 1 ? 344 : 4);
  const real = (at1: number, at2: number, n: number, value: number): void => {
    if (version === 1) view.setFloat32(at1 + 4 * n, value, true);
    else view.setFloat64(at2 + 8 * n, value, true);
  };
  const code = (at1: number, at2: number, value: number): void => {
    if (version === 1) view.setInt16(at1, value, true);
    else view.setInt32(at2, value, true);
  };
  const lengths = columnLengths(affine);
  const quaternion = quaternionOf(affine);
  real(76, 104, 0, quaternion?.qfac ?? 1);
  lengths.forEach((length, n) => real(76, 104, n + 1, length));
  for (let n = 4; n < 8; n++) real(76, 104, n, 1);
  if (version === 1) raw[123] = 2;
  else view.setInt32(500, 2, true);
  code(252, 344, quaternion ? 1 : 0);
  code(254, 348, 1);
  if (quaternion) {
    [quaternion.b, quaternion.c, quaternion.d].forEach((value, n) => real(256, 352, n, value));
    [3, 7, 11].forEach((at, n) => real(268, 376, n, affine[at]!));
  }
  for (let n = 0; n < 12; n++) real(280, 400, n, affine[n]!);
  return { raw, version };
}

/** Sets what the voxels decide: dimensions, type, offset, and no scaling. */
function patchHeader(
  raw: Uint8Array,
  version: 1 | 2,
  littleEndian: boolean,
  dims: readonly number[],
  datatype: NiftiDatatype,
  voxOffset: number,
): void {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
  const { code, bytes } = datatypeCode(datatype);
  const all = [dims.length, ...dims, ...Array<number>(7 - dims.length).fill(1)];
  if (version === 1) {
    all.forEach((n, at) => view.setInt16(40 + 2 * at, n, littleEndian));
    view.setInt16(70, code, littleEndian);
    view.setInt16(72, bytes * 8, littleEndian);
    view.setFloat32(108, voxOffset, littleEndian);
    view.setFloat32(112, 1, littleEndian);
    // Intercept, then the display range: it was the input's.
    for (const at of [116, 124, 128]) view.setFloat32(at, 0, littleEndian);
  } else {
    all.forEach((n, at) => view.setBigInt64(16 + 8 * at, BigInt(n), littleEndian));
    view.setInt16(12, code, littleEndian);
    view.setInt16(14, bytes * 8, littleEndian);
    view.setBigInt64(168, BigInt(voxOffset), littleEndian);
    view.setFloat64(176, 1, littleEndian);
    for (const at of [184, 192, 200]) view.setFloat64(at, 0, littleEndian);
  }
}

/**
 * A spacing for each axis that the input's header did not use and this one does: what stands there may be 0, and other
 * programs go by it.
 */
function patchSpacing(raw: Uint8Array, { version, littleEndian, affine }: NiftiHeader, from: number, to: number): void {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
  const units = millimetresPerUnit(version === 1 ? view.getUint8(123) : view.getInt32(500, littleEndian));
  const lengths = columnLengths(affine);
  for (let n = from + 1; n <= to; n++) {
    const spacing = n <= 3 ? lengths[n - 1]! / units : 1;
    if (version === 1) view.setFloat32(76 + 4 * n, spacing, littleEndian);
    else view.setFloat64(104 + 8 * n, spacing, littleEndian);
  }
}

/** The input's own dimensions where the result is as large, so that a slice stays a slice; else i, j, k and channels. */
function dimsFor(like: NiftiHeader | undefined, shape: Triple, channels: number): readonly number[] {
  if (channels > 1) return [...shape, channels];
  const stored = like && like.channels === 1 ? storedDims(like) : [];
  const same = [0, 1, 2].every((n) => (stored[n] ?? 1) === shape[n]);
  return stored.length && same ? stored : shape;
}

function checkNewGrid(file: string, shape: Triple, affine: Float64Array): void {
  const wrong = (field: string, words: string, found: readonly number[]): MaclError =>
    new MaclError('geometry', `${file}: ${field}: ${words}, found [${found.join(', ')}]`, { file, field, found });
  if (shape.length !== 3 || !shape.every((n) => Number.isSafeInteger(n) && n > 0))
    throw wrong('shape', 'expected three positive whole numbers', shape);
  // As it is stored: a spacing that float32 rounds to 0 could not be read back.
  const stored = Array.from(affine, Math.fround);
  if (stored.length !== 16 || !stored.every(Number.isFinite))
    throw wrong('affine', 'expected 16 finite numbers', [...affine]);
  const fault = affineFault(stored);
  if (fault !== undefined) throw wrong('affine', fault, [...affine]);
}

type Setter = (view: DataView, at: number, value: number, littleEndian: boolean) => void;

const SETTERS: Readonly<Record<NiftiDatatype, Setter>> = {
  uint8: (view, at, value) => view.setUint8(at, value),
  int8: (view, at, value) => view.setInt8(at, value),
  int16: (view, at, value, le) => view.setInt16(at, value, le),
  uint16: (view, at, value, le) => view.setUint16(at, value, le),
  int32: (view, at, value, le) => view.setInt32(at, value, le),
  uint32: (view, at, value, le) => view.setUint32(at, value, le),
  int64: (view, at, value, le) => view.setBigInt64(at, BigInt(value), le),
  uint64: (view, at, value, le) => view.setBigUint64(at, BigInt(value), le),
  float32: (view, at, value, le) => view.setFloat32(at, value, le),
  float64: (view, at, value, le) => view.setFloat64(at, value, le),
};

const RANGES: Readonly<Partial<Record<NiftiDatatype, readonly [number, number]>>> = {
  uint8: [0, 255],
  int8: [-128, 127],
  int16: [-32768, 32767],
  uint16: [0, 65535],
  int32: [-2147483648, 2147483647],
  uint32: [0, 4294967295],
  int64: [-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  uint64: [0, Number.MAX_SAFE_INTEGER],
};

async function* voxelChunks(
  file: string,
  voxels: VoxelArray,
  datatype: NiftiDatatype,
  littleEndian: boolean,
  breath: Breather,
): AsyncGenerator<Uint8Array> {
  const { bytes } = datatypeCode(datatype);
  const range = RANGES[datatype];
  const set = SETTERS[datatype];
  for (let start = 0; start < voxels.length; start += CHUNK_VOXELS) {
    const part = voxels.subarray(start, start + CHUNK_VOXELS);
    const chunk = new Uint8Array(part.length * bytes);
    const view = new DataView(chunk.buffer);
    for (let i = 0; i < part.length; i++) {
      const value = part[i]!;
      if (range && !(Number.isInteger(value) && value >= range[0] && value <= range[1])) {
        throw new MaclError('file', `${file}: voxels: ${value} does not fit ${datatype}`, {
          file,
          field: 'voxels',
          found: value,
        });
      }
      set(view, i * bytes, value, littleEndian);
      if ((i & 0x3fff) === 0 && breath.due()) await breath.breathe();
    }
    yield chunk;
  }
}

/** Compresses as it is pulled; level 6, no time and no name in the header, so that equal voxels give equal bytes. */
async function* gzipped(chunks: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
  const source = Readable.from(chunks, { objectMode: true, highWaterMark: 1 });
  const gzip = createGzip({ level: 6, chunkSize: 1 << 18 });
  source.on('error', (error) => gzip.destroy(error));
  source.pipe(gzip);
  try {
    for await (const chunk of gzip) yield chunk as Uint8Array;
  } finally {
    source.destroy();
    gzip.destroy();
  }
}

/** Writes `file` (.nii, or gzip where the name ends in .gz) whole or not at all. Throws MaclError. */
export async function writeNifti(file: string, options: WriteNiftiOptions): Promise<void> {
  const { signal } = options;
  const chunks = await niftiChunks(file, options);
  await writeFileAtomic(file, file.endsWith('.gz') ? gzipped(chunks) : chunks, signal ? { signal } : {});
}

/** The bytes of a file, gzip or not. `name` is for errors. */
export async function niftiBytes(name: string, options: WriteNiftiOptions, gzip: boolean): Promise<Buffer> {
  const chunks = await niftiChunks(name, options);
  const parts: Uint8Array[] = [];
  for await (const chunk of gzip ? gzipped(chunks) : chunks) parts.push(chunk);
  return Buffer.concat(parts);
}

/** What is wrong with the options is thrown before the first chunk. */
async function niftiChunks(file: string, options: WriteNiftiOptions): Promise<AsyncGenerator<Uint8Array>> {
  const { like, voxels, signal } = options;
  const channels = options.channels ?? 1;
  const shape = like?.header.shape ?? options.shape;
  if (!shape || (!like && !options.affine)) {
    throw new MaclError('config', `${file}: a volume needs "like", or "shape" and "affine"`, { file, field: 'shape' });
  }
  if (!like) checkNewGrid(file, shape, options.affine!);
  const expected = shape[0] * shape[1] * shape[2] * channels;
  if (voxels.length !== expected) {
    const words = `${file}: voxels: expected ${expected} for [${shape.join(', ')}] × ${channels}, found ${voxels.length}`;
    throw new MaclError('geometry', words, { file, field: 'voxels', expected, found: voxels.length });
  }
  const datatype = options.datatype ?? datatypeOf(voxels);
  const made = like ? undefined : newHeader(shape, channels, options.affine!);
  const version = like?.header.version ?? made!.version;
  const littleEndian = like?.header.littleEndian ?? true;
  const raw = like ? like.header.raw.slice() : made!.raw;
  const extensions = like?.extensions?.length ? like.extensions : new Uint8Array(4);
  const least = LEAST_OFFSET[version] - HEADER_BYTES[version];
  if (extensions.length < least)
    throw new MaclError('file', `${file}: extensions: fewer than ${least} bytes`, { file, field: 'extensions' });
  const dims = dimsFor(like?.header, shape, channels);
  patchHeader(raw, version, littleEndian, dims, datatype, HEADER_BYTES[version] + extensions.length);
  if (like) patchSpacing(raw, like.header, storedDims(like.header).length, dims.length);
  const breath = new Breather(signal);
  async function* all(): AsyncGenerator<Uint8Array> {
    yield raw;
    yield extensions;
    yield* voxelChunks(file, voxels, datatype, littleEndian, breath);
  }
  if (options.seal !== undefined) await seal(raw, version, voxels, options.seal, breath);
  return all();
}
