/**
 * The Decathlon's and nnU-Net's layout: imagesTr and labelsTr, with dataset.json or without. The two differ in names
 * alone (a file a case, or a file a channel) and are mixed in the wild, so one reader has both. Node only.
 */
import { dirname, join } from 'node:path';
import { MaclError } from '../../errors.js';
import { channelsOf, classesOf, type DatasetJson, type JsonCase, readDatasetJson } from './dataset-json.js';
import { inOrder } from '../files.js';
import { realpathOfAny } from '../paths.js';
import { decideChannels, groupChannels } from './channels.js';
import { type DatasetFolder, exists, type Found } from './folder.js';
import { caseId, CHANNEL, counted, NIFTI, patientOf, shownNames } from './names.js';
import { type Layout, type ListedCase, type Listing } from './types.js';

/** A case of a list of dataset.json, its paths made absolute and held against what is there. */
interface Entry {
  id: string;
  image: string;
  images?: string[];
  label?: string;
  /** What the label is called, as a case. */
  labelId?: string;
  field: string;
  role: 'training' | 'validation' | 'test';
}

/** The layout's own folders; what is in others is taken where a list names it. */
const FOLDERS: ReadonlySet<string> = new Set(['imagesTr', 'labelsTr', 'imagesTs', 'labelsTs']);

type ListEntry = Entry & { role: 'training' | 'validation' };
const isListEntry = (entry: Entry): entry is ListEntry => entry.role !== 'test';

/** Whether a folder has what this layout is known by. */
export const isRaw = async (root: string): Promise<boolean> =>
  (await exists(join(root, 'dataset.json'))) || (await exists(join(root, 'imagesTr')));

export const raw: Layout = {
  recognise: async (folder) => folder.file === undefined && (await isRaw(folder.root)),
  async list(folder) {
    const file = join(folder.root, 'dataset.json');
    await folder.inside('dataset.json', file, 'file');
    const json = (await exists(file)) ? await readDatasetJson(file) : undefined;
    return new RawReader(folder, file, json).read();
  },
};

class RawReader {
  private readonly cases = new Map<string, ListedCase>();
  private readonly byFile = new Map<string, ListedCase>();
  /** Paths at which something was found. */
  private readonly there = new Set<string>();
  private readonly doubled: string[] = [];
  private count: number | undefined;
  private ending = '.nii.gz';

  constructor(
    private readonly folder: DatasetFolder,
    private readonly file: string,
    private readonly json: DatasetJson | undefined,
  ) {}

  async read(): Promise<Listing> {
    const { folder, json } = this;
    // Before anything is opened: no path in dataset.json leaves the dataset.
    const entries: Entry[] = [];
    for (const role of ['training', 'validation', 'test'] as const)
      entries.push(...(await inOrder(json?.[role] ?? [], (entry) => this.entry(entry, role))));
    const images = (await folder.list('imagesTr')) ?? [];
    const labels = (await folder.list('labelsTr')) ?? [];
    const asChannels = this.takeImages(images, labels, entries);
    for (const entry of entries) if (isListEntry(entry)) await this.takeEntry(entry, asChannels);
    this.takeLabels(labels);
    const tests = await this.tests(entries, asChannels);
    const used = new Set([...this.byFile.keys(), ...tests.map(({ path }) => path)]);
    for (const { label } of this.cases.values()) if (label !== undefined) used.add(label);
    for (const path of await folder.volumesBeside(FOLDERS))
      if (!used.has(path)) folder.leaveOut('outside imagesTr', path);
    this.describe(tests, asChannels);
    const names = json && channelsOf(json);
    return {
      layout: asChannels ? 'nnunet' : json ? 'msd' : 'folder',
      source: json ? this.file : folder.root,
      ...(json?.name !== undefined && { name: json.name }),
      cases: [...this.cases.values()],
      tests,
      ...(names && { channelNames: names }),
      ...(json ? classesOf(json) : { classes: [] }),
    };
  }

  /** A path of dataset.json, made absolute; of the file that it means where one is there. */
  private async path(named: string, field: string): Promise<string> {
    const path = await this.folder.inside(named, this.file, field);
    const there = await this.locate(path);
    if (there !== undefined || !named.includes('\\')) return there ?? path;
    const other = await this.folder.inside(named.replaceAll('\\', '/'), this.file, field);
    return (await this.locate(other)) ?? other;
  }

  private async locate(path: string): Promise<string | undefined> {
    const found = await this.folder.locate(path);
    if (found !== undefined) this.there.add(found);
    return found;
  }

