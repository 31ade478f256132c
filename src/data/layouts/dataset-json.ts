/**
 * dataset.json of the Decathlon and of nnU-Net, read field by field: what is used is checked, what would change a
 * training and is not followed is named, and prose is left alone. Paths are not resolved here.
 */
import { fileError, MaclError } from '../../errors.js';
import { readTextFile } from '../files.js';
import { caseId, CHANNEL, counted, nameOf, shownNames } from './names.js';

export interface DatasetClass {
  /** What the label files hold. */
  value: number;
  name: string;
}

/** One case as a list of dataset.json names it. */
export interface JsonCase {
  id: string;
  image: string;
  /** One file a channel, where they are named one by one (nnU-Net's "dataset"). */
  images?: string[];
  label?: string;
  /** Where in the file, for errors. */
  field: string;
}

export interface DatasetJson {
  file: string;
  name?: string;
  /** nnU-Net's: a file a channel. */
  channelNames?: string[];
  /** The Decathlon's: channels of one file. */
  modality?: string[];
  labels?: DatasetClass[];
  ignoreValue?: number;
  fileEnding?: string;
  training: JsonCase[];
  validation: JsonCase[];
  test: JsonCase[];
  /** How many cases the file says there are. */
  numTraining?: number;
  /** What stands there and is not followed. */
  notes: string[];
}

/** As many channels as a configuration may have. */
const MAX_CHANNELS = 1024;
/** As many classes as a label of eight bits can tell apart, without the one that counts nowhere. */
const MAX_CLASSES = 255;

/** The lists of cases, and other names that they go by. */
const LISTS = {
  training: ['training', 'train'],
  validation: ['validation', 'val', 'valid'],
  test: ['test', 'testing'],
} as const;

/** Keys that are followed, or that say nothing about how to train. */
const KNOWN = new Set<string>([
  ...Object.values(LISTS).flat(),
  ...[
    'name',
    'channel_names',
    'modality',
    'labels',
    'file_ending',
    'dataset',
    'numTraining',
    'numTest',
    'numValidation',
  ],
  ...['tensorImageSize', 'regions_class_order'],
]);
/** Keys that nnU-Net and others act on. */
const ACTED_ON = /norm|reader|spacing|orient|split|fold|exclu|ignore|skip|weight|group|patient/i;

type Json = Record<string, unknown>;

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const isWhole = (text: string): boolean => /^\d+$/.test(text);

/** {"0": "CT", "1": "PET"} or {"CT": 0, "PET": 1} → ['CT', 'PET']; numbered from 0 without a hole. */
function numberedNames(file: string, field: string, value: unknown): string[] | undefined {
  if (value === undefined) return undefined;
  const isList = Array.isArray(value) && value.every((name) => typeof name === 'string');
  if (!isList && !isObject(value)) throw fileError(file, field, 'expected an object such as {"0": "CT"}');
  const entries = Object.entries(value as object);
  const count = entries.length;
  if (!count) throw fileError(file, field, 'names no channel');
  if (count > MAX_CHANNELS) throw fileError(file, field, `${count} channels, at most ${MAX_CHANNELS} are supported`);
  const names: (string | undefined)[] = Array<undefined>(count).fill(undefined);
  // The labels of nnU-Net's second version are written the other way round, and so are channels in places.
  const reversed = entries.every(([key, item]) => !isWhole(key) && isWhole(String(item)));
  for (const [key, item] of entries) {
    const [at, name] = reversed ? [Number(item), key] : [Number(key), item as unknown];
    if (typeof name !== 'string' || name.trim() === '')
      throw fileError(file, `${field}[${JSON.stringify(key)}]`, `expected a name, found ${JSON.stringify(item)}`);
    if (at < count) names[at] = name;
  }
  const hole = names.indexOf(undefined);
  if (hole >= 0)
    throw fileError(file, `${field}["${hole}"]`, `expected a name: ${counted(count, 'channel')}, numbered from 0`);
  return names as string[];
}

function labelValue(file: string, field: string, value: unknown): number {
  const number = typeof value === 'string' && /^-?\d+$/.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isSafeInteger(number)) {
    throw fileError(file, field, `expected a whole number, found ${JSON.stringify(value)}`);
  }
  return number;
}

