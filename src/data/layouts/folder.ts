/**
 * A dataset's folder as layouts look at it: listings in which nothing leaves the root, names compared in one form, and a
 * record of what was not taken. Node only.
 */
import { type Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { MaclError } from '../../errors.js';
import { throwIfAborted } from '../../breathe.js';
import { asFileError, systemCode } from '../files.js';
import { realpathOfAny, resolveInside } from '../paths.js';
import { caseId, compareText, counted, isClutter, nameKey, NIFTI, shownNames } from './names.js';

export interface Found {
  id: string;
  path: string;
}

/** Folders below one another that are looked into; more is a loop or a mistake. */
const MAX_DEPTH = 32;

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ENAMETOOLONG'].includes(systemCode(error) ?? '')) return false;
    throw asFileError(error, path, 'open');
  }
}

/** What is in a folder, sorted by name. */
export async function namesIn(folder: string): Promise<Dirent[]> {
  try {
    return (await readdir(folder, { withFileTypes: true })).sort((a, b) => compareText(a.name, b.name));
  } catch (error) {
    throw asFileError(error, folder, 'read');
  }
}

export class DatasetFolder {
  /** Things worth saying. */
  readonly notes: string[] = [];
  private readonly left = new Map<string, string[]>();
  private readonly indexes = new Map<string, Promise<Map<string, string>>>();

  constructor(
    /** Absolute, its links resolved. */
    readonly root: string,
    readonly followLinks: boolean,
    /** Where the dataset is a file (a table), that file. */
    readonly file?: string,
  ) {}

  /** A path that is shown: within the root. */
  shown(path: string): string {
    return relative(this.root, path) || '.';
  }

  inside(named: string, file: string, field: string): Promise<string> {
    return resolveInside(this.root, named, { followLinks: this.followLinks, file, field });
  }

  /** `path` is left out because it `why` ("is no NIfTI file"): counted and named together with its like. */
  leaveOut(why: string, path: string): void {
    const list = this.left.get(why) ?? [];
    if (!list.length) this.left.set(why, list);
    list.push(this.shown(path));
  }

  /** What was left out, and why. */
  notTaken(): { path: string; why: string }[] {
    return [...this.left].flatMap(([why, paths]) => paths.map((path) => ({ path, why })));
  }

  /** A line a reason. */
  notTakenNotes(): string[] {
    return [...this.left].map(
      ([why, paths]) => `${counted(paths.length, 'file')} not taken (${why}): ${shownNames(paths)}`,
    );
  }

  /**
   * NIfTI files of a folder, sorted; undefined where there is no such folder. What systems leave beside data is skipped
   * in silence, other files are named.
   */
  async list(folder: string): Promise<Found[] | undefined> {
    const shown = join(this.root, folder);
    const path = await this.inside(folder, shown, 'folder');
    if (!(await exists(path))) return undefined;
    const found = new Map<string, Found>();
    for (const entry of await namesIn(path)) {
      const { name } = entry;
      if (isClutter(name)) continue;
      if (!NIFTI.test(name)) {
        this.leaveOut('no NIfTI file', join(shown, name));
        continue;
      }
      const id = caseId(name);
      const other = found.get(id);
      if (other) {
        const words = `${this.root}: ${folder}: case ${id} is there twice: ${this.shown(other.path)} and ${join(folder, name)}`;
        throw new MaclError('dataset', words, { file: join(path, name), field: id });
      }
      const file = join(shown, name);
      found.set(id, {
        id,
        path: entry.isSymbolicLink() ? await this.inside(join(folder, name), file, 'file') : join(path, name),
      });
    }
    return [...found.values()].sort((a, b) => compareText(a.id, b.id));
  }

  /** NIfTI files at the root and in its sub-folders, these excepted: what nobody may have meant to leave there. */
  async volumesBeside(folders: ReadonlySet<string>): Promise<string[]> {
    const found: string[] = [];
    for (const entry of await namesIn(this.root)) {
      const path = join(this.root, entry.name);
      if (isClutter(entry.name) || folders.has(entry.name)) continue;
      if (entry.isDirectory()) {
        for (const { name } of await namesIn(path))
          if (!isClutter(name) && NIFTI.test(name)) found.push(join(path, name));
      } else if (NIFTI.test(entry.name)) found.push(path);
    }
    return found;
  }

  /**
   * Every file below the root, sorted by its path within the root ('/' between names). Links are followed where they
   * stay inside, a folder is entered once.
   */
  async walk(signal?: AbortSignal): Promise<{ path: string; name: string }[]> {
    const files: { path: string; name: string }[] = [];
    const entered = new Set<string>();
    const enter = async (folder: string, name: string, depth: number): Promise<void> => {
      throwIfAborted(signal);
      const real = await realpathOfAny(folder);
      if (entered.has(real)) return;
      entered.add(real);
      if (depth > MAX_DEPTH)
        throw new MaclError('dataset', `${folder}: depth: more than ${MAX_DEPTH} folders below the dataset's root`, {
          file: folder,
          field: 'depth',
        });
      for (const entry of await namesIn(folder)) {
        if (isClutter(entry.name)) continue;
        const path = join(folder, entry.name);
        const within = name === '' ? entry.name : `${name}/${entry.name}`;
        let isFolder = entry.isDirectory();
        if (entry.isSymbolicLink()) {
          await this.inside(within, path, 'file');
          isFolder = await stat(path).then(
            (info) => info.isDirectory(),
            () => false,
          );
        }
        if (isFolder) await enter(path, within, depth + 1);
        else files.push({ path, name: within });
      }
    };
    await enter(this.root, '', 0);
    return files;
  }

  /**
   * Where a path that a list names lies: as it is written, or with a name that differs in Unicode form or in the
   * ending's case only; undefined where nothing is there.
   */
  async locate(path: string): Promise<string | undefined> {
    if (await exists(path)) return path;
    let at = this.root;
    for (const part of relative(this.root, path).split(sep)) {
      const name = (await this.index(at)).get(nameKey(part));
      if (name === undefined) return undefined;
      at = join(at, name);
    }
    // By another name a link may lead out where the named path did not.
    await this.inside(relative(this.root, at), path, 'file');
    return (await exists(at)) ? at : undefined;
  }

  private index(folder: string): Promise<Map<string, string>> {
    let index = this.indexes.get(folder);
    if (!index) {
      index = readdir(folder).then(
        (names) => new Map(names.sort(compareText).map((name) => [nameKey(name), name])),
        (error: unknown) => {
          if (['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) return new Map<string, string>();
          throw asFileError(error, folder, 'read');
        },
      );
      this.indexes.set(folder, index);
    }
    return index;
  }
}
