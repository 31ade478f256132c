/**
 * NIfTI files in: .nii and .nii.gz, NIfTI-1 and NIfTI-2, single file, either byte order. Everything is asynchronous;
 * no header field is believed before it is checked. Writing is in `nifti-write.ts`, turning to RAS at the end here.
 * Pairs of .hdr and .img are not read. Node only.
 */
import { type FileHandle } from 'node:fs/promises';
import { freeBytes } from '../../backend/limits-node.js';
import { fileError, memoryError } from '../../errors.js';
import { FLOAT32_MAX } from '../../half.js';
import { isArrayOf } from '../../realm.js';
import { Breather } from '../../breathe.js';
import { readExactly, withFile } from '../files.js';
import { byteChunks, fileChunks, isGzip, MAX_DEFLATE_RATIO } from '../inflate.js';
import { checkExtensions, HEADER_BYTES, type NiftiHeader, parseNiftiHeader } from './header.js';
import { isRas, type Orientation, orientationOf, rasGrid, turnToRas } from '../orientation.js';
import { NOT_FINITE, type Volume, type VoxelArray } from '../../volume.js';

export { datatypeOf, type NiftiDatatype, type NiftiHeader } from './header.js';
export { fromRas, type Orientation, orientationOf, rasGrid } from '../orientation.js';
export { niftiBytes, writeNifti, type WriteNiftiOptions } from './write.js';

/** More bytes than this behind the last voxel are refused; fewer are warned about. */
const MAX_TRAILING_BYTES = 1024 * 1024;
/** Above this size a ratio beyond `BOMB_RATIO` is taken for a bomb: label maps of real size compress 1,000 to 1. */
const BOMB_BYTES = { image: 2 ** 27, label: 2 ** 30 } as const;
const BOMB_RATIO = 200;
/** Elements (or bytes) between two looks at the clock. */
const BLOCK = 1 << 16;

export interface ReadNiftiOptions {
  signal?: AbortSignal;
  /** NaN and infinite voxels: `refuse` (default) or replace them with 0, counted in `nonFinite`. */
  nonFinite?: 'refuse' | 'zero';
  /** The most bytes of voxels that are read; without it, free memory and the compression ratio set the limit. */
  maxVoxelBytes?: number;
}

/** For callers inside macl, who know what a file is for. */
export interface ReadForOptions extends ReadNiftiOptions {
  /** `label`: compresses far better than any image, and has no use for voxels that are not finite. Default `image`. */
  what?: 'image' | 'label';
  /** What a message about voxels that are not finite says can be done. */
  remedy?: string;
  /** Called before memory is taken for the voxels; what it throws is thrown. */
  onHeader?: (header: NiftiHeader) => void;
}

export interface NiftiImage {
  header: NiftiHeader;
  /** The bytes between header and voxels: the extender and the extensions, kept for writing. */
  extensions: Uint8Array;
  /** As stored (not scaled), i fastest, then j, k, channel. int64 and uint64 become float64. */
  voxels: VoxelArray;
  /** Voxels that were replaced under `nonFinite: 'zero'`. */
  nonFinite: number;
  warnings: string[];
}

/** Reads at least `needed` bytes ahead, without holding on to what comes later. */
class Reader {
  private held: Uint8Array = new Uint8Array(0);
  private ended = false;
  constructor(private readonly chunks: AsyncGenerator<Uint8Array, void, undefined>) {}

