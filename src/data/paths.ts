/**
 * Paths that a dataset may name: nothing leaves its root, neither by "..", nor by an absolute path, nor by a link,
 * whether the file exists or not. Node only.
 */
import { lstat, readlink, realpath } from 'node:fs/promises';
import { dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { MaclError } from '../errors.js';
import { asFileError, systemCode } from './files.js';

const MAX_LINKS = 40;

/** True where `path` is `root` or below it; both absolute and normalised. */
export function isInside(root: string, path: string): boolean {
  const rest = relative(root, path);
  return rest === '' || (!isAbsolute(rest) && rest !== '..' && !rest.startsWith(`..${sep}`));
}

/** The root of a dataset with its links resolved. Throws MaclError `file` where it is not there. */
export async function realRoot(root: string): Promise<string> {
  return realpath(resolve(root)).catch((error: unknown) => {
    throw asFileError(error, root, 'open');
  });
}

/** As realpath, but for paths whose end (or whose link's target) need not exist. */
export async function realpathOfAny(path: string): Promise<string> {
  let pending = resolve(path).split(sep).filter(Boolean);
  let at: string = sep;
  let links = 0;
  while (pending.length) {
    const [name, ...rest] = pending as [string, ...string[]];
    const next = name === '..' ? dirname(at) : join(at, name);
    pending = rest;
    let target: string | undefined;
    try {
      if ((await lstat(next)).isSymbolicLink()) target = await readlink(next);
    } catch (error) {
      if (!['ENOENT', 'ENOTDIR', 'EACCES'].includes(systemCode(error) ?? '')) throw asFileError(error, path, 'open');
    }
    if (target === undefined) {
      at = next;
      continue;
    }
    if (++links > MAX_LINKS)
      throw new MaclError('file', `${path}: link: too many links`, { file: path, field: 'link' });
    if (isAbsolute(target)) at = sep;
    pending = [...target.split(sep).filter((part) => part !== '' && part !== '.'), ...pending];
  }
  return at;
}

export interface InsideOptions {
  /** Links may lead out of the root (stores such as git-annex); "..", absolute paths may not. */
  followLinks: boolean;
  /** Who names the path, for the error. */
  file: string;
  field: string;
}

/**
 * The absolute path of something that a dataset names. `root` is already real. Throws MaclError `dataset` where it
 * leaves the root.
 */
export async function resolveInside(root: string, named: unknown, options: InsideOptions): Promise<string> {
  const { file, field } = options;
  const refuse = (why: string): MaclError =>
    new MaclError('dataset', `${file}: ${field}: ${JSON.stringify(named)} ${why}`, { file, field, found: named });
  if (typeof named !== 'string' || named === '' || named.includes('\0')) throw refuse('is not a path');
  if (isAbsolute(named) || /^[A-Za-z]:[\\/]|^\\\\/.test(named)) {
    throw refuse('is an absolute path; expected one inside the dataset');
  }
  const path = resolve(root, named);
  // Every prefix has to stay inside, so that a/../../root/x does not depend on the root's own name.
  let depth = 0;
  for (const part of named.split(/[\\/]/)) {
    if (part === '..') depth--;
    else if (part !== '' && part !== '.') depth++;
    if (depth < 0) throw refuse('leaves the dataset');
  }
  if (!isInside(root, path)) throw refuse('leaves the dataset');
  if (options.followLinks) return path;
  const real = await realpathOfAny(path);
  if (!isInside(root, real)) {
    throw refuse(`is a link out of the dataset, to ${real} (--follow-links allows it)`);
  }
  return path;
}
