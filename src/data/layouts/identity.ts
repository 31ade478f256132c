/**
 * Whose file is whose: no file is an image and a mask, no volume is trained on and tested, no image is two cases, whatever
 * names and links say. What a list states and cannot be is refused; the rest is resolved and said. Copies that share no
 * inode are found by their voxels (`fingerprint.ts`). Node only.
 */
import { stat } from 'node:fs/promises';
import { MaclError } from '../../errors.js';
import { asFileError, inOrder, systemCode } from '../files.js';
import { type DatasetFolder } from './folder.js';
import { compareText, counted, shownNames } from './names.js';
import { type ListedCase, type Listing } from './types.js';

/** The same text for the same file, by whichever name or link; undefined where there is none. */
async function fileKeys(paths: readonly string[]): Promise<Map<string, string>> {
  const keys = new Map<string, string>();
  const key = async (path: string): Promise<void> => {
    try {
      const { dev, ino } = await stat(path, { bigint: true });
      keys.set(path, `${dev}:${ino}`);
    } catch (error) {
      // What is missing, or a link that leads nowhere, is reported where it is read.
      if (!['ENOENT', 'ENOTDIR', 'ELOOP', 'EACCES'].includes(systemCode(error) ?? ''))
        throw asFileError(error, path, 'open');
    }
  };
  await inOrder([...new Set(paths)], key);
  return keys;
}

/** The cases without those that are another's twin or a test's volume. Throws MaclError `dataset`. */
export async function settleIdentity(listing: Listing, folder: DatasetFolder): Promise<ListedCase[]> {
  const { source } = listing;
  const cases = [...listing.cases].sort((a, b) => compareText(a.id, b.id));
  const files = cases.flatMap(({ images, label }) => (label === undefined ? images : [...images, label]));
  const keys = await fileKeys([...files, ...listing.tests.map(({ path }) => path)]);
  const keysOf = (item: ListedCase): string[] => item.images.flatMap((path) => keys.get(path) ?? []);
  const fail = (words: string, file: string, field?: string): MaclError =>
    new MaclError('dataset', `${source}: ${field === undefined ? '' : `${field}: `}${words}`, {
      file: source,
      field: field ?? 'cases',
      found: file,
    });
  const show = (path: string): string => folder.shown(path);

  const tests = new Map(listing.tests.flatMap((test) => (keys.has(test.path) ? [[keys.get(test.path)!, test]] : [])));
  const tested: string[] = [];
  const untested = cases.filter((item) => {
    const test = keysOf(item).flatMap((key) => tests.get(key) ?? [])[0];
    if (!test) return true;
    if (item.field !== undefined || item.role === 'validation') {
      const where = test.field ?? show(test.path);
      throw fail(`case ${item.id} is in ${item.role} and is tested: ${item.field} and ${where}`, test.path, item.field);
    }
    tested.push(item.id);
    return false;
  });
  if (tested.length)
    folder.notes.push(`${counted(tested.length, 'case')} for testing, never trained on: ${shownNames(tested)}`);

  const images = new Map<string, ListedCase>();
  const twins: string[] = [];
  const kept = new Set(untested);
  const byRank = [...untested].sort((a, b) => rank(a) - rank(b) || compareText(a.id, b.id));
  for (const item of byRank) {
    const own = keysOf(item);
    if (new Set(own).size < own.length)
      throw fail(
        `case ${item.id}: two channels are one file: ${item.images.map(show).join(', ')}`,
        item.images[0]!,
        item.field,
      );
    const other = own.flatMap((key) => images.get(key) ?? [])[0];
    if (other) {
      const words = `cases ${other.id} and ${item.id} are one file: ${show(other.images[0]!)} and ${show(item.images[0]!)}`;
      const [first, second] = [other, item].map(({ label }) => label && keys.get(label));
      const whole = keysOf(other).join() === own.join();
      if (!whole || (other.role !== item.role && other.role !== 'unlisted' && item.role !== 'unlisted'))
        throw fail(words, item.images[0]!, item.field);
      if (first !== undefined && second !== undefined && first !== second)
        throw fail(`${words}, with different labels`, item.images[0]!, item.field);
      twins.push(`${item.id} (${other.id})`);
      kept.delete(item);
      continue;
    }
    for (const key of own) images.set(key, item);
  }
  if (twins.length)
    folder.notes.push(`${counted(twins.length, 'case')} left out, the same file as another: ${shownNames(twins)}`);

  const labels = new Map<string, ListedCase[]>();
  for (const item of untested) {
    const key = item.label === undefined ? undefined : keys.get(item.label);
    if (key === undefined || !kept.has(item)) continue;
    const image = images.get(key);
    if (image)
      throw fail(
        `${show(item.label!)} is the label of case ${item.id} and an image of case ${image.id}`,
        item.label!,
        item.field ?? image.field,
      );
    const sharing = labels.get(key);
    if (sharing) sharing.push(item);
    else labels.set(key, [item]);
  }
  for (const sharing of labels.values()) if (sharing.length > 1) oneGroup(sharing, cases, folder, fail);
  const settled = untested.filter((item) => kept.has(item));
  const groups = (role: ListedCase['role']): Set<string> =>
    new Set(settled.filter((item) => item.role === role).map(({ group }) => group));
  const trained = groups('training');
  const both = [...groups('validation')].filter((group) => trained.has(group));
  if (both.length)
    folder.notes.push(
      `${source}: ${counted(both.length, 'patient')} in training and in validation: ${shownNames(both)}`,
    );
  return settled;
}

/** Of twins the one that a list names stays, then the one with a label. */
function rank({ role, label }: ListedCase): number {
  return (role === 'unlisted' ? 2 : 0) + (label === undefined ? 1 : 0);
}

/** Images that share a mask are of one patient. */
function oneGroup(
  sharing: readonly ListedCase[],
  cases: readonly ListedCase[],
  folder: DatasetFolder,
  fail: (words: string, file: string, field?: string) => MaclError,
): void {
  const ids = shownNames(sharing.map(({ id }) => id));
  const label = sharing[0]!.label!;
  const roles = new Set(sharing.map(({ role }) => role));
  if (roles.has('training') && roles.has('validation'))
    throw fail(`one label for cases in training and validation: ${folder.shown(label)} of ${ids}`, label);
  const groups = new Set(sharing.map(({ group }) => group));
  const [group] = [...groups].sort(compareText) as [string];
  for (const item of cases) if (groups.has(item.group)) item.group = group;
  folder.notes.push(`cases ${ids} share the label ${folder.shown(label)}: no split parts them`);
}