  /** Up to `bytes` bytes: fewer only where the stream ends. */
  async take(bytes: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    let have = 0;
    while (have < bytes) {
      const chunk = await this.next();
      if (!chunk) break;
      const part = chunk.subarray(0, bytes - have);
      this.held = chunk.subarray(part.length);
      parts.push(part);
      have += part.length;
    }
    if (parts.length === 1) return parts[0]!;
    const out = new Uint8Array(have);
    let at = 0;
    for (const part of parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }

  /** The next chunk, or undefined at the end. */
  async next(): Promise<Uint8Array | undefined> {
    if (this.held.length) {
      const chunk = this.held;
      this.held = new Uint8Array(0);
      return chunk;
    }
    while (!this.ended) {
      const { value, done } = await this.chunks.next();
      if (done) this.ended = true;
      else if (value.length) return value;
    }
    return undefined;
  }

  async close(): Promise<void> {
    await this.chunks.return();
  }
}

interface Opened {
  reader: Reader;
  header: NiftiHeader;
  extensions: Uint8Array;
  gzip: boolean;
}

/** A file's path, or a file that lies in memory with a name for messages. */
export type NiftiSource = string | { readonly name: string; readonly bytes: Uint8Array };

async function openNifti<T>(
  source: NiftiSource,
  signal: AbortSignal | undefined,
  use: (opened: Opened, fileBytes: number) => Promise<T>,
): Promise<T> {
  if (typeof source !== 'string') {
    const { name, bytes } = source;
    return openChunks(name, bytes.length, bytes.subarray(0, 2), (gzip) => byteChunks(bytes, gzip, name, signal), use);
  }
  return withFile(source, async (handle: FileHandle, fileBytes: number) => {
    const magic = new Uint8Array(Math.min(2, fileBytes));
    await readExactly(handle, magic, 0, source);
    return openChunks(source, fileBytes, magic, (gzip) => fileChunks(handle, gzip, source, signal), use);
  });
}

async function openChunks<T>(
  file: string,
  fileBytes: number,
  magic: Uint8Array,
  chunks: (gzip: boolean) => AsyncGenerator<Uint8Array, void, undefined>,
  use: (opened: Opened, fileBytes: number) => Promise<T>,
): Promise<T> {
  if (fileBytes === 0) throw fileError(file, 'size', 'the file is empty');
  const gzip = isGzip(magic);
  const reader = new Reader(chunks(gzip));
  try {
    // 348 bytes say which version it is; a NIfTI-1 file may end before byte 540.
    let first = await reader.take(HEADER_BYTES[1]);
    if (isVersion2(first)) {
      const rest = await reader.take(HEADER_BYTES[2] - HEADER_BYTES[1]);
      const both = new Uint8Array(first.length + rest.length);
      both.set(first);
      both.set(rest, first.length);
      first = both;
    }
    const header = parseNiftiHeader(first, file);
    checkSize(header, fileBytes, gzip);
    const between = await reader.take(header.voxOffset - HEADER_BYTES[header.version]);
    if (between.length < header.voxOffset - HEADER_BYTES[header.version]) {
      throw fileError(file, 'vox_offset', `${header.voxOffset} is past the end of the file`);
    }
    const extensions = Uint8Array.from(between);
    checkExtensions(header, extensions);
    return await use({ reader, header, extensions, gzip }, fileBytes);
  } finally {
    await reader.close();
  }
}

function isVersion2(first: Uint8Array): boolean {
  if (first.length < 4) return false;
  const view = new DataView(first.buffer, first.byteOffset, first.length);
  return view.getInt32(0, true) === 540 || view.getInt32(0, false) === 540;
}

/** Sizes that the file cannot hold are refused before a byte of voxels is read. */
function checkSize(header: NiftiHeader, fileBytes: number, gzip: boolean): void {
  const { file, voxOffset, voxelBytes, warnings } = header;
  const needed = voxOffset + voxelBytes;
  if (gzip) {
    if (needed > fileBytes * MAX_DEFLATE_RATIO + 65536) {
      throw fileError(file, 'dim', `${voxelBytes} bytes of voxels cannot come from ${fileBytes} compressed bytes`);
    }
    return;
  }
  if (voxOffset >= fileBytes) throw fileError(file, 'vox_offset', `${voxOffset} is past the end, byte ${fileBytes}`);
  if (needed > fileBytes) {
    throw fileError(file, 'voxels', `are cut short: expected ${voxelBytes} bytes, found ${fileBytes - voxOffset}`);
  }
  checkTrailing(header, fileBytes - needed, warnings);
}

function checkTrailing(header: NiftiHeader, bytes: number, warnings: string[]): void {
  if (bytes > MAX_TRAILING_BYTES) {
    throw fileError(header.file, 'voxels', `more than ${MAX_TRAILING_BYTES} bytes follow the last voxel`);
  }
  if (bytes > 0) warnings.push(`${bytes} bytes after the last voxel are ignored`);
}

/** The largest copy that scaling, or turning to RAS, makes beside the voxels as they are stored. */
export function copyBytes(header: NiftiHeader): number {
  const { voxelBytes, bytesPerVoxel, slope, intercept, datatype } = header;
  if (slope === 1 && intercept === 0) return isRas(orientationOf(header.shape, header.affine)) ? 0 : voxelBytes;
  const narrow = bytesPerVoxel <= 2 || datatype === 'float32';
  return (voxelBytes / bytesPerVoxel) * (narrow ? 4 : 8);
}

/** Memory is known before it is taken. */
function checkMemory(header: NiftiHeader, fileBytes: number, gzip: boolean, options: ReadForOptions): void {
  const { maxVoxelBytes, what = 'image' } = options;
  const { file, voxelBytes } = header;
  if (maxVoxelBytes !== undefined) {
    if (voxelBytes > maxVoxelBytes) {
      throw fileError(file, 'dim', `${voxelBytes} bytes of voxels, at most ${maxVoxelBytes} are read`);
    }
    return;
  }
  if (gzip && voxelBytes > BOMB_BYTES[what] && voxelBytes > fileBytes * BOMB_RATIO) {
    throw fileError(file, 'gzip', `${fileBytes} bytes would become ${voxelBytes}: refused as a decompression bomb`);
  }
  const free = freeBytes();
  const needed = voxelBytes + copyBytes(header);
  if (needed > free) throw memoryError(`${file}: dim: its voxels`, needed, free, { file, field: 'dim' });
}

/** Reads and checks the header only, decompressing no more than it takes. */
export async function readNiftiHeader(
  source: NiftiSource,
  options: { signal?: AbortSignal } = {},
): Promise<NiftiHeader> {
  return openNifti(source, options.signal, ({ header }) => Promise.resolve(header));
}

/** Reads a volume. Throws MaclError `file` with file and field, `memory`, or `aborted`. */
export async function readNifti(source: NiftiSource, options: ReadForOptions = {}): Promise<NiftiImage> {
  const { signal } = options;
  return openNifti(source, signal, async ({ reader, header, extensions, gzip }, fileBytes) => {
    const { file } = header;
    checkMemory(header, fileBytes, gzip, options);
    options.onHeader?.(header);
    const bytes = allocate(header);
    let at = 0;
    let trailing = 0;
    for (;;) {
      const chunk = await reader.next();
      if (!chunk) break;
      const part = chunk.subarray(0, bytes.length - at);
      bytes.set(part, at);
      at += part.length;
      trailing += chunk.length - part.length;
      if (trailing > MAX_TRAILING_BYTES) checkTrailing(header, trailing, []);
    }
    if (at < bytes.length) {
      throw fileError(file, 'voxels', `are cut short: expected ${bytes.length} bytes, found ${at}`);
    }
    const warnings = [...header.warnings];
    if (gzip) checkTrailing(header, trailing, warnings);
    const breath = new Breather(signal);
    if (!header.littleEndian) await swapBytes(bytes, header.bytesPerVoxel, breath);
    const voxels = await typedVoxels(bytes, header, breath);
    const nonFinite = await checkFinite(voxels, header, options, breath);
    if (nonFinite) warnings.push(`${nonFinite} voxels that are not finite were set to 0`);
    return { header, extensions, voxels, nonFinite, warnings };
  });
}

function allocate(header: NiftiHeader): Uint8Array {
  try {
    return new Uint8Array(header.voxelBytes);
  } catch (cause) {
    const { file, voxelBytes } = header;
    throw memoryError(`${file}: dim: its voxels`, voxelBytes, freeBytes(), { file, field: 'dim' }, cause);
  }
}

async function swapBytes(bytes: Uint8Array, width: number, breath: Breather): Promise<void> {
  if (width === 1) return;
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < bytes.length; at += BLOCK) {
    const part = view.subarray(at, Math.min(at + BLOCK, bytes.length));
    if (width === 2) part.swap16();
    else if (width === 4) part.swap32();
    else part.swap64();
    if (breath.due()) await breath.breathe();
  }
}