  private async entry(listed: JsonCase, role: Entry['role']): Promise<Entry> {
    const { id, field } = listed;
    const image = await this.path(listed.image, `${field}.image`);
    const images: string[] = [];
    for (const [n, path] of (listed.images ?? []).entries())
      images.push(await this.path(path, `${field}.images[${n}]`));
    const { label } = listed;
    return {
      id,
      image,
      ...(listed.images && { images }),
      ...(label !== undefined && { label: await this.path(label, `${field}.label`), labelId: caseId(label) }),
      field,
      role,
    };
  }

  /** The cases of imagesTr. @returns whether a file is a channel. */
  private takeImages(images: readonly Found[], labels: readonly Found[], entries: readonly Entry[]): boolean {
    const { folder, json } = this;
    this.ending = json?.fileEnding ?? NIFTI.exec(images[0]?.path ?? '')?.[0] ?? '.nii.gz';
    const listed = entries.filter(({ role, images: all }) => role !== 'test' && !all);
    const hints = {
      listed: listed.map(({ id, labelId }) => ({ image: id, label: labelId })),
      labels: labels.map(({ id }) => id),
      count: json && channelsOf(json)?.length,
    };
    const decided = json?.channelNames ? { asChannels: true } : decideChannels(images, hints);
    if (decided.note !== undefined) folder.notes.push(decided.note);
    if (decided.asChannels) this.count = hints.count;
    const hasList = json !== undefined && json.training.length > 0;
    const found = decided.asChannels
      ? groupChannels(images, this.count, { path: join(folder.root, 'imagesTr'), ending: this.ending })
      : images.map(({ id, path }) => ({ id, images: [path], missing: [] }));
    for (const item of found) this.add({ ...item, group: patientOf(item.id), role: hasList ? 'unlisted' : 'training' });
    return decided.asChannels;
  }

  private add(item: ListedCase): ListedCase {
    this.cases.set(item.id, item);
    for (const path of item.images) this.byFile.set(path, item);
    return item;
  }

  /** A case of the list of training or validation: one of imagesTr, or one of its own. */
  private async takeEntry(entry: ListEntry, asChannels: boolean): Promise<void> {
    const { field, label, role } = entry;
    let item = entry.images ? this.cases.get(entry.id) : (this.byFile.get(entry.image) ?? this.cases.get(entry.id));
    // imagesTr/a_0000.nii.gz beside labelsTr/a.nii.gz is a channel of case a, whatever the folder.
    const stem = entry.id.replace(CHANNEL, '');
    const isChannel = !entry.images && stem !== entry.id && entry.labelId === stem;
    if (!item && isChannel) item = this.cases.get(stem);
    const isNew = item?.field === undefined;
    if (item) await (isNew ? this.refuseOther(entry, item) : this.refuseTwice(entry, item));
    if (!item || (entry.images && isNew)) {
      const id = isChannel ? stem : entry.id;
      const images = entry.images ?? (await this.channelFiles(entry, asChannels));
      const missing: string[] = [];
      for (const path of images) if (!this.there.has(path)) missing.push(path);
      item = this.add({ id, images, missing, group: patientOf(id), role });
    }
    item.role = role;
    item.field ??= field;
    if (label === undefined) return;
    if (this.there.has(label)) {
      item.label = label;
      delete item.missingLabel;
    } else if (item.label === undefined) item.missingLabel = label;
  }

  /** The files of a case that a list names by one: the others beside it where a file is a channel. */
  private async channelFiles({ image, id }: Entry, asChannels: boolean): Promise<string[]> {
    const there = this.there.has(image);
    if (!asChannels || (there && !CHANNEL.test(id))) return [image];
    const stem = id.replace(CHANNEL, '');
    const ending = NIFTI.exec(image)?.[0] ?? this.ending;
    const at = (channel: number): string =>
      join(dirname(image), `${stem}_${String(channel).padStart(4, '0')}${ending}`);
    const files: string[] = [];
    for (let channel = 0; channel < (this.count ?? 1); channel++) {
      const path = at(channel);
      files.push((await this.locate(path)) ?? path);
    }
    return files;
  }

  /** Whether a path that is not there may stand for the volume of imagesTr that has its id. */
  private isMeant(image: string): boolean {
    const { root } = this.folder;
    const folder = dirname(image);
    return (folder === join(root, 'imagesTr') || folder === root) && !this.there.has(image);
  }

