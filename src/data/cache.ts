/**
 * The cache of prepared data: a folder of entries, each one safetensors file whose name holds a key made of file names,
 * sizes, times, settings and the format's version. An entry is published by rename, so two runs at once and kill -9 are
 * safe; a damaged one counts as absent. Node only.
 */
import { createHash, type Hash } from 'node:crypto';
import { readdir, stat, unlink } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { MaclError } from '../errors.js';
import {
  asFileError,
  isDamage,
  makeFolder,
  readExactly,
  readSafetensorsHeader,
  systemCode,
  withFile,
  writeSafetensorsFile,
} from './files.js';
import { messageOf } from '../realm.js';
import { Breather } from '../breathe.js';
import { isInside, realpathOfAny } from './paths.js';
import { type RawTensor, type TensorEntry } from './safetensors.js';

/** Part of every key: raise it when what an entry holds changes its meaning. */
export const CACHE_FORMAT = 6;

/** What `path` names, and a temporary file of it: nobody else's files are touched. */
const OWN = /\.(fingerprint|image|label)\.[0-9a-f]{32}\.safetensors$/;
const OWN_TEMPORARY = /^\..*\.(fingerprint|image|label)\.[0-9a-f]{32}\.safetensors\.\d+\.[0-9a-f]{12}\.tmp$/;

/** A temporary file that has not been written to for this long belongs to a run that died. */
const STALE_MS = 60 * 60 * 1000;

/** `--cache DIR`, else $XDG_CACHE_HOME/macl, else ~/.cache/macl. Throws MaclError `config` where there is no home. */
export function defaultCacheDir(): string {
  const xdg = process.env.XDG_CACHE_HOME;
  if (xdg) return join(xdg, 'macl');
  try {
    return join(homedir(), '.cache', 'macl');
  } catch (cause) {
    const words = `cache: this user has no home folder; ${CHOOSE}`;
    throw new MaclError('config', words, { field: 'cache' }, { cause });
  }
}