async function typedVoxels(bytes: Uint8Array, header: NiftiHeader, breath: Breather): Promise<VoxelArray> {
  const { buffer } = bytes;
  switch (header.datatype) {
    case 'uint8':
      return bytes;
    case 'int8':
      return new Int8Array(buffer);
    case 'int16':
      return new Int16Array(buffer);
    case 'uint16':
      return new Uint16Array(buffer);
    case 'int32':
      return new Int32Array(buffer);
    case 'uint32':
      return new Uint32Array(buffer);
    case 'float32':
      return new Float32Array(buffer);
    case 'float64':
      return new Float64Array(buffer);
    default:
      return wideVoxels(
        header.datatype === 'int64' ? new BigInt64Array(buffer) : new BigUint64Array(buffer),
        header,
        breath,
      );
  }
}

async function wideVoxels(
  values: BigInt64Array | BigUint64Array,
  header: NiftiHeader,
  breath: Breather,
): Promise<Float64Array> {
  // In place: each element is read before its eight bytes are written.
  const out = new Float64Array(values.buffer);
  for (let i = 0; i < values.length; i++) {
    const value = Number(values[i]!);
    if (!Number.isSafeInteger(value)) throw fileError(header.file, 'voxels', `voxel ${i} is ${values[i]}, beyond 2^53`);
    out[i] = value;
    if ((i & 0xfff) === 0 && breath.due()) await breath.breathe();
  }
  return out;
}

