/**
 * Volumes from files (`readVolume`, behind which a format of files is), and one case of a dataset read from its files: image
 * channels as one RAS volume, labels as class indices on the same grid. What does not fit together (grids, channel counts,
 * label values) is refused here, by file. Node only.
 */
import { fileError, MaclError } from '../errors.js';
import { arrayKind, emptyLike, isArrayOf } from '../realm.js';
import { Breather } from '../breathe.js';
import { type Dataset, type DatasetCase, type DatasetClass } from './dataset.js';
import { type Fit, fitGrid } from './grid.js';
import {
  type NiftiHeader,
  type NiftiSource,
  type Orientation,
  type ReadForOptions,
  readNifti,
  readNiftiHeader,
  toRas,
} from './nifti/index.js';
import { type Grid, IGNORE_LABEL, type Volume, type VoxelArray } from '../volume.js';

/** The most distinct label values that are looked for where no dataset.json names them. */
const MAX_CLASSES = 255;

export interface ReadCaseOptions {
  nonFinite?: 'refuse' | 'zero';
  /** What a message about voxels that are not finite says can be done. */
  remedy?: string;
  /** Called before memory is taken for a file's voxels. */
  onHeader?: (header: NiftiHeader) => void;
  signal?: AbortSignal;
}

async function concatenate(volumes: Volume[], breath: Breather): Promise<Volume> {
  const [first] = volumes as [Volume, ...Volume[]];
  if (volumes.length === 1) return first;
  const types = new Set(volumes.map(({ voxels }) => arrayKind(voxels)));
  const length = volumes.reduce((sum, { voxels }) => sum + voxels.length, 0);
  const voxels: VoxelArray = types.size === 1 ? emptyLike(first.voxels, length) : new Float32Array(length);
  let at = 0;
  for (const volume of volumes) {
    voxels.set(volume.voxels, at);
    at += volume.voxels.length;
    await breath.maybe();
  }
  return { grid: first.grid, channels: volumes.reduce((sum, { channels }) => sum + channels, 0), voxels };
}

/** What writing a result on the file's own grid needs of it. */
export interface FileFrame {
  header: NiftiHeader;
  extensions: Uint8Array;
  /** Takes the RAS volume's voxels back to the file's order. */
  orientation: Orientation;
}

export interface VolumeFile extends FileFrame {
  volume: Volume;
  nonFinite: number;
  /** Each begins with the file. */
  warnings: string[];
}

/** A volume from a file or its bytes, turned to RAS, or as `onto` says of its header. Raw voxels are let go. Throws MaclError. */
export async function readVolume(
  source: NiftiSource,
  options: ReadForOptions & { onto?: (header: NiftiHeader) => Promise<Fit | undefined> } = {},
): Promise<VolumeFile> {
  const { onto, ...reading } = options;
  const { signal } = reading;
  const image = await readNifti(source, reading);
  const { header, extensions, nonFinite } = image;
  const fit = await onto?.(header);
  const { volume, orientation } = await toRas(image, {
    ...(signal && { signal }),
    ...(fit && { orientation: fit.orientation }),
  });
  const words = fit?.warning === undefined ? image.warnings : [...image.warnings, fit.warning];
  return {
    header,
    extensions,
    orientation,
    volume,
    nonFinite,
    warnings: words.map((text) => `${header.file}: ${text}`),
  };
}

export interface CaseImage {
  volume: Volume;
  /** Of the first file. */
  frame: FileFrame;
  nonFinite: number;
  warnings: string[];
}