/** {"0": "background", "1": "a"} (the Decathlon) or {"background": 0, "a": 1} (nnU-Net). */
function readLabels(file: string, value: unknown): Pick<DatasetJson, 'labels' | 'ignoreValue'> {
  if (value === undefined) return {};
  if (!isObject(value)) throw fileError(file, 'labels', 'expected an object');
  const entries = Object.entries(value);
  if (entries.length > MAX_CLASSES + 1)
    throw fileError(file, 'labels', `${entries.length} classes, at most ${MAX_CLASSES} are supported`);
  const labels: DatasetClass[] = [];
  const names = new Map<number, string>();
  let ignoreValue: number | undefined;
  for (const [key, item] of entries) {
    const field = `labels[${JSON.stringify(key)}]`;
    if (Array.isArray(item)) {
      const words = `${file}: ${field}: regions (a list of values) are not supported`;
      throw new MaclError('file', words, { file, field, expected: 'a whole number', found: item });
    }
    const numbered = typeof item === 'string' && /^-?\d+$/.test(key);
    const entry = numbered
      ? { value: labelValue(file, field, key), name: item }
      : { value: labelValue(file, field, item), name: key };
    const twice = names.get(entry.value);
    if (twice !== undefined) throw fileError(file, field, `the value ${entry.value} is ${twice}'s already`);
    names.set(entry.value, entry.name);
    if (entry.name === 'ignore' && !numbered) ignoreValue = entry.value;
    else labels.push(entry);
  }
  return { labels, ...(ignoreValue !== undefined && { ignoreValue }) };
}

/** The id of a case by its files: of several what they share where they are its channels (a_0000, a_0001). */
function idOf(images: readonly string[]): string {
  const ids = images.map(caseId);
  const stems = new Set(ids.map((id) => (CHANNEL.test(id) ? id.replace(CHANNEL, '') : undefined)));
  const [stem] = [...stems];
  return images.length > 1 && stems.size === 1 && stem !== undefined ? stem : ids[0]!;
}

/** A list of cases: a path each, or an object with image (several: a file a channel) and label. */
function readCases(file: string, name: string, value: unknown): JsonCase[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw fileError(file, name, 'expected a list');
  const all = value.map((item: unknown, n): JsonCase => {
    const field = `${name}[${n}]`;
    if (typeof item === 'string') return { id: caseId(item), image: item, field };
    const image: unknown = isObject(item) ? item.image : undefined;
    const images = Array.isArray(image) ? (image as unknown[]) : [image];
    if (!isObject(item) || !images.length || !images.every((path) => typeof path === 'string'))
      throw fileError(file, `${field}.image`, 'expected a path');
    if (item.label !== undefined && item.label !== null && typeof item.label !== 'string')
      throw fileError(file, `${field}.label`, 'expected a path');
    return {
      id: idOf(images),
      image: images[0]!,
      ...(images.length > 1 && { images }),
      ...(typeof item.label === 'string' && { label: item.label }),
      field,
    };
  });
  // The Decathlon's own files list dot files of macOS in places.
  return all.filter(({ image }) => !nameOf(image).startsWith('.'));
}

/** An id becomes a part of file names: nothing in it may lead to another folder, or hide the file. */
function checkId(file: string, id: string): void {
  const odd = ['/', '\\', '\0'].find((char) => id.includes(char));
  if (id !== '' && !id.startsWith('.') && odd === undefined) return;
  const why = id === '' ? 'is empty' : odd === undefined ? 'begins with a dot' : `holds ${JSON.stringify(odd)}`;
  const field = `dataset[${JSON.stringify(id)}]`;
  throw new MaclError('dataset', `${file}: ${field}: ${why}; expected the name of a case`, { file, field, found: id });
}

/** nnU-Net's {"dataset": {"case": {"images": [...], "label": "..."}}}. */
function readNamedCases(file: string, value: unknown): JsonCase[] {
  if (value === undefined) return [];
  if (!isObject(value)) throw fileError(file, 'dataset', 'expected an object');
  return Object.entries(value).map(([key, item]): JsonCase => {
    checkId(file, key);
    const id = key.normalize('NFC');
    const field = `dataset[${JSON.stringify(key)}]`;
    if (!isObject(item) || !Array.isArray(item.images) || !item.images.length) {
      throw fileError(file, `${field}.images`, 'expected a list of paths');
    }
    const images = item.images.map((path: unknown, n) => {
      if (typeof path !== 'string') throw fileError(file, `${field}.images[${n}]`, 'expected a path');
      return path;
    });
    if (item.label !== undefined && typeof item.label !== 'string')
      throw fileError(file, `${field}.label`, 'expected a path');
    return { id, image: images[0]!, images, ...(item.label !== undefined && { label: item.label }), field };
  });
}

