/**
 * What the voxels of a dataset's cases say that its lists do not: images that are there twice, images that look like
 * masks, labels without foreground, classes that never occur. Words for people; no files.
 */
import { MaclError } from '../errors.js';
import { type Dataset } from './dataset.js';
import { type Fingerprint } from './fingerprint.js';
import { counted, shownNames } from './layouts/names.js';

/** Cases of equal voxels, each list sorted. */
export function twinsOf(found: Fingerprint): string[][] {
  const cases = new Map<string, string[]>();
  for (const { id, digest } of found.voxels) {
    if (digest === null) continue;
    const ids = cases.get(digest);
    if (ids) ids.push(id);
    else cases.set(digest, [id]);
  }
  return [...cases.values()].filter((ids) => ids.length > 1);
}

/** Lines on images: twins, and what may be no image. */
export function imageFindings(found: Fingerprint): string[] {
  const lines = twinsOf(found).map((ids) => `cases ${shownNames(ids)} hold the same image`);
  const few = found.voxels.filter(({ fewValues }) => fewValues !== null);
  if (few.length) {
    const ids = shownNames(few.map(({ id, fewValues }) => `${id} (${fewValues!.join(', ')})`));
    lines.push(
      `${counted(few.length, 'image')} with a few whole values only, as masks have (--label-glob says which files are masks): ${ids}`,
    );
  }
  return lines;
}

/** Cases whose labels were looked at, and the voxels of each value in them. */
function countLabels(found: Fingerprint, ids: Iterable<string>): { cases: number; voxels: Map<number, number> } {
  const wanted = new Set(ids);
  const voxels = new Map<number, number>();
  let cases = 0;
  for (const { id, labelVoxels } of found.cases) {
    if (labelVoxels === null || !wanted.has(id)) continue;
    cases++;
    for (const [value, count] of Object.entries(labelVoxels))
      voxels.set(Number(value), (voxels.get(Number(value)) ?? 0) + count);
  }
  return { cases, voxels };
}

/** Lines on the labels of some cases (those that are trained on): no foreground at all, classes without a voxel. */
export function labelFindings(found: Fingerprint, ids: Iterable<string>): string[] {
  const { cases, voxels } = countLabels(found, ids);
  if (!cases) return [];
  const those = `the ${counted(cases, 'labelled case')}`;
  if (!found.classes.some(({ value }) => voxels.get(value))) return [`every voxel of ${those} is to be ignored`];
  const [background, ...classes] = found.classes;
  const absent = classes.filter(({ value }) => !voxels.get(value));
  if (absent.length === classes.length)
    return [`none of ${those} holds any foreground: every voxel is ${background?.name ?? 'background'}`];
  if (!absent.length) return [];
  const names = absent.map(({ value, name }) => (name === String(value) ? name : `${value} (${name})`));
  return [`${absent.length === 1 ? 'class' : 'classes'} ${shownNames(names)} without a voxel in ${those}`];
}

/** Throws MaclError `label` where not a single voxel of these cases counts: nothing could be learnt from them. */
export function checkSomethingCounts(found: Fingerprint, dataset: Dataset, ids: Iterable<string>): void {
  const { cases, voxels } = countLabels(found, ids);
  if (!cases || found.classes.some(({ value }) => voxels.get(value))) return;
  const words = `${dataset.root}: labels: every voxel of the ${counted(cases, 'training case')} is ${dataset.ignoreValue}, which is to be ignored`;
  throw new MaclError('label', words, { file: dataset.root, field: 'labels', found: dataset.ignoreValue });
}