/** All channels of image files, turned to RAS, on one grid. Throws MaclError. */
export async function readImages(files: readonly NiftiSource[], options: ReadCaseOptions = {}): Promise<CaseImage> {
  const { signal } = options;
  const volumes: Volume[] = [];
  const warnings: string[] = [];
  let frame: FileFrame | undefined;
  let nonFinite = 0;
  for (const source of files) {
    const read = await readVolume(source, {
      remedy: 'data.nonFinite: "zero" replaces them',
      ...options,
      onto: async (header) =>
        frame && fitGrid(header, header.file, volumes[0]!.grid, frame.header.file, async () => frame!.header),
    });
    const { header, extensions, orientation } = read;
    frame ??= { header, extensions, orientation };
    volumes.push(read.volume);
    nonFinite += read.nonFinite;
    warnings.push(...read.warnings);
  }
  return { volume: await concatenate(volumes, new Breather(signal)), frame: frame!, nonFinite, warnings };
}

export function missingFile(item: DatasetCase, what: 'image' | 'label', file: string): MaclError {
  return fileError(file, what, `of case ${item.id} is missing`);
}

/** The image of a case; missing files and another number of channels than the dataset's are errors. */
export async function readCaseImage(dataset: Dataset, item: DatasetCase, options: ReadCaseOptions): Promise<CaseImage> {
  if (item.missing.length) throw missingFile(item, 'image', item.missing[0]!);
  const image = await readImages(item.images, options);
  if (image.volume.channels !== dataset.channels) {
    const file = item.images[0]!;
    const words = `${file}: channels: expected ${dataset.channels} (${dataset.channelNames.join(', ')}), found ${image.volume.channels}`;
    const details = { file, field: 'channels', expected: dataset.channels, found: image.volume.channels };
    throw new MaclError('dataset', words, details);
  }
  return image;
}

/** The grid that a label has to lie on, and the file that it comes from. */
export interface LabelTarget {
  grid: Grid;
  file: string;
}

export interface LabelVolume {
  volume: Volume;
  warnings: string[];
}

/** Integers this near are meant: labels that were saved through a scaling come back so. */
const INTEGER_WITHIN = 1e-3;

/** Values that are whole but for a scaling's rounding become whole, in place; others stay for `mapLabels` to refuse. */
async function roundLabels(voxels: VoxelArray, breath: Breather): Promise<void> {
  if (!isArrayOf(voxels, 'Float32Array', 'Float64Array')) return;
  for (let start = 0; start < voxels.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, voxels.length);
    for (let i = start; i < end; i++) {
      const value = voxels[i]!;
      const whole = Math.round(value);
      // `+ 0` makes one zero of two.
      if (Math.abs(value - whole) <= INTEGER_WITHIN) voxels[i] = whole + 0;
    }
    if (breath.due()) await breath.breathe();
  }
}

/**
 * A label file: raw values, one channel, turned to RAS, or onto the grid of `target`. Throws MaclError `geometry` where it
 * does not fit.
 */
export async function readLabelVolume(file: string, signal?: AbortSignal, target?: LabelTarget): Promise<LabelVolume> {
  const abort = signal ? { signal } : {};
  // Whether it fits is known from its header, before memory is taken for its voxels.
  const header = await readNiftiHeader(file, abort);
  if (header.channels !== 1)
    throw fileError(file, 'dim', `expected one label volume, found ${header.channels} channels`);
  const fit =
    target && (await fitGrid(header, file, target.grid, target.file, () => readNiftiHeader(target.file, abort)));
  const { volume, warnings } = await readVolume(file, { ...abort, what: 'label', onto: async () => fit });
  await roundLabels(volume.voxels, new Breather(signal));
  return { volume: target ? { ...volume, grid: target.grid } : volume, warnings };
}

/** The labels of a case as raw values, held against the image's grid. */
export async function readCaseLabel(item: DatasetCase, grid: Grid, signal?: AbortSignal): Promise<LabelVolume> {
  if (item.label === undefined) throw missingFile(item, 'label', item.missingLabel ?? item.images[0]!);
  return readLabelVolume(item.label, signal, { grid, file: item.images[0]! });
}

/** Voxels between two looks at the clock; each block is one plain loop, which compiles better than one with awaits. */
const BLOCK = 1 << 16;

