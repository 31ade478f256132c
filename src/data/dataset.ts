/**
 * What a dataset on disk contains: cases with their image and label files, channels, classes. Knows the Decathlon's
 * layout, nnU-Net's raw layout, a folder with imagesTr and no dataset.json, and a plain folder of volumes. It reads
 * names and at most one header; voxels are read by `prepare.ts`. Node only.
 */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { MaclError } from '../errors.js';
import {
  channelsOf,
  classesOf,
  type DatasetClass,
  type DatasetJson,
  readDatasetJson,
  type Training,
} from './dataset-json.js';
import { asFileError, systemCode } from './files.js';
import { readNiftiHeader } from './nifti.js';
import { realpathOfAny, realRoot, resolveInside } from './paths.js';

export type { DatasetClass } from './dataset-json.js';

export interface DatasetCase {
  id: string;
  /** One file a channel (nnU-Net), or one file with all channels. Absolute paths. */
  images: string[];
  label?: string;
  /** Image files that should be there and are not. */
  missing: string[];
  /** A label file that dataset.json names and that is not there. */
  missingLabel?: string;
}

export interface Dataset {
  /** The root, links resolved. */
  root: string;
  name: string;
  layout: 'msd' | 'nnunet' | 'folder';
  channels: number;
  /** As dataset.json names them: 'CT', 'MRI', 'T1', …; 'image' where nothing does. */
  channelNames: string[];
  /** How a channel is normalised: see `normalize.ts`. */
  kinds: ('ct' | 'other')[];
  /** Background first, then by value; empty where nothing names them. `value` is what the label files hold. */
  classes: DatasetClass[];
  /** The label value that counts nowhere (nnU-Net's "ignore"), stored as 255. */
  ignoreValue?: number;
  /** Sorted by id. */
  cases: DatasetCase[];
  /** Things worth saying: a case without label, files that were skipped. */
  notes: string[];
}

export interface OpenDatasetOptions {
  /** Links may lead out of the dataset. */
  followLinks?: boolean;
  signal?: AbortSignal;
}

const NIFTI = /\.nii(\.gz)?$/;
const CHANNEL = /_(\d{4})$/;

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** A file's name without folder and .nii or .nii.gz: the id of a case. */
export function caseId(file: string): string {
  return basename(file).replace(NIFTI, '');
}

interface Found {
  id: string;
  path: string;
}

class Opener {
  readonly notes: string[] = [];
  constructor(
    readonly root: string,
    readonly followLinks: boolean,
  ) {}

  inside(named: string, file: string, field: string): Promise<string> {
    return resolveInside(this.root, named, { followLinks: this.followLinks, file, field });
  }

  /** NIfTI files of a folder, sorted; undefined where there is no such folder. Dot files are skipped in silence. */
  async list(folder: string): Promise<Found[] | undefined> {
    const shown = folder === '.' ? this.root : join(this.root, folder);
    const path = await this.inside(folder, shown, 'folder');
    let names: string[];
    try {
      names = await readdir(path);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw asFileError(error, path, 'read');
    }
    const found = new Map<string, Found>();
    for (const name of names.sort(compareText)) {
      if (name.startsWith('.')) continue;
      if (!NIFTI.test(name)) {
        if (folder !== '.') this.notes.push(`${join(folder, name)} is not a NIfTI file: skipped`);
        continue;
      }
      const id = caseId(name);
      const other = found.get(id);
      if (other) {
        const words = `${this.root}: ${folder}: case ${id} is there twice: ${basename(other.path)} and ${name}`;
        throw new MaclError('dataset', words, { file: join(path, name), field: id });
      }
      found.set(id, { id, path: await this.inside(join(folder, name), join(shown, name), 'file') });
    }
    return [...found.values()].sort((a, b) => compareText(a.id, b.id));
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) return false;
    throw asFileError(error, path, 'open');
  }
}

/**
 * Are these names case_0000, case_0001 (a file a channel)? dataset.json's channel_names says so. Without it the labels
 * decide, and without labels the same channel numbers, from 0000, in several cases.
 */
function looksLikeChannels(
  images: Found[],
  labels: Found[],
  training: Training[],
  json: DatasetJson | undefined,
): boolean {
  if (json?.channelNames) return true;
  if (!images.length || !images.every(({ id }) => CHANNEL.test(id))) return false;
  const stems = new Map<string, string[]>();
  for (const { id } of images) {
    const stem = id.replace(CHANNEL, '');
    stems.set(stem, [...(stems.get(stem) ?? []), id.slice(-4)]);
  }
  const names = new Set(images.map(({ id }) => id));
  if (training.length) return !training.some(({ image }) => names.has(caseId(image)));
  if (labels.length) return labels.some(({ id }) => stems.has(id)) && !labels.some(({ id }) => names.has(id));
  const sets = new Set([...stems.values()].map((numbers) => numbers.join()));
  return sets.size === 1 && [...sets][0]!.startsWith('0000') && (stems.size > 1 || images.length <= 4);
}

