/**
 * A folder without dataset.json or imagesTr: volumes in it, or a sub-folder a patient, by any names. Masks are known by
 * their names (seg, mask, label, gt …). Node only.
 */
import { MaclError } from '../../errors.js';
import { decideChannels, groupChannels } from './channels.js';
import { DICOM_NAME, leaveOutDicom } from './dicom.js';
import { type DatasetFolder } from './folder.js';
import { composed, counted, isRoleFolder, namesMask, NIFTI, sharedKey, shownNames } from './names.js';
import {
  commonFolders,
  nameCases,
  type Pairing,
  pairByNames,
  sortByName,
  splitOfPath,
  type Volume,
} from './pairing.js';
import { type Layout, type ListedCase } from './types.js';
import { nothingFits } from './unknown.js';

/** Endings of volumes in other formats: not read, and not to be passed over in silence. */
const OTHER_VOLUME = /\.(nrrd|nhdr|mha|mhd|mgz|mgh|hdr|img|npy|npz|h5|hdf5|png|jpe?g|tiff?)(\.gz)?$/i;

/** An image of one file or several, under the name that it is paired by. */
export interface ImageVolume extends Volume {
  images: string[];
  missing: string[];
}

export const patients: Layout = {
  recognise: (folder) => Promise.resolve(folder.file === undefined),
  async list(folder, { signal }) {
    const all = await niftiBelow(folder, signal);
    const { masks, files } = tellMasks(all.filter(({ name }) => splitOfPath(name) !== 'test'));
    const tests = all.filter(({ name }) => splitOfPath(name) === 'test');
    for (const { path } of tests) folder.leaveOut('in a folder for testing', path);
    if (!files.length) throw nothingFits(folder, masks);
    const { images, asChannels } = joinChannels(folder, files, masks);
    const cases = casesOf(folder, images, pairByNames<Volume>(images, masks));
    const isFlat = files.every(({ name }) => !name.includes('/'));
    return {
      layout: asChannels ? 'nnunet' : isFlat ? 'folder' : 'patients',
      source: folder.root,
      cases,
      tests: tests.filter(({ name }) => !namesMask(name)),
      classes: [],
    };
  },
};

/** Every NIfTI file below the root, sorted; other volumes are left out by name. */
export async function niftiBelow(folder: DatasetFolder, signal: AbortSignal | undefined): Promise<Volume[]> {
  const volumes: Volume[] = [];
  const maybeDicom: Volume[] = [];
  for (const file of await folder.walk(signal)) {
    if (NIFTI.test(file.name)) volumes.push({ ...file, name: composed(file.name) });
    else if (OTHER_VOLUME.test(file.name)) folder.leaveOut('no NIfTI file', file.path);
    else if (DICOM_NAME.test(file.name) || !/\.[A-Za-z]\w*$/.test(file.name)) maybeDicom.push(file);
  }
  await leaveOutDicom(folder, maybeDicom);
  return sortByName(volumes);
}

/** Masks by their names, and the others. What all paths begin with (a project's folder) says nothing of one of them. */
function tellMasks(volumes: readonly Volume[]): { masks: Volume[]; files: Volume[] } {
  const names = volumes.map(({ name }) => name);
  const parts = names[0]?.split('/').slice(0, commonFolders(names)) ?? [];
  const depth = parts.filter((part) => !isRoleFolder(part)).length === parts.length ? parts.length : 0;
  const isMask = ({ name }: Volume): boolean => namesMask(name.split('/').slice(depth).join('/'));
  return { masks: volumes.filter(isMask), files: volumes.filter((volume) => !isMask(volume)) };
}

const bare = (name: string): string => name.replace(NIFTI, '');

/** Files that are channels by their names, joined. */
function joinChannels(
  folder: DatasetFolder,
  files: readonly Volume[],
  masks: readonly Volume[],
): { images: ImageVolume[]; asChannels: boolean } {
  const found = files.map(({ path, name }) => ({ id: bare(name), path }));
  // A mask is called after the case: with the number, or without.
  const keys = new Set(masks.map(({ name }) => sharedKey(name)));
  const candidates = found.flatMap(({ id }) => [id, id.replace(/_\d{4}$/, '')]);
  const labels = [...new Set(candidates)].filter((id) => keys.has(sharedKey(id)));
  const { asChannels, note } = decideChannels(found, { listed: [], labels, count: undefined });
  if (note !== undefined) folder.notes.push(note);
  if (!asChannels) return { images: files.map((file) => ({ ...file, images: [file.path], missing: [] })), asChannels };
  const ending = NIFTI.exec(files[0]!.name)![0];
  const groups = groupChannels(found, undefined, { path: folder.root, ending });
  const images = groups.map(({ id, ...rest }) => ({ path: rest.images[0]!, name: `${id}${ending}`, ...rest }));
  return { images, asChannels };
}

/** Cases of images and their masks; what is paired with nothing, or with several, is left out by name. */
export function casesOf(folder: DatasetFolder, images: readonly ImageVolume[], paired: Pairing<Volume>): ListedCase[] {
  for (const { path } of paired.alone) folder.leaveOut('mask without image', path);
  for (const { path } of paired.several) folder.leaveOut('one of several masks of an image', path);
  const named = nameCases(images.map(({ name }) => name));
  const cases = new Map<string, ListedCase>();
  for (const [n, image] of images.entries()) {
    const { id, group } = named[n]!;
    const other = cases.get(id);
    if (other) {
      const words = `${folder.root}: case ${id} is there twice: ${folder.shown(other.images[0]!)} and ${folder.shown(image.path)}`;
      throw new MaclError('dataset', words, { file: image.path, field: id });
    }
    const label = paired.masks.get(image)?.path;
    const { images: files, missing } = image;
    const role = splitOfPath(image.name) === 'validation' ? 'validation' : 'training';
    cases.set(id, { id, role, group, images: files, missing, ...(label !== undefined && { label }) });
  }
  noteSeveral(folder, images, named);
  return [...cases.values()];
}

/** Several volumes of one patient may be channels: nothing says so, and then each is a case. */
function noteSeveral(folder: DatasetFolder, images: readonly Volume[], named: readonly { group: string }[]): void {
  const folders = new Map<string, string[]>();
  for (const [n, { name }] of images.entries()) {
    const at = name.lastIndexOf('/');
    if (at < 0 || !name.includes(named[n]!.group)) continue;
    const list = folders.get(name.slice(0, at)) ?? [];
    folders.set(name.slice(0, at), list);
    list.push(name.slice(at + 1));
  }
  const several = [...folders].filter(([, names]) => names.length > 1);
  const [first] = several;
  if (!first) return;
  const [one, other] = first[1] as [string, string];
  folder.notes.push(
    `${counted(several.length, 'folder')} with several volumes (${first[0]}: ${shownNames(first[1])}): each is a case; ` +
      `where they are channels or masks, say so: --image-glob '${one}' once for each channel, --label-glob '${other}'`,
  );
}