/** Adds the values of voxels[start … end) to `counts`, run by run: labels come in long runs. */
function countBlock(voxels: VoxelArray, start: number, end: number, counts: Map<number, number>): void {
  for (let i = start; i < end;) {
    const value = voxels[i]!;
    const from = i;
    do i++;
    while (i < end && voxels[i] === value);
    counts.set(value, (counts.get(value) ?? 0) + i - from);
  }
}

/** How often each value is there. More than 65,536 distinct values are no labels. */
export async function countValues(
  voxels: VoxelArray,
  file: string,
  signal?: AbortSignal,
): Promise<Map<number, number>> {
  const counts = new Map<number, number>();
  const breath = new Breather(signal);
  for (let start = 0; start < voxels.length; start += BLOCK) {
    countBlock(voxels, start, Math.min(start + BLOCK, voxels.length), counts);
    if (counts.size > 65536) throw fileError(file, 'voxels', 'more than 65,536 distinct values: not a label volume');
    if (breath.due()) await breath.breathe();
  }
  return counts;
}

/** Maps one block, run by run; values that `index` lacks are counted in `unknown` (the first 64 of them). */
function mapBlock(
  voxels: VoxelArray,
  start: number,
  end: number,
  index: ReadonlyMap<number, number>,
  out: Uint8Array,
  unknown: Map<number, number>,
): void {
  for (let i = start; i < end;) {
    const value = voxels[i]!;
    const from = i;
    do i++;
    while (i < end && voxels[i] === value);
    const mapped = index.get(value);
    if (mapped === undefined) {
      if (unknown.size < 64 || unknown.has(value)) unknown.set(value, (unknown.get(value) ?? 0) + i - from);
    } else if (mapped !== 0) out.fill(mapped, from, i);
  }
}

/** Values → class indices (0 the background), the ignored value → 255. Throws MaclError `label` for any other. */
export async function mapLabels(
  voxels: VoxelArray,
  classes: readonly DatasetClass[],
  ignoreValue: number | undefined,
  file: string,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const index = new Map(classes.map(({ value }, n) => [value, n]));
  if (ignoreValue !== undefined) index.set(ignoreValue, IGNORE_LABEL);
  const out = new Uint8Array(voxels.length);
  const unknown = new Map<number, number>();
  const breath = new Breather(signal);
  for (let start = 0; start < voxels.length; start += BLOCK) {
    mapBlock(voxels, start, Math.min(start + BLOCK, voxels.length), index, out, unknown);
    if (breath.due()) await breath.breathe();
  }
  if (unknown.size) {
    const found = [...unknown].sort(([a], [b]) => a - b);
    const shown = found.slice(0, 5).map(([value, count]) => `${value} (${count} voxels)`);
    const expected = classes.map(({ value }) => value);
    const hint = found.every(([value]) => Number.isInteger(value))
      ? ''
      : ': round the labels and save them as integers';
    const words = `${file}: voxels: values outside the classes ${expected.join(', ')}: ${shown.join(', ')}${hint}`;
    throw new MaclError('label', words, { file, field: 'voxels', expected, found: found.map(([value]) => value) });
  }
  return out;
}

/** The classes that label files hold, where no dataset.json names them: every value, 0 (or the smallest) first. */
export function classesFromValues(values: Iterable<number>, file: string): DatasetClass[] {
  const sorted = [...new Set([0, ...values])].sort((a, b) => a - b);
  const odd = sorted.find((value) => !Number.isInteger(value));
  if (odd !== undefined)
    throw new MaclError('label', `${file}: voxels: ${odd} is no label value`, { file, field: 'voxels', found: odd });
  if (sorted.length > MAX_CLASSES) {
    throw new MaclError('label', `${file}: voxels: ${sorted.length} distinct values, at most ${MAX_CLASSES} classes`, {
      file,
      field: 'voxels',
    });
  }
  const rest = sorted.filter((value) => value !== 0);
  return [{ value: 0, name: 'background' }, ...rest.map((value) => ({ value, name: String(value) }))];
}