/** One case a stem, every channel named that is missing. */
function groupChannels(
  images: Found[],
  channels: number | undefined,
  root: string,
  ending: string,
): Map<string, DatasetCase> {
  const groups = new Map<string, Map<number, string>>();
  for (const { id, path } of images) {
    const match = CHANNEL.exec(id);
    if (!match) {
      throw new MaclError('dataset', `${path}: name: expected a channel ending such as ${id}_0000`, {
        file: path,
        field: 'name',
      });
    }
    const stem = id.slice(0, match.index);
    const group = groups.get(stem) ?? new Map<number, string>();
    groups.set(stem, group.set(Number(match[1]), path));
  }
  const count = channels ?? 1 + Math.max(...[...groups.values()].flatMap((group) => [...group.keys()]));
  const cases = new Map<string, DatasetCase>();
  for (const [id, group] of groups) {
    const extra = [...group.keys()].find((channel) => channel >= count);
    if (extra !== undefined) {
      const file = group.get(extra)!;
      const words = `${file}: channel: ${extra} is not among the ${count} of dataset.json`;
      throw new MaclError('dataset', words, { file, field: 'channel', expected: count, found: extra });
    }
    const item: DatasetCase = { id, images: [], missing: [] };
    for (let channel = 0; channel < count; channel++) {
      const path = group.get(channel);
      const expected = join(root, 'imagesTr', `${id}_${String(channel).padStart(4, '0')}${ending}`);
      item.images.push(path ?? expected);
      if (!path) item.missing.push(expected);
    }
    cases.set(id, item);
  }
  return cases;
}

/** A training case of dataset.json, its paths made absolute. */
interface Listed {
  id: string;
  image: string;
  images?: string[];
  label?: string;
  field: string;
}

/** Two entries of one id would be one case with files of both: only the same files may be named twice. */
function refuseTwice(listed: readonly Listed[], json: string): void {
  const seen = new Map<string, { field: string; files: string }>();
  for (const { id, image, images, label, field } of listed) {
    const files = JSON.stringify([images ?? [image], label]);
    const other = seen.get(id);
    if (other && other.files !== files) {
      const words = `${json}: ${field}: case ${id} is there twice, with other files: ${other.field} and ${field}`;
      throw new MaclError('dataset', words, { file: json, field, expected: other.field, found: field });
    }
    seen.set(id, { field, files });
  }
}

/** An entry of dataset.json that shares its id with a volume of imagesTr has to mean that volume. */
async function refuseOther(entry: Listed, item: DatasetCase, root: string, json: string): Promise<void> {
  const { id, image, images, field } = entry;
  let pair: [string, string | undefined];
  if (images) {
    // What lies in imagesTr would be left out without a word.
    pair = [images[0]!, item.images.find((path) => !item.missing.includes(path) && !images.includes(path))];
  } else {
    // imagesTr/a.nii.gz may be a.nii there, or a_0000.nii.gz and so on; a name without a folder may be any of them.
    const folder = dirname(image);
    const meant = folder === join(root, 'imagesTr') || (folder === root && !(await exists(image)));
    pair = [image, meant || item.images.includes(image) ? undefined : item.images[0]];
  }
  const [named, found] = pair;
  if (found === undefined || (await realpathOfAny(named)) === (await realpathOfAny(found))) return;
  const names = `${relative(root, named)} and ${relative(root, found)}`;
  const words = `${json}: ${field}: case ${id} is there twice: ${names}`;
  throw new MaclError('dataset', words, { file: json, field, found: named });
}

