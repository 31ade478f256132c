/**
 * Images and masks of a folder without a list: which mask belongs to which image, what the cases are called, whose they
 * are. By names and folders, never by position; what fits nothing, or more than one, is left out by name. No files.
 */
import { compareText, composed, isRoleFolder, NIFTI, patientOf, sharedKey, type SplitName, splitOf } from './names.js';

export interface Volume {
  path: string;
  /** Within the root, '/' between names. */
  name: string;
}

export interface Pairing<T extends Volume> {
  /** Image → its mask. */
  masks: Map<T, T>;
  /** Masks without an image, and masks of an image that has several. */
  alone: T[];
  several: T[];
}

/** What a mask and its image have in common; the first that finds exactly one of each decides. */
type Key<T> = (volume: T) => string | undefined;

const folderOf = (name: string): string => name.slice(0, Math.max(0, name.lastIndexOf('/')));

/** Folders of a path that say more than image, mask, or what the volume is for. */
const foldersOf = (name: string): string[] =>
  composed(folderOf(name))
    .split('/')
    .filter((part) => part !== '' && !isRoleFolder(part) && splitOf(part) === undefined);

/** What the folders of a path say that the volume is for; the innermost decides. */
export function splitOfPath(name: string): SplitName | undefined {
  return folderOf(name)
    .split('/')
    .reverse()
    .map(splitOf)
    .find((split) => split !== undefined);
}

/** The folders that all paths begin with: what they are called says nothing of one volume among others. */
export function commonFolders(names: readonly string[]): number {
  const [first = [], ...rest] = names.map((name) => folderOf(name).split('/').filter(Boolean));
  return rest.reduce((depth, parts) => {
    let same = 0;
    while (same < Math.min(depth, parts.length) && parts[same] === first[same]) same++;
    return same;
  }, first.length);
}

/** How many folders all paths begin with: an archive's own folder says nothing of patients. */
function commonDepth(names: readonly string[]): number {
  const [first = [], ...rest] = names.map(foldersOf);
  let depth = first.length;
  for (const parts of rest) {
    let same = 0;
    while (same < Math.min(depth, parts.length) && parts[same] === first[same]) same++;
    depth = same;
  }
  return depth;
}

const byNames: Key<Volume> = ({ name }) => sharedKey(composed(name)) || undefined;
const byFolder: Key<Volume> = ({ name }) => folderOf(name);
const byPatientFolder: Key<Volume> = ({ name }) => foldersOf(name).join('/') || undefined;

/**
 * Pairs by each key in turn: an image and a mask are a pair where a key has this one image and this one mask, so that a
 * leftover never meets a leftover by chance.
 */
export function pair<T extends Volume>(images: readonly T[], masks: readonly T[], keys: readonly Key<T>[]): Pairing<T> {
  const found = new Map<T, T>();
  const settled = new Set<T>();
  const several: T[] = [];
  for (const key of keys) {
    const groups = new Map<string, { images: T[]; masks: T[] }>();
    for (const [list, volumes] of [
      ['images', images],
      ['masks', masks],
    ] as const)
      for (const volume of volumes) {
        const text = key(volume);
        if (text === undefined) continue;
        const group = groups.get(text) ?? { images: [], masks: [] };
        groups.set(text, group);
        group[list].push(volume);
      }
    for (const group of groups.values()) {
      const open = group.masks.filter((mask) => !settled.has(mask));
      if (group.images.length !== 1 || !open.length) continue;
      const [image] = group.images as [T];
      if (group.masks.length === 1 && !found.has(image)) found.set(image, open[0]!);
      else several.push(...open);
      for (const mask of open) settled.add(mask);
    }
  }
  return { masks: found, alone: masks.filter((mask) => !settled.has(mask)), several };
}

/** For folders as people make them: equal but for the words of image and mask, alone in a folder, alone of a patient. */
export function pairByNames<T extends Volume>(images: readonly T[], masks: readonly T[]): Pairing<T> {
  const depth = commonDepth([...images, ...masks].map(({ name }) => name));
  const byPatient: Key<T> = ({ name }) =>
    foldersOf(name).find((part) => /^sub-[A-Za-z0-9]+$/.test(part)) ?? foldersOf(name)[depth];
  return pair(images, masks, [byNames, byFolder, byPatientFolder, byPatient]);
}

/**
 * For each path its case's id and whose it is: the folder of a patient, or what the name tells. An id is a part of file
 * names: folders are joined by '_'. `alone`: the only image of its folder is called by it.
 */
export function nameCases(names: readonly string[]): { id: string; group: string }[] {
  const depth = commonDepth(names);
  const splits = new Set(names.map(splitOfPath));
  const perFolder = new Map<string, number>();
  for (const name of names) perFolder.set(folderOf(name), (perFolder.get(folderOf(name)) ?? 0) + 1);
  return names.map((name) => {
    const folders = foldersOf(name).slice(depth);
    const stem = composed(name.slice(folderOf(name) === '' ? 0 : folderOf(name).length + 1)).replace(NIFTI, '');
    const alone = folders.length > 0 && perFolder.get(folderOf(name)) === 1;
    const id = [...folders, ...(alone ? [] : [stem])].join('_');
    const patient = folders[0] ?? patientOf(id);
    if (splits.size < 2) return { id, group: patient };
    // Folders of one split may number their patients anew.
    const split = splitOfPath(name) ?? 'other';
    return { id: `${split}_${id}`, group: `${split}/${patient}` };
  });
}

export const sortByName = <T extends Volume>(volumes: readonly T[]): T[] =>
  [...volumes].sort((a, b) => compareText(a.name, b.name));