const CHOOSE = 'choose a folder for prepared cases with --cache DIR, or set XDG_CACHE_HOME';

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
    await makeFolder(path, { readOnly: true }).catch((error: unknown) => {
      if (folder !== undefined && path !== resolve(defaultCacheDir())) throw error;
      const words = `${messageOf(error)}; ${CHOOSE}`;
      throw new MaclError('file', words, { file: path, field: 'cache' }, { cause: error });
    });
    const cache = new Cache(path);
    await cache.sweep();
    return cache;
  }

  /** Entries that were damaged, and are made again; a line each. */
  readonly damaged: string[] = [];

  private async sweep(): Promise<void> {
    const names = await readdir(this.folder).catch((error: unknown) => {
      throw asFileError(error, this.folder, 'read');
    });
    for (const name of names) {
      if (!OWN_TEMPORARY.test(name)) continue;
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

  /**
   * The entry at `path`, or undefined where it is absent, or damaged: every byte is held against the entry's checksum, so
   * what it says needs no other check. A damaged one is told in `damaged`.
   */
  async find(path: string, signal?: AbortSignal): Promise<CacheEntry | undefined> {
    try {
      const { entry, whole } = await readEntry(path, true, signal);
      if (whole) return entry;
      this.damaged.push(`${path}: checksum: differs from the entry's content; it is made again`);
    } catch (error) {
      if (error instanceof MaclError && systemCode(error.cause) === 'ENOENT') return undefined;
      if (!isDamage(error)) throw error;
      this.damaged.push(`${error.message}; the entry is made again`);
    }
    return undefined;
  }

  /** Writes and publishes an entry, replacing a damaged one. */
  async publish(
    path: string,
    info: unknown,
    tensors: ReadonlyMap<string, RawTensor>,
    signal?: AbortSignal,
  ): Promise<CacheEntry> {
    const macl = JSON.stringify(info);
    const sha256 = await checksum(macl, tensors);
    await writeSafetensorsFile(path, tensors, { macl, sha256 }, signal ? { signal } : {});
    return (await readEntry(path, false, signal)).entry;
  }
}

/** Bytes that are hashed at once: the event loop has its turn in between. */
const HASH_BYTES = 1 << 22;

type Shaped = Pick<TensorEntry, 'dtype' | 'shape'>;

/** Of the entry's JSON, and of each tensor by name: its type, its shape, its bytes. */
function checksumOf(macl: string): { begin: (name: string, of: Shaped) => void; hash: Hash } {
  const hash = createHash('sha256').update(macl);
  return { hash, begin: (name, { dtype, shape }) => void hash.update(JSON.stringify([name, dtype, shape])) };
}

async function checksum(macl: string, tensors: ReadonlyMap<string, RawTensor>): Promise<string> {
  const { hash, begin } = checksumOf(macl);
  const breath = new Breather();
  for (const name of [...tensors.keys()].sort()) {
    const tensor = tensors.get(name)!;
    begin(name, tensor);
    for (let at = 0; at < tensor.bytes.length; at += HASH_BYTES) {
      hash.update(tensor.bytes.subarray(at, at + HASH_BYTES));
      await breath.maybe();
    }
  }
  return hash.digest('hex');
}

/** Reads an entry's header and, where asked, all of it: `whole` says whether its bytes are those that were written. */
async function readEntry(
  path: string,
  check: boolean,
  signal?: AbortSignal,
): Promise<{ entry: CacheEntry; whole: boolean }> {
  return withFile(path, async (handle, bytes) => {
    const header = await readSafetensorsHeader(handle, bytes, path);
    const { macl = '', sha256 } = header.metadata;
    const { hash, begin } = checksumOf(macl);
    const buffer = new Uint8Array(check ? Math.min(HASH_BYTES, bytes) : 0);
    const entries = [...header.entries].sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const tensor of check ? entries : []) {
      begin(tensor.name, tensor);
      for (let at = tensor.start; at < tensor.end; at += HASH_BYTES) {
        const piece = buffer.subarray(0, Math.min(HASH_BYTES, tensor.end - at));
        await readExactly(handle, piece, header.dataOffset + at, path, signal);
        hash.update(piece);
      }
    }
    const whole = !check || hash.digest('hex') === sha256;
    const info: unknown = whole ? JSON.parse(macl) : undefined;
    const tensors = new Map(header.entries.map((tensor) => [tensor.name, tensor]));
    return { entry: { path, info, tensors, dataOffset: header.dataOffset }, whole };
  });
}

/** An entry of a cache's folder, as `macl cache` lists it. */
export interface CacheFile {
  path: string;
  kind: 'fingerprint' | 'image' | 'label';
  bytes: number;
  /** When it was made or last read, as far as the file system keeps that. */
  used: Date;
}

/** What lies in a cache's folder, the longest unused first; empty where there is no folder. */
export async function listCache(folder: string): Promise<CacheFile[]> {
  const names = await readdir(folder).catch((error: unknown): string[] => {
    if (systemCode(error) === 'ENOENT') return [];
    throw asFileError(error, folder, 'read');
  });
  const files: CacheFile[] = [];
  for (const name of names) {
    const kind = name.startsWith('.') ? undefined : OWN.exec(name)?.[1];
    if (kind === undefined) continue;
    const path = join(folder, name);
    // Another process may trim at the same time.
    const info = await stat(path).catch((error: unknown) => {
      if (systemCode(error) !== 'ENOENT') throw asFileError(error, path, 'read');
    });
    if (!info?.isFile()) continue;
    const used = new Date(Math.max(info.atimeMs, info.mtimeMs));
    files.push({ path, kind: kind as CacheFile['kind'], bytes: info.size, used });
  }
  return files.sort((a, b) => a.used.getTime() - b.used.getTime() || (a.path < b.path ? -1 : 1));
}

/** Removes entries, the longest unused first, until the others take no more than `limitBytes`. @returns those removed */
export async function trimCache(folder: string, limitBytes: number): Promise<CacheFile[]> {
  const files = await listCache(folder);
  let left = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const removed: CacheFile[] = [];
  for (const file of files) {
    if (left <= limitBytes) break;
    await unlink(file.path).catch((error: unknown) => {
      if (systemCode(error) !== 'ENOENT') throw asFileError(error, file.path, 'write');
    });
    left -= file.bytes;
    removed.push(file);
  }
  return removed;
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
