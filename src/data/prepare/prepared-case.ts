/**
 * A case in the cache: loaded whole to stay resident, or read box by box where it would not fit. It holds no voxels and
 * no open file itself. Node only.
 */
import { createHash } from 'node:crypto';
import type { Breather } from '../../breathe.js';
import { MaclError } from '../../errors.js';
import { DTYPE_BYTES } from '../../graph/types.js';
import { fromHalf } from '../../half.js';
import { CACHE_FORMAT, type CacheEntry } from '../cache.js';
import { readExactly, withFile } from '../files.js';
import { type AppliedNormalization } from './normalize.js';
import { type ImageInfo, type LabelInfo, STORED, type StoredDtype } from './entry.js';
import { type Triple } from '../../volume.js';

/** fp16 voxels are their bits. */
export type StoredVoxels = Uint16Array | Int16Array | Float32Array;

export interface LoadedCase {
  /** [C, D, H, W]; value = stored × scale. */
  image: StoredVoxels;
  dtype: StoredDtype;
  scale: number;
  channels: number;
  shape: Triple;
  spacingMm: Triple;
  /** [D, H, W] class indices, 255 ignored. */
  labels?: Uint8Array;
}

/** Voxels between two looks at the clock. */
const BLOCK = 1 << 16;

/** The image's values [C, D, H, W] as a network sees them. */
export async function imageValues({ image, dtype, scale }: LoadedCase, breath: Breather): Promise<Float32Array> {
  const out = new Float32Array(image.length);
  for (let start = 0; start < image.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, image.length);
    if (dtype === 'fp16') fromHalf(image.subarray(start, end) as Uint16Array, out.subarray(start, end));
    else for (let i = start; i < end; i++) out[i] = image[i]! * scale;
    if (breath.due()) await breath.breathe();
  }
  return out;
}

/** Where a box is read to instead of memory of its own: as many bytes as it has. */
export interface BoxTarget {
  readonly image: Uint8Array;
  readonly labels?: Uint8Array;
}

/** Planes of a box are read together up to this. */
const READ_BYTES = 256 * 1024;

const bytesOf = (dtype: StoredDtype): number => DTYPE_BYTES[STORED[dtype]];

export class PreparedCase {
  readonly channels: number;
  /** D, H, W in voxels, at the plan's spacing, the slice axis as D. */
  readonly shape: Triple;
  readonly spacingMm: Triple;
  readonly dtype: StoredDtype;
  readonly scale: number;
  readonly applied: readonly AppliedNormalization[];
  /** The case's own RAS grid. */
  readonly source: ImageInfo['source'];
  /** Voxels that were NaN or infinite and became 0. */
  readonly nonFinite: number;
  readonly warnings: readonly string[];
  readonly hasLabels: boolean;
  /** Voxels a class index; empty without labels. */
  readonly classVoxels: readonly number[];
  /** Bytes of image and labels when loaded. */
  readonly bytes: number;

  constructor(
    readonly id: string,
    private readonly image: CacheEntry,
    private readonly label: CacheEntry | undefined,
  ) {
    const info = image.info as ImageInfo;
    this.channels = info.channels;
    this.shape = info.shape;
    this.spacingMm = info.spacingMm;
    this.dtype = info.dtype;
    this.scale = info.scale;
    this.applied = info.applied;
    this.source = info.source;
    this.nonFinite = info.nonFinite;
    this.warnings = [...info.warnings, ...(label ? (label.info as LabelInfo).warnings : [])];
    this.hasLabels = label !== undefined;
    this.classVoxels = label ? (label.info as LabelInfo).classVoxels : [];
    const voxels = info.shape[0] * info.shape[1] * info.shape[2];
    this.bytes = voxels * (info.channels * bytesOf(info.dtype) + (label ? 1 : 0));
  }

  /**
   * A digest of what was prepared: the entries' own descriptions, with the numbers of each channel, the classes' voxels
   * and what else they say of the content, but no names. It begins with the format's version.
   */
  get contentId(): string {
    const parts = [this.image, this.label].map((entry) => {
      const { warnings: _, ...content } = (entry?.info ?? {}) as Record<string, unknown>;
      return content;
    });
    const digest = createHash('sha256').update(JSON.stringify(parts)).digest('hex');
    return `${CACHE_FORMAT}:${digest.slice(0, 32)}`;
  }

  /** Image and labels, whole. */
  load(signal?: AbortSignal): Promise<LoadedCase> {
    return this.readBox([0, 0, 0], this.shape, signal);
  }

