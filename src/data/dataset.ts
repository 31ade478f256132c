/**
 * What a dataset on disk contains: cases with their image and label files, channels, classes. How it is laid out is for
 * the files of `layouts/` to know; here they are tried, and what they find is made one dataset in which no file has two
 * roles. It reads names and at most one header; voxels are read by `prepare.ts`. Node only.
 */
import { stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type ChannelKind } from '../settings/fingerprint.js';
import { MaclError } from '../errors.js';
import { type DatasetClass } from './layouts/dataset-json.js';
import { asFileError } from './files.js';
import { DatasetFolder, namesIn } from './layouts/folder.js';
import { settleIdentity } from './layouts/identity.js';
import { LAYOUTS } from './layouts/index.js';
import { counted, isClutter, NIFTI, shownNames } from './layouts/names.js';
import { isRaw } from './layouts/raw.js';
import { TABLE } from './layouts/table.js';
import { type CaseRole, type LayoutName, type Listing } from './layouts/types.js';
import { nothingFits } from './layouts/unknown.js';
import { readNiftiHeader } from './nifti/index.js';
import { realRoot } from './paths.js';

export type { DatasetClass } from './layouts/dataset-json.js';
export { caseId } from './layouts/names.js';

export interface DatasetCase {
  id: string;
  /** One file a channel (nnU-Net), or one file with all channels. Absolute paths. */
  images: string[];
  label?: string;
  /** Image files that should be there and are not. */
  missing: string[];
  /** A label file that a list names and that is not there. */
  missingLabel?: string;
  /** What the dataset's own lists say that it is for. */
  role: CaseRole;
  /** The patient: cases of one group are never parted by a split. */
  group: string;
}

export interface Dataset {
  /** The root, links resolved. */
  root: string;
  name: string;
  layout: LayoutName;
  channels: number;
  /** As dataset.json names them: 'CT', 'MRI', 'T1', …; 'image' where nothing does. */
  channelNames: string[];
  /** How a channel is normalised: see `normalize.ts`. */
  kinds: ChannelKind[];
  /** Background first, then by value; empty where nothing names them. `value` is what the label files hold. */
  classes: DatasetClass[];
  /** The label value that counts nowhere (nnU-Net's "ignore"), stored as 255. */
  ignoreValue?: number;
  /** Sorted by id. */
  cases: DatasetCase[];
  /** Things worth saying: cases without label, files that were not taken. */
  notes: string[];
  /** Files that were not taken (within the root), and why. */
  notTaken: { path: string; why: string }[];
}

export interface OpenDatasetOptions {
  /** Links may lead out of the dataset. */
  followLinks?: boolean;
  /** Patterns of image files within the folder, one a channel. */
  imageGlobs?: readonly string[];
  /** Pattern of label files within the folder. */
  labelGlob?: string;
  signal?: AbortSignal;
}

/** A folder, or a table of cases and the folder that it lies in. */
async function openFolder(path: string, options: OpenDatasetOptions): Promise<DatasetFolder> {
  const real = await realRoot(path);
  const info = await stat(real).catch((error: unknown) => {
    throw asFileError(error, path, 'open');
  });
  const followLinks = options.followLinks ?? false;
  if (info.isDirectory()) return new DatasetFolder(await innerFolder(real, options), followLinks);
  if (!TABLE.test(real) || options.imageGlobs || options.labelGlob !== undefined) {
    const words = `${path}: data: expected a folder, or a table of cases (.csv, .tsv) without patterns`;
    throw new MaclError('dataset', words, { file: path, field: 'data' });
  }
  return new DatasetFolder(dirname(real), followLinks, real);
}

/** The only folder of a folder, where it is a dataset by its names: archives unpack so. */
async function innerFolder(root: string, { imageGlobs, labelGlob }: OpenDatasetOptions): Promise<string> {
  if (imageGlobs || labelGlob !== undefined || (await isRaw(root))) return root;
  const entries = (await namesIn(root)).filter(({ name }) => !isClutter(name));
  const folders = entries.filter((entry) => entry.isDirectory());
  if (folders.length !== 1 || entries.some(({ name }) => NIFTI.test(name))) return root;
  const inner = join(root, folders[0]!.name);
  return (await isRaw(inner)) ? inner : root;
}

