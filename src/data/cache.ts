/**
 * The cache of prepared data: a folder of entries, each one safetensors file whose name holds a key made of file names,
 * sizes, times, settings and the format's version. An entry is published by rename, so two runs at once and kill -9 are
 * safe; a damaged one counts as absent. Node only.
 */
import { createHash } from 'node:crypto';
import { readdir, stat, unlink } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { MaclError } from '../errors.js';
import {
  asFileError,
  isTemporary,
  makeFolder,
  readSafetensorsHeader,
  systemCode,
  withFile,
  writeSafetensorsFile,
} from './files.js';
import { isInside, realpathOfAny } from './paths.js';
import { type RawTensor, type TensorEntry } from './safetensors.js';

/** Part of every key: raise it when what an entry holds changes its meaning. */
export const CACHE_FORMAT = 4;

/** A temporary file that has not been written to for this long belongs to a run that died. */
const STALE_MS = 60 * 60 * 1000;

/** `--cache DIR`, else $XDG_CACHE_HOME/macl, else ~/.cache/macl. */
export function defaultCacheDir(): string {
  const xdg = process.env.XDG_CACHE_HOME;
  return xdg ? join(xdg, 'macl') : join(homedir(), '.cache', 'macl');
}

/** Where an entry lies and what it says. */
export interface CacheEntry {
  path: string;
  /** The entry's own JSON. */
  info: unknown;
  tensors: Map<string, TensorEntry>;
  /** Byte of the file at which offsets of `tensors` begin. */
  dataOffset: number;
}

/** The characters of the first `bytes` bytes: file systems take 255 bytes a name, and a temporary file's is longer. */
function leading(text: string, bytes: number): string {
  // A stream waits for the rest of a character that is cut, and so leaves it out.
  return new TextDecoder().decode(new TextEncoder().encode(text).subarray(0, bytes), { stream: true });
}

export class Cache {
  private constructor(readonly folder: string) {}

  /** Makes the folder and clears away what dead runs left. Throws MaclError `config` for a folder inside the dataset. */
  static async open(folder: string | undefined, datasetRoot: string): Promise<Cache> {
    const path = resolve(folder ?? defaultCacheDir());
    if (isInside(await realpathOfAny(datasetRoot), await realpathOfAny(path))) {
      const words = `${path}: cache: lies inside the dataset ${datasetRoot}; choose another folder with --cache`;
      throw new MaclError('config', words, { file: path, field: 'cache' });
    }
    await makeFolder(path);
    const cache = new Cache(path);
    await cache.sweep();
    return cache;
  }

  private async sweep(): Promise<void> {
    const names = await readdir(this.folder).catch((error: unknown) => {
      throw asFileError(error, this.folder, 'read');
    });
    for (const name of names) {
      if (!isTemporary(name)) continue;
      const path = join(this.folder, name);
      // Another run may sweep at the same time, or may not be ours to clean up after: neither is an error.
      const age = await stat(path).then(
        (info) => Date.now() - info.mtimeMs,
        () => 0,
      );
      if (age > STALE_MS) await unlink(path).catch(() => undefined);
    }
  }

  /** The file of an entry: readable name, then 128 bits of the key. */
  path(name: string, kind: string, key: unknown): string {
    const digest = createHash('sha256')
      .update(JSON.stringify([CACHE_FORMAT, kind, key]))
      .digest('hex');
    return join(this.folder, `${leading(name, 80)}.${kind}.${digest.slice(0, 32)}.safetensors`);
  }

  /** The entry at `path`, or undefined where it is absent or damaged. */
  async find(path: string): Promise<CacheEntry | undefined> {
    try {
      return await withFile(path, async (handle, bytes) => {
        const header = await readSafetensorsHeader(handle, bytes, path);
        const info: unknown = JSON.parse(header.metadata.macl ?? 'null');
        if (info === null) return undefined;
        const tensors = new Map(header.entries.map((entry) => [entry.name, entry]));
        return { path, info, tensors, dataOffset: header.dataOffset };
      });
    } catch (error) {
      const system = error instanceof MaclError ? systemCode(error.cause) : undefined;
      if (system !== undefined && system !== 'ENOENT') throw error;
      if (error instanceof MaclError || (error as Error).name === 'SyntaxError') return undefined;
      throw error;
    }
  }

  /** Writes and publishes an entry, replacing a damaged one. */
  async publish(
    path: string,
    info: unknown,
    tensors: ReadonlyMap<string, RawTensor>,
    signal?: AbortSignal,
  ): Promise<CacheEntry> {
    await writeSafetensorsFile(path, tensors, { macl: JSON.stringify(info) }, signal ? { signal } : {});
    const entry = await this.find(path);
    if (!entry) throw new MaclError('file', `${path}: entry: cannot be read back`, { file: path, field: 'entry' });
    return entry;
  }
}

/**
 * The error where it is the fault of a case's files. What is wrong with the cache, the memory or the call is none of a
 * case, would be the next case's too, and is thrown.
 */
export function asCaseError(error: unknown, cache: Cache | undefined): MaclError {
  if (!(error instanceof MaclError) || error.code === 'aborted' || error.code === 'memory') throw error;
  const { file } = error.details;
  if (cache && file !== undefined && (file === cache.folder || dirname(file) === cache.folder)) throw error;
  return error;
}

/** What a key says about a source file: a changed file has another size or another time. */
export interface FileStamp {
  name: string;
  size: string;
  mtimeNs: string;
}

/** Stamps files by name within the dataset. Throws MaclError `file` for a file that is not there. */
export async function stampFiles(root: string, files: readonly string[]): Promise<FileStamp[]> {
  return Promise.all(
    files.map(async (file) => {
      const info = await stat(file, { bigint: true }).catch((error: unknown) => {
        throw asFileError(error, file, 'open');
      });
      const name = join(basename(root), relative(root, file));
      return { name, size: String(info.size), mtimeNs: String(info.mtimeNs) };
    }),
  );
}