  /**
   * A box of image and labels: `start` and `size` in D, H, W, inside the volume. Reads the planes' rows that the box
   * needs, and between them no more than a plane's width or 256 KiB at once.
   * @param into memory of the caller's; a place that is no multiple of the voxels' size is refused
   */
  async readBox(start: Triple, size: Triple, signal?: AbortSignal, into?: BoxTarget): Promise<LoadedCase> {
    if (start.some((at, axis) => at < 0 || size[axis]! < 1 || at + size[axis]! > this.shape[axis]!)) {
      const words = `${this.id}: box: [${start.join(', ')}] + [${size.join(', ')}] leaves the volume [${this.shape.join(', ')}]`;
      throw new MaclError('program', words, { field: 'box' });
    }
    const width = bytesOf(this.dtype);
    const voxels = size[0] * size[1] * size[2];
    const image = targetOf(into?.image, voxels * this.channels * width, width, `${this.id}: image`);
    await readPlanes(this.image, 'image', image, this.channels, this.shape, start, size, width, signal);
    const labels = this.label && targetOf(into?.labels, voxels, 1, `${this.id}: labels`);
    if (this.label && labels) await readPlanes(this.label, 'labels', labels, 1, this.shape, start, size, 1, signal);
    return {
      image: this.typed(image),
      dtype: this.dtype,
      scale: this.scale,
      channels: this.channels,
      shape: size,
      spacingMm: this.spacingMm,
      ...(labels && { labels }),
    };
  }

  /** Flat places d·H·W + h·W + w of foreground voxels by class index (at most 4,096 a class); empty for background. */
  async readForeground(): Promise<Int32Array[]> {
    const { label } = this;
    if (!label) return [];
    const entry = label.tensors.get('foreground')!;
    const bytes = new Uint8Array(entry.end - entry.start);
    await withFile(label.path, (handle) => readExactly(handle, bytes, label.dataOffset + entry.start, label.path));
    const all = new Int32Array(bytes.buffer);
    let at = 0;
    return (label.info as LabelInfo).foregroundCounts.map((count) => {
      at += count;
      return all.slice(at - count, at);
    });
  }

  private typed({ buffer, byteOffset, byteLength }: Uint8Array): StoredVoxels {
    const count = byteLength / bytesOf(this.dtype);
    if (this.dtype === 'fp32') return new Float32Array(buffer, byteOffset, count);
    return this.dtype === 'fp16'
      ? new Uint16Array(buffer, byteOffset, count)
      : new Int16Array(buffer, byteOffset, count);
  }
}

function targetOf(given: Uint8Array | undefined, bytes: number, width: number, what: string): Uint8Array {
  if (!given) return new Uint8Array(bytes);
  if (given.length !== bytes || given.byteOffset % width !== 0)
    throw new MaclError('program', `${what}: a box of ${bytes} bytes does not go into ${given.length} bytes`);
  return given;
}

async function readPlanes(
  cached: CacheEntry,
  name: string,
  out: Uint8Array,
  channels: number,
  shape: Triple,
  start: Triple,
  size: Triple,
  width: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const entry = cached.tensors.get(name);
  if (!entry) throw new MaclError('file', `${cached.path}: ${name}: is missing`, { file: cached.path, field: name });
  const base = cached.dataOffset + entry.start;
  const [, h, w] = shape;
  await withFile(cached.path, async (handle) => {
    if (size.every((n, axis) => n === shape[axis])) {
      await readExactly(handle, out, base, cached.path, signal);
      return;
    }
    // Small planes are read several at once, with what lies between them: a call costs more than their bytes.
    const planeBytes = h * w * width;
    const spanBytes = ((size[1] - 1) * w + size[2]) * width;
    const together = Math.max(1, Math.min(size[0], Math.floor((READ_BYTES - spanBytes) / planeBytes) + 1));
    const wholeRows = size[2] === w && together === 1;
    const rowBytes = size[2] * width;
    const span = new Uint8Array(wholeRows ? 0 : (together - 1) * planeBytes + spanBytes);
    for (let c = 0; c < channels; c++) {
      for (let d = 0; d < size[0]; d += together) {
        const planes = Math.min(together, size[0] - d);
        const from = base + (((c * shape[0] + start[0] + d) * h + start[1]) * w + start[2]) * width;
        let to = (c * size[0] + d) * size[1] * rowBytes;
        if (wholeRows) {
          await readExactly(handle, out.subarray(to, to + spanBytes), from, cached.path, signal);
          continue;
        }
        const read = span.subarray(0, (planes - 1) * planeBytes + spanBytes);
        await readExactly(handle, read, from, cached.path, signal);
        for (let plane = 0; plane < planes; plane++)
          for (let row = 0; row < size[1]; row++, to += rowBytes) {
            const at = plane * planeBytes + row * w * width;
            out.set(read.subarray(at, at + rowBytes), to);
          }
      }
    }
  });
}