  /** An entry of dataset.json that shares its id with a volume of imagesTr has to mean that volume. */
  private async refuseOther({ id, image, images, field }: Entry, item: ListedCase): Promise<void> {
    let pair: [string, string | undefined];
    if (images) {
      // What lies in imagesTr would be left out without a word.
      pair = [images[0]!, item.images.find((path) => !item.missing.includes(path) && !images.includes(path))];
    } else {
      // imagesTr/a.nii.gz may be a.nii there, or a_0000.nii.gz and so on; a name without a folder may be any of them.
      pair = [image, this.isMeant(image) || item.images.includes(image) ? undefined : item.images[0]];
    }
    const [named, found] = pair;
    if (found === undefined) return;
    const real = await realpathOfAny(named);
    for (const path of item.images) if ((await realpathOfAny(path)) === real) return;
    const words = `${this.file}: ${field}: case ${id} is there twice: ${this.folder.shown(named)} and ${this.folder.shown(found)}`;
    throw new MaclError('dataset', words, { file: this.file, field, found: named });
  }

  /** Two entries of one id would be one case with files of both, or one case with two roles. */
  private async refuseTwice(entry: ListEntry, item: ListedCase): Promise<void> {
    const { image, images, label, field, role } = entry;
    const other = item.field!;
    const fail = (what: string): MaclError =>
      new MaclError('dataset', `${this.file}: ${field}: ${what}: ${other} and ${field}`, {
        file: this.file,
        field,
        expected: other,
        found: field,
      });
    if (item.role !== role) throw fail(`case ${item.id} is in ${item.role} and in ${role}`);
    const first = item.label ?? item.missingLabel;
    const same = images ? images.join('\0') === item.images.join('\0') : item.images.includes(image);
    if ((!same && !this.isMeant(image)) || (label !== undefined && first !== undefined && label !== first))
      throw fail(`case ${item.id} is there twice, with other files`);
    this.doubled.push(item.id);
  }

  private takeLabels(labels: readonly Found[]): void {
    const listed = new Set([...this.cases.values()].map(({ label }) => label));
    for (const { id, path } of labels) {
      const item = this.cases.get(id);
      if (listed.has(path)) continue;
      if (!item) this.folder.leaveOut('mask without image', path);
      else if (item.label === undefined) {
        item.label = path;
        delete item.missingLabel;
      } else this.folder.leaveOut('mask of a case that has another', path);
    }
  }

  /** Volumes for testing: those that the list names, and imagesTs. */
  private async tests(entries: readonly Entry[], asChannels: boolean): Promise<Listing['tests']> {
    const tests: Listing['tests'] = [];
    for (const entry of entries) {
      if (entry.role !== 'test') continue;
      const paths = entry.images ?? (await this.channelFiles(entry, asChannels));
      // By its name it may be a case of imagesTr whose files are written otherwise.
      const meant = this.isMeant(entry.image) ? this.cases.get(entry.id) : undefined;
      const item = this.byFile.get(entry.image) ?? this.byFile.get(paths[0]!) ?? meant;
      tests.push(...(item?.images ?? paths).map((path) => ({ path, field: entry.field })));
    }
    return [...tests, ...(await this.testFolder()).map(({ path }) => ({ path }))];
  }

  private async testFolder(): Promise<Found[]> {
    try {
      return (await this.folder.list('imagesTs')) ?? [];
    } catch (error) {
      // A link that leads out of it, or two files of one name, are of no matter for training.
      if (error instanceof MaclError && error.code === 'dataset') return [];
      throw error;
    }
  }

  /** What the lists came to, in counted lines. */
  private describe(tests: Listing['tests'], asChannels: boolean): void {
    const { notes } = this.folder;
    if (this.doubled.length)
      notes.push(`dataset.json: listed more than once: ${shownNames([...new Set(this.doubled)])}`);
    if (this.json) {
      notes.push(...this.json.notes);
      const { numTraining, training } = this.json;
      if (numTraining !== undefined && !training.length && numTraining !== this.cases.size)
        notes.push(`dataset.json: numTraining is ${numTraining}, but imagesTr has ${counted(this.cases.size, 'case')}`);
    }
    const ids = tests
      .filter(({ field }) => field === undefined)
      .map(({ path }) => (asChannels ? caseId(path).replace(CHANNEL, '') : caseId(path)));
    const same = [...new Set(ids)].filter((id) => this.cases.has(id));
    if (same.length)
      notes.push(
        `${counted(same.length, 'case')} of imagesTs ${same.length === 1 ? 'has the name' : 'have names'} of imagesTr: ` +
          `${shownNames(same)}; are they other patients?`,
      );
  }
}
