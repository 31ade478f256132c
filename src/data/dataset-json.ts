/**
 * dataset.json of the Decathlon and of nnU-Net, read field by field: what is used is checked, what is not used is
 * ignored (both layouts carry much that is prose). Paths are not resolved here.
 */
import { basename } from 'node:path';
import { fileError, MaclError } from '../errors.js';
import { readTextFile } from './files.js';

export interface DatasetClass {
  /** What the label files hold. */
  value: number;
  name: string;
}

/** One training case as dataset.json names it. */
export interface Training {
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
  training: Training[];
  test: { path: string; field: string }[];
}

type Json = Record<string, unknown>;

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** {"0": "CT", "1": "PET"} → ['CT', 'PET']; numbered from 0 without a hole. */
function numberedNames(file: string, field: string, value: unknown): string[] | undefined {
  if (value === undefined) return undefined;
  if (Array.isArray(value) && value.length && value.every((name) => typeof name === 'string')) return value;
  if (!isObject(value)) throw fileError(file, field, 'expected an object such as {"0": "CT"}');
  const count = Object.keys(value).length;
  const names: string[] = [];
  for (let n = 0; n < count; n++) {
    const name = value[String(n)];
    if (typeof name !== 'string') throw fileError(file, `${field}["${n}"]`, 'expected a name');
    names.push(name);
  }
  if (!count) throw fileError(file, field, 'names no channel');
  return names;
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
  const labels: DatasetClass[] = [];
  let ignoreValue: number | undefined;
  for (const [key, item] of Object.entries(value)) {
    const field = `labels[${JSON.stringify(key)}]`;
    if (Array.isArray(item)) throw fileError(file, field, 'regions (a list of values) are not supported');
    const numbered = typeof item === 'string' && /^-?\d+$/.test(key);
    const entry = numbered
      ? { value: labelValue(file, field, key), name: item }
      : { value: labelValue(file, field, item), name: key };
    const twice = labels.find((other) => other.value === entry.value);
    if (twice) throw fileError(file, field, `the value ${entry.value} is ${twice.name}'s already`);
    if (entry.name === 'ignore' && !numbered) ignoreValue = entry.value;
    else labels.push(entry);
  }
  return { labels, ...(ignoreValue !== undefined && { ignoreValue }) };
}

function readTraining(file: string, value: unknown): Training[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw fileError(file, 'training', 'expected a list');
  const all = value.map((item: unknown, n): Training => {
    const field = `training[${n}]`;
    if (typeof item === 'string') return { id: idOf(item), image: item, field };
    if (!isObject(item) || typeof item.image !== 'string') throw fileError(file, `${field}.image`, 'expected a path');
    if (item.label !== undefined && typeof item.label !== 'string')
      throw fileError(file, `${field}.label`, 'expected a path');
    return { id: idOf(item.image), image: item.image, ...(item.label !== undefined && { label: item.label }), field };
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
function readNamedCases(file: string, value: unknown): Training[] {
  if (value === undefined) return [];
  if (!isObject(value)) throw fileError(file, 'dataset', 'expected an object');
  return Object.entries(value).map(([id, item]): Training => {
    checkId(file, id);
    const field = `dataset[${JSON.stringify(id)}]`;
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

function readTest(value: unknown): DatasetJson['test'] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((item: unknown, n) => {
    const path = isObject(item) ? item.image : item;
    return typeof path === 'string' ? [{ path, field: `test[${n}]` }] : [];
  });
}

function nameOf(path: string): string {
  return basename(path.replaceAll('\\', '/'));
}

function idOf(path: string): string {
  return nameOf(path).replace(/\.nii(\.gz)?$/, '');
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
  const ending = root.file_ending;
  if (ending !== undefined && ending !== '.nii' && ending !== '.nii.gz') {
    throw fileError(file, 'file_ending', `expected .nii or .nii.gz, found ${JSON.stringify(ending)}`);
  }
  const channelNames = numberedNames(file, 'channel_names', root.channel_names);
  const modality = numberedNames(file, 'modality', root.modality);
  return {
    file,
    ...(typeof root.name === 'string' && root.name && { name: root.name }),
    ...(channelNames && { channelNames }),
    ...(modality && { modality }),
    ...readLabels(file, root.labels),
    ...(ending !== undefined && { fileEnding: ending }),
    training: [...readTraining(file, root.training), ...readNamedCases(file, root.dataset)],
    test: readTest(root.test),
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
  if (classes.length > 255)
    throw fileError(json.file, 'labels', `${classes.length} classes, at most 255 are supported`);
  return { classes, ...ignore };
}
