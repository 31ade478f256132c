/**
 * One case of a dataset read from its files: image channels as one RAS volume, labels as class indices on the same
 * grid. What does not fit together (grids, channel counts, label values) is refused here, by file. Node only.
 */
import { fileError, MaclError } from '../errors.js';
import { arrayKind, emptyLike } from '../realm.js';
import { Breather } from './breathe.js';
import { type Dataset, type DatasetCase, type DatasetClass } from './dataset.js';
import { type NiftiSource, readNifti, toRas } from './nifti.js';
import { type Grid, type Volume, type VoxelArray } from './volume.js';

/** The stored label of voxels that count nowhere. */
export const IGNORE_LABEL = 255;

/** Corners of two grids may differ by this share of the smallest spacing: headers hold float32, tools round. */
const GRID_TOLERANCE = 0.05;

/** The most distinct label values that are looked for where no dataset.json names them. */
const MAX_CLASSES = 255;

export interface ReadCaseOptions {
  nonFinite?: 'refuse' | 'zero';
  signal?: AbortSignal;
}

function show(numbers: readonly number[]): string {
  return `[${numbers.map((n) => Number(n.toPrecision(6))).join(', ')}]`;
}

/** How two grids differ, or undefined where they are the same: shape, then the corners in the world. */
export function gridDifference(expected: Grid, found: Grid): string | undefined {
  if (expected.shape.some((n, axis) => n !== found.shape[axis])) {
    return `shape (D, H, W) ${show(found.shape)}, expected ${show(expected.shape)}`;
  }
  const [d, h, w] = expected.shape;
  let worst = 0;
  for (let corner = 0; corner < 8; corner++) {
    const index = [corner & 1 ? w - 1 : 0, corner & 2 ? h - 1 : 0, corner & 4 ? d - 1 : 0, 1];
    for (let row = 0; row < 3; row++) {
      let difference = 0;
      for (let n = 0; n < 4; n++)
        difference += (expected.affine[4 * row + n]! - found.affine[4 * row + n]!) * index[n]!;
      worst = Math.max(worst, Math.abs(difference));
    }
  }
  if (worst <= GRID_TOLERANCE * Math.min(...expected.spacingMm)) {
    // One voxel along an axis says nothing of the spacing there.
    const off = expected.spacingMm.findIndex((mm, axis) => Math.abs(mm / found.spacingMm[axis]! - 1) > GRID_TOLERANCE);
    return off < 0 ? undefined : `spacing (D, H, W) ${show(found.spacingMm)} mm, expected ${show(expected.spacingMm)}`;
  }
  return `its corners lie up to ${Number(worst.toPrecision(4))} mm elsewhere (spacing ${show(found.spacingMm)}, expected ${show(expected.spacingMm)})`;
}

function sameGrid(expected: Grid, found: Grid, file: string, other: string): void {
  const difference = gridDifference(expected, found);
  if (difference) {
    const words = `${file}: grid: differs from ${other}: ${difference}`;
    throw new MaclError('geometry', words, { file, field: 'grid', expected: expected.shape, found: found.shape });
  }
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

export interface CaseImage {
  volume: Volume;
  nonFinite: number;
  warnings: string[];
}

/** All channels of image files, turned to RAS, on one grid. Throws MaclError. */
export async function readImages(files: readonly NiftiSource[], options: ReadCaseOptions = {}): Promise<CaseImage> {
  const { signal } = options;
  const volumes: Volume[] = [];
  const warnings: string[] = [];
  let nonFinite = 0;
  let firstName = '';
  for (const source of files) {
    const image = await readNifti(source, options);
    const { file } = image.header;
    firstName ||= file;
    const { volume } = await toRas(image, signal ? { signal } : {});
    if (volumes.length) sameGrid(volumes[0]!.grid, volume.grid, file, firstName);
    volumes.push(volume);
    nonFinite += image.nonFinite;
    warnings.push(...image.warnings.map((text) => `${file}: ${text}`));
  }
  return { volume: await concatenate(volumes, new Breather(signal)), nonFinite, warnings };
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

/** A label file turned to RAS: raw values, one channel. */
export async function readLabelVolume(file: string, signal?: AbortSignal): Promise<Volume> {
  const { volume } = await toRas(await readNifti(file, signal ? { signal } : {}), signal ? { signal } : {});
  if (volume.channels !== 1)
    throw fileError(file, 'dim', `expected one label volume, found ${volume.channels} channels`);
  return volume;
}

/** The labels of a case as raw values, held against the image's grid. */
export async function readCaseLabel(item: DatasetCase, grid: Grid, signal?: AbortSignal): Promise<Volume> {
  if (item.label === undefined) throw missingFile(item, 'label', item.missingLabel ?? item.images[0]!);
  const volume = await readLabelVolume(item.label, signal);
  sameGrid(grid, volume.grid, item.label, item.images[0]!);
  return volume;
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
    const words = `${file}: voxels: values outside the classes ${expected.join(', ')}: ${shown.join(', ')}`;
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