/** Opens a dataset. Throws MaclError `dataset` or `file`; missing files are noted in the cases, for `prepare`. */
export async function openDataset(root: string, options: OpenDatasetOptions = {}): Promise<Dataset> {
  const folder = await openFolder(root, options);
  const listing = await list(folder, options);
  if (!listing.cases.length && !listing.tests.some(({ field }) => field !== undefined)) throw nothingFits(folder);
  const settled = await settleIdentity(listing, folder);
  if (!settled.length) {
    const words = `${listing.source}: cases: every one is a file of the test list or of imagesTs, none is left to train on`;
    throw new MaclError('dataset', words, { file: listing.source, field: 'cases' });
  }
  const cases = settled.map(({ field: _, ...item }): DatasetCase => item);
  describeCases(listing, cases, folder);
  const { name, channelNames, classes, ignoreValue, layout } = listing;
  const names = channelNames ?? Array<string>(await countChannels(cases, options.signal)).fill('image');
  folder.notes.push(...describeOrders(names));
  return {
    root: folder.root,
    name: name ?? basename(folder.root),
    layout,
    channels: names.length,
    channelNames: names,
    kinds: names.map(kindOf),
    classes,
    ...(ignoreValue !== undefined && { ignoreValue }),
    cases,
    notes: [...folder.notes, ...folder.notTakenNotes()],
    notTaken: folder.notTaken(),
  };
}

async function list(folder: DatasetFolder, options: OpenDatasetOptions): Promise<Listing> {
  for (const layout of LAYOUTS) if (await layout.recognise(folder, options)) return layout.list(folder, options);
  throw nothingFits(folder);
}

/** A line for each thing that some cases lack, and for each role that is not to be trained on. */
function describeCases({ source }: Listing, cases: readonly DatasetCase[], folder: DatasetFolder): void {
  const { notes } = folder;
  for (const { id, missing, missingLabel } of cases) {
    for (const path of missing) notes.push(`case ${id}: ${folder.shown(path)} is missing`);
    if (missingLabel !== undefined) notes.push(`case ${id}: ${folder.shown(missingLabel)} is missing`);
  }
  const say = (of: readonly DatasetCase[], what: string): void => {
    if (of.length) notes.push(`${counted(of.length, 'case')} ${what}: ${shownNames(of.map(({ id }) => id))}`);
  };
  const bare = cases.filter(({ label, missingLabel }) => label === undefined && missingLabel === undefined);
  if (bare.length < cases.length) say(bare, `of ${cases.length} without label`);
  say(
    cases.filter(({ role }) => role === 'validation'),
    `for validation (${basename(source)}), never trained on`,
  );
  say(
    cases.filter(({ role }) => role === 'unlisted'),
    `outside the training list of ${basename(source)} (pre-training takes the images, fine-tuning does not)`,
  );
}

/** Channel names that are orders of nnU-Net how to normalise, and what they come to here. */
const ORDERS: Readonly<Record<string, { kind: ChannelKind; words: string }>> = {
  nonorm: { kind: 'none', words: 'left as it is (none)' },
  zscore: { kind: 'case', words: 'scaled by mean and deviation of its voxels that are not zero (case)' },
  rescale_to_0_1: { kind: 'unit', words: 'scaled to 0 … 1 case by case (unit)' },
  rescale_0_1: { kind: 'unit', words: 'scaled to 0 … 1 case by case (unit)' },
  rgb_to_0_1: { kind: 'other', words: 'not divided by 255 but normalised as any other' },
};

const orderOf = (name: string) => {
  const key = name.trim().toLowerCase();
  return Object.hasOwn(ORDERS, key) ? ORDERS[key] : undefined;
};

const kindOf = (name: string): ChannelKind => orderOf(name)?.kind ?? (/^ct\b/i.test(name.trim()) ? 'ct' : 'other');

/** What the orders come to is said: nnU-Net has them by name alone, which is easily given for another reason. */
function describeOrders(names: readonly string[]): string[] {
  return names.flatMap((name, n) => {
    const order = orderOf(name);
    return order ? [`channel ${n} is called ${name}: ${order.words}; data.normalize overrides it`] : [];
  });
}

/** Channels of the first case that can be read, where nothing says how many there are. */
async function countChannels(cases: readonly DatasetCase[], signal: AbortSignal | undefined): Promise<number> {
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
    const words = `${dataset.root}: cases: not in the dataset: ${shownNames([...wanted])}`;
    throw new MaclError('dataset', words, { file: dataset.root, field: 'cases', found: [...wanted] });
  }
  return found;
}