/** What stands in the file and is not followed though it may be meant to change a training. */
function unfollowed(root: Json, training: unknown): string[] {
  const notes: string[] = [];
  const keys = Object.keys(root).filter((key) => {
    if (KNOWN.has(key)) return false;
    const value = root[key];
    const lists = Array.isArray(value) && value.some((item) => typeof item === 'string' || isObject(item));
    return ACTED_ON.test(key) || lists;
  });
  if (keys.length) notes.push(`dataset.json: not followed: ${shownNames(keys.map((key) => JSON.stringify(key)))}`);
  const inCases = new Set<string>();
  for (const item of Array.isArray(training) ? (training as unknown[]) : [])
    if (isObject(item))
      for (const key of Object.keys(item)) if (key !== 'image' && key !== 'label') inCases.add(JSON.stringify(key));
  if (inCases.size) notes.push(`dataset.json: not followed in the entries of training: ${shownNames([...inCases])}`);
  const { labels } = root;
  const ignore = isObject(labels)
    ? Object.entries(labels).find(([key, name]) => isWhole(key) && String(name).toLowerCase() === 'ignore')
    : undefined;
  if (ignore)
    notes.push(
      `dataset.json: labels["${ignore[0]}"] is a class called ${String(ignore[1])} here; what counts nowhere is written {"ignore": ${ignore[0]}}`,
    );
  return notes;
}

/** The list of a role, under whichever of its names. */
function listOf(file: string, root: Json, role: keyof typeof LISTS): JsonCase[] {
  return LISTS[role].flatMap((name) => readCases(file, name, root[name]));
}

/** A number of cases that the file states has to be the list's: what was taken out of one stands in the other. */
function countNotes(root: Json, role: string, key: string, listed: number): string[] {
  const stated = root[key];
  if (typeof stated !== 'number' || listed === 0 || stated === listed) return [];
  return [`dataset.json: ${key} is ${stated}, but ${role} names ${listed}; the list is followed`];
}

/** Reads dataset.json. Throws MaclError `file` (`dataset` for an id that is no name) with the field. */
export async function readDatasetJson(file: string): Promise<DatasetJson> {
  let root: unknown;
  const text = await readTextFile(file);
  try {
    root = JSON.parse(text.replace(/^\ufeff/, ''));
  } catch (cause) {
    throw fileError(file, 'JSON', (cause as Error).message, cause);
  }
  if (!isObject(root)) throw fileError(file, 'JSON', 'expected an object');
  const ending = typeof root.file_ending === 'string' ? root.file_ending.toLowerCase() : root.file_ending;
  if (ending !== undefined && ending !== '.nii' && ending !== '.nii.gz') {
    throw fileError(file, 'file_ending', `expected .nii or .nii.gz, found ${JSON.stringify(root.file_ending)}`);
  }
  const channelNames = numberedNames(file, 'channel_names', root.channel_names);
  const modality = numberedNames(file, 'modality', root.modality);
  const lists = {
    training: [...listOf(file, root, 'training'), ...readNamedCases(file, root.dataset)],
    validation: listOf(file, root, 'validation'),
    test: listOf(file, root, 'test'),
  };
  return {
    file,
    ...(typeof root.name === 'string' && root.name && { name: root.name }),
    ...(channelNames && { channelNames }),
    ...(modality && { modality }),
    ...readLabels(file, root.labels),
    ...(ending !== undefined && { fileEnding: ending }),
    ...(typeof root.numTraining === 'number' && { numTraining: root.numTraining }),
    ...lists,
    notes: [
      ...unfollowed(root, root.training),
      ...countNotes(root, 'training', 'numTraining', lists.training.length),
      ...countNotes(root, 'test', 'numTest', lists.test.length),
      ...(channelNames && modality && channelNames.join() !== modality.join()
        ? [
            `dataset.json: modality (${modality.join(', ')}) is not followed beside channel_names (${channelNames.join(', ')})`,
          ]
        : []),
    ],
  };
}

/** Channel names, or undefined where dataset.json has none. */
export function channelsOf(json: DatasetJson): string[] | undefined {
  return json.channelNames ?? json.modality;
}

/** Background first, then by value. A list without background (value 0, or the name) gets one. */
export function classesOf(json: DatasetJson): { classes: DatasetClass[]; ignoreValue?: number } {
  const ignore = json.ignoreValue === undefined ? {} : { ignoreValue: json.ignoreValue };
  if (!json.labels?.length) return { classes: [], ...ignore };
  const sorted = [...json.labels].sort((a, b) => a.value - b.value);
  const background =
    sorted.find(({ name }) => name.toLowerCase() === 'background') ?? sorted.find(({ value }) => value === 0);
  const rest = sorted.filter((entry) => entry !== background);
  const classes = [background ?? { value: 0, name: 'background' }, ...rest];
  if (classes.length > MAX_CLASSES)
    throw fileError(json.file, 'labels', `${classes.length} classes, at most ${MAX_CLASSES} are supported`);
  return { classes, ...ignore };
}