/** Opens a dataset. Throws MaclError `dataset` or `file`; missing files are noted in the cases, for `prepare`. */
export async function openDataset(root: string, options: OpenDatasetOptions = {}): Promise<Dataset> {
  const opener = new Opener(await realRoot(root), options.followLinks ?? false);
  const jsonPath = join(opener.root, 'dataset.json');
  const json = (await exists(await opener.inside('dataset.json', jsonPath, 'file')))
    ? await readDatasetJson(jsonPath)
    : undefined;
  const training = json?.training ?? [];
  // Before anything is opened: no path in dataset.json leaves the dataset.
  const listed: Listed[] = [];
  for (const { image, images, label, id, field } of training) {
    const imagePath = await opener.inside(image, jsonPath, `${field}.image`);
    const all =
      images && (await Promise.all(images.map((path, n) => opener.inside(path, jsonPath, `${field}.images[${n}]`))));
    const labelPath = label === undefined ? undefined : await opener.inside(label, jsonPath, `${field}.label`);
    listed.push({
      image: imagePath,
      ...(all && { images: all }),
      ...(labelPath !== undefined && { label: labelPath }),
      id,
      field,
    });
  }
  refuseTwice(listed, jsonPath);
  for (const { path, field } of json?.test ?? []) await opener.inside(path, jsonPath, field);

  let images = await opener.list('imagesTr');
  const labels = (await opener.list('labelsTr')) ?? [];
  if (!images && !json) images = await opener.list('.');
  if (!images?.length && !listed.length) {
    const words = `${root}: imagesTr: expected volumes (*.nii, *.nii.gz) in imagesTr, found none`;
    throw new MaclError('dataset', words, { file: root, field: 'imagesTr' });
  }
  images ??= [];

  const asChannels = looksLikeChannels(images, labels, training, json);
  const ending = json?.fileEnding ?? (images[0]?.path.endsWith('.nii') ? '.nii' : '.nii.gz');
  const names = json ? channelsOf(json) : undefined;
  const cases = asChannels
    ? groupChannels(images, json?.channelNames ? names!.length : undefined, opener.root, ending)
    : new Map(images.map(({ id, path }): [string, DatasetCase] => [id, { id, images: [path], missing: [] }]));
  for (const entry of listed) {
    let item = cases.get(entry.id);
    if (item) await refuseOther(entry, item, opener.root, jsonPath);
    if (!item || entry.images) {
      const paths = entry.images ?? [entry.image];
      const there = await Promise.all(paths.map(exists));
      item = { id: entry.id, images: paths, missing: paths.filter((_, n) => !there[n]) };
      cases.set(entry.id, item);
    }
    if (entry.label === undefined) continue;
    if (await exists(entry.label)) item.label = entry.label;
    else item.missingLabel = entry.label;
  }
  for (const { id, path } of labels) {
    const item = cases.get(id);
    if (!item) opener.notes.push(`${relative(opener.root, path)} has no image`);
    else if (item.label === undefined) {
      item.label = path;
      delete item.missingLabel;
    }
  }
  const sorted = [...cases.values()].sort((a, b) => compareText(a.id, b.id));
  for (const { id, label, missingLabel, missing } of sorted) {
    for (const path of missing) opener.notes.push(`case ${id}: ${relative(opener.root, path)} is missing`);
    if (missingLabel !== undefined) opener.notes.push(`case ${id}: ${relative(opener.root, missingLabel)} is missing`);
    else if (label === undefined && labels.length) opener.notes.push(`case ${id}: no label in labelsTr`);
  }
  const channelNames = names ?? Array<string>(await countChannels(sorted, options.signal)).fill('image');
  return {
    root: opener.root,
    name: json?.name ?? basename(opener.root),
    layout: asChannels ? 'nnunet' : json ? 'msd' : 'folder',
    channels: channelNames.length,
    channelNames,
    kinds: channelNames.map((name) => (/^ct\b/i.test(name.trim()) ? 'ct' : 'other')),
    ...(json ? classesOf(json) : { classes: [] }),
    cases: sorted,
    notes: opener.notes,
  };
}

/** Channels of the first case that can be read, where no dataset.json says how many there are. */
async function countChannels(cases: DatasetCase[], signal: AbortSignal | undefined): Promise<number> {
  for (const { images, missing } of cases) {
    if (missing.length) continue;
    if (images.length > 1) return images.length;
    try {
      return (await readNiftiHeader(images[0]!, signal ? { signal } : {})).channels;
    } catch (error) {
      // A damaged file is reported by `prepare`, with all the others.
      if (!(error instanceof MaclError) || error.code === 'aborted') throw error;
    }
  }
  return 1;
}

/** The cases with these ids, in the dataset's order. Throws MaclError `dataset` naming every id that is not there. */
export function selectCases(dataset: Dataset, ids: readonly string[]): DatasetCase[] {
  const wanted = new Set(ids);
  const found = dataset.cases.filter(({ id }) => wanted.has(id));
  if (found.length < wanted.size) {
    for (const { id } of found) wanted.delete(id);
    const words = `${dataset.root}: cases: not in the dataset: ${[...wanted].join(', ')}`;
    throw new MaclError('dataset', words, { file: dataset.root, field: 'cases', found: [...wanted] });
  }
  return found;
}