async function checkFinite(
  voxels: VoxelArray,
  header: NiftiHeader,
  options: ReadForOptions,
  breath: Breather,
): Promise<number> {
  if (!isArrayOf(voxels, 'Float32Array', 'Float64Array')) return 0;
  // Stored so that the value is 0 after scaling too, or as near as the type allows.
  const zero = header.intercept === 0 ? 0 : -header.intercept / header.slope;
  let found = 0;
  for (let start = 0; start < voxels.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, voxels.length);
    for (let i = start; i < end; i++) {
      const value = voxels[i]!;
      if (value >= -FLOAT32_MAX && value <= FLOAT32_MAX) continue;
      found++;
      if (options.nonFinite === 'zero') voxels[i] = zero;
    }
    if (breath.due()) await breath.breathe();
  }
  if (found && options.nonFinite !== 'zero') {
    const { remedy = 'nonFinite: "zero" replaces them' } = options;
    const hint = options.what === 'label' ? '' : ` (${remedy})`;
    throw fileError(header.file, 'voxels', `${found} are ${NOT_FINITE}${hint}`);
  }
  return found;
}

/** The stored values with the header's scaling applied; the same array where there is none. */
export async function scaledVoxels(image: NiftiImage, signal?: AbortSignal): Promise<VoxelArray> {
  const { header, voxels } = image;
  const { slope, intercept } = header;
  if (slope === 1 && intercept === 0) return voxels;
  // float32 holds every 16-bit integer exactly; wider types keep float64 through the scaling.
  const narrow = header.bytesPerVoxel <= 2 || isArrayOf(voxels, 'Float32Array');
  const out = narrow ? new Float32Array(voxels.length) : new Float64Array(voxels.length);
  const breath = new Breather(signal);
  for (let start = 0; start < voxels.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, voxels.length);
    for (let i = start; i < end; i++) {
      const value = voxels[i]! * slope + intercept;
      out[i] = value;
      if (!(Math.abs(value) <= FLOAT32_MAX)) {
        throw fileError(header.file, 'scl_slope', `voxel ${i} overflows: ${voxels[i]} × ${slope} + ${intercept}`);
      }
    }
    if (breath.due()) await breath.breathe();
  }
  return out;
}

/**
 * Scales, and turns to the nearest RAS, or as `orientation` says. The orientation returned takes a result of the same
 * grid back: `fromRas`.
 */
export async function toRas(
  image: NiftiImage,
  options: { signal?: AbortSignal; orientation?: Orientation } = {},
): Promise<{ volume: Volume; orientation: Orientation }> {
  const { header } = image;
  const orientation = options.orientation ?? orientationOf(header.shape, header.affine);
  const scaled = await scaledVoxels(image, options.signal);
  const voxels = await turnToRas(scaled, orientation, header.channels, options.signal);
  return { volume: { grid: rasGrid(orientation), channels: header.channels, voxels }, orientation };
}
