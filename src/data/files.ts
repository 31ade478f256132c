/**
 * Files on disk for the data layer: whole reads with typed errors, and writes that either happen or do not. A write
 * goes to a temporary file in the same folder, is flushed, and is renamed: after kill -9 or a full disk the old file is
 * whole. Node only.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { access, type FileHandle, mkdir, open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileError, MaclError } from '../errors.js';
import { isArrayOf, messageOf } from '../realm.js';
import { throwIfAborted } from '../breathe.js';
import {
  headerLength,
  parseSafetensorsHeader,
  PIECE_BYTES,
  type RawTensor,
  type Safetensors,
  type SafetensorsHeader,
  safetensorsLayout,
  type TensorEntry,
  tensorsOf,
  type TensorStream,
} from './safetensors.js';

const CHUNK_BYTES = 8 * 1024 * 1024;

/** The system's error code (ENOENT, ENOSPC, …) or undefined. */
export function systemCode(error: unknown): string | undefined {
  const code: unknown = (error as NodeJS.ErrnoException | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}

const WORDS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EISDIR: 'is a folder, expected a file',
  ENOTDIR: 'a part of the path is not a folder',
  ENOSPC: 'no space left on the device',
  EDQUOT: 'disk quota exceeded',
  EROFS: 'the file system is read-only',
  EIO: 'input/output error',
  ELOOP: 'too many links',
  ENXIO: 'is not a regular file',
  EMFILE: 'too many open files',
};

/** Whether it is the file's content that is wrong, and not that it could not be read (or is not there). */
export function isDamage(error: unknown): error is MaclError {
  if (!(error instanceof MaclError) || error.code !== 'file' || error.details.field === 'type') return false;
  const code = systemCode(error.cause);
  // Node's own codes (ERR_…) are of what was read, such as text that is not UTF-8.
  return code === undefined || code.startsWith('ERR_');
}

/** A system error as a MaclError that names the file and what was done; a MaclError stays as it is. */
export function asFileError(error: unknown, file: string, doing: 'read' | 'write' | 'open'): MaclError {
  if (error instanceof MaclError) return error;
  const code = systemCode(error);
  const words = (code !== undefined && WORDS[code]) || messageOf(error);
  return fileError(file, doing, code ? `${words} (${code})` : words, error);
}

/** Calls of the file system that wait at once: one after another, a list of thousands of files takes its time. */
const AT_ONCE = 64;

/** The results of `call`, in order; of errors the first in this order is thrown. */
export async function inOrder<T, R>(items: readonly T[], call: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < items.length; at += AT_ONCE)
    for (const result of await Promise.allSettled(items.slice(at, at + AT_ONCE).map(call))) {
      if (result.status === 'rejected') throw result.reason;
      results.push(result.value);
    }
  return results;
}

/** Fills `target` from `position`; throws MaclError where the file ends before. */
export async function readExactly(
  handle: FileHandle,
  target: Uint8Array,
  position: number,
  file: string,
  signal?: AbortSignal,
): Promise<void> {
  let done = 0;
  while (done < target.length) {
    throwIfAborted(signal);
    const length = Math.min(CHUNK_BYTES, target.length - done);
    const { bytesRead } = await handle.read(target, done, length, position + done);
    if (bytesRead === 0) {
      throw fileError(file, 'size', `ends at byte ${position + done}, expected ${position + target.length}`);
    }
    done += bytesRead;
  }
}

/**
 * Opens a regular file for reading, does something with it, closes it. System errors become MaclErrors. A named pipe is
 * refused like every other thing that is no file: it is opened without waiting for somebody to write into it.
 */
export async function withFile<T>(file: string, use: (handle: FileHandle, bytes: number) => Promise<T>): Promise<T> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const info = await handle.stat();
    if (!info.isFile()) throw fileError(file, 'type', 'is not a regular file');
    return await use(handle, info.size);
  } catch (error) {
    throw asFileError(error, file, 'read');
  } finally {
    await handle?.close();
  }
}

/** Reads a whole file of at most `maxBytes` (default 2 GiB). */
export async function readWholeFile(
  file: string,
  options: { maxBytes?: number; signal?: AbortSignal } = {},
): Promise<Uint8Array> {
  const maxBytes = options.maxBytes ?? 2 ** 31;
  return withFile(file, async (handle, bytes) => {
    if (bytes > maxBytes) throw fileError(file, 'size', `${bytes} bytes, at most ${maxBytes} are read`);
    const out = new Uint8Array(bytes);
    await readExactly(handle, out, 0, file, options.signal);
    return out;
  });
}

/** Reads a text file (UTF-8, at most `maxBytes`, default 64 MiB). */
export async function readTextFile(file: string, maxBytes = 64 * 1024 * 1024): Promise<string> {
  const bytes = await readWholeFile(file, { maxBytes });
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw fileError(file, 'text', 'is not UTF-8', cause);
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } catch (error) {
    // Some file systems do not flush folders; the rename is still atomic there.
    if (!['EINVAL', 'ENOTSUP', 'EPERM', 'EISDIR'].includes(systemCode(error) ?? '')) throw error;
  } finally {
    await handle.close();
  }
}

type Chunks = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

async function writeFully(handle: FileHandle, chunk: Uint8Array, signal?: AbortSignal): Promise<void> {
  let done = 0;
  while (done < chunk.length) {
    throwIfAborted(signal);
    const { bytesWritten } = await handle.write(chunk, done, Math.min(CHUNK_BYTES, chunk.length - done));
    done += bytesWritten;
  }
}

/** The most bytes that a name may have on every file system in use. */
const NAME_BYTES = 255;

/**
 * The name a temporary file has while `path` is being written; a leading dot keeps it out of every listing. Of a long name
 * the beginning is enough: what can be written has a temporary name that can.
 */
export function temporaryName(path: string): string {
  const end = `.${process.pid}.${randomBytes(6).toString('hex')}.tmp`;
  let name = basename(path);
  while (Buffer.byteLength(name) > NAME_BYTES - 1 - end.length) name = [...name].slice(0, -1).join('');
  return join(dirname(path), `.${name}${end}`);
}

/**
 * Writes `path` whole or not at all: a temporary file in the same folder, fsync, rename, fsync of the folder. On any
 * error, an abort included, the temporary file is removed and what was at `path` is untouched.
 */
export async function writeFileAtomic(
  path: string,
  content: Uint8Array | string | Chunks,
  options: { signal?: AbortSignal } = {},
): Promise<void> {
  const { signal } = options;
  const temporary = temporaryName(path);
  let handle: FileHandle | undefined;
  try {
    throwIfAborted(signal);
    handle = await open(temporary, 'wx', 0o666);
    if (typeof content === 'string') await writeFully(handle, new TextEncoder().encode(content), signal);
    else if (isArrayOf(content, 'Uint8Array')) await writeFully(handle, content, signal);
    else for await (const chunk of content) await writeFully(handle, chunk, signal);
    await handle.sync();
    await handle.close();
    handle = undefined;
    await rename(temporary, path);
  } catch (error) {
    await handle?.close().catch(() => undefined);
    await unlink(temporary).catch(() => undefined);
    throw asFileError(error, path, 'write');
  }
  await syncFolder(dirname(path)).catch((error: unknown) => {
    throw asFileError(error, path, 'write');
  });
}

/**
 * Makes a folder and its parents. It must be one that can be written to, which is found out before the work and not after
 * it; `readOnly` takes one that is only read from too.
 */
export async function makeFolder(folder: string, options: { readOnly?: boolean } = {}): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    if (!options.readOnly) await access(folder, constants.W_OK);
  } catch (error) {
    throw asFileError(error, folder, 'write');
  }
}

/** Reads and checks only the header of a safetensors file. */
export async function readSafetensorsHeader(
  handle: FileHandle,
  fileBytes: number,
  file: string,
): Promise<SafetensorsHeader> {
  const first = new Uint8Array(Math.min(8, fileBytes));
  await readExactly(handle, first, 0, file);
  const header = new Uint8Array(headerLength(first, fileBytes, file));
  await readExactly(handle, header, 8, file);
  return parseSafetensorsHeader(header, fileBytes, file);
}

/** Reads a safetensors file; the header is checked against the file's size before the rest is read. */
export async function readSafetensorsFile(file: string, options: { signal?: AbortSignal } = {}): Promise<Safetensors> {
  return withFile(file, async (handle, fileBytes) => {
    const header = await readSafetensorsHeader(handle, fileBytes, file);
    // The data begins where the header says; keep it 8-aligned in memory, so that views need no copy.
    const pad = (8 - (header.dataOffset % 8)) % 8;
    const bytes = new Uint8Array(pad + fileBytes).subarray(pad);
    await readExactly(handle, bytes, 0, file, options.signal);
    return tensorsOf(bytes, header);
  });
}

/** A safetensors file that is read tensor by tensor. */
export interface OpenSafetensors extends SafetensorsHeader {
  readonly file: string;
  /** A tensor's bytes in pieces, in order. */
  pieces(entry: TensorEntry): AsyncIterable<Uint8Array>;
}

/** Opens a safetensors file, checks its header against its size, does something with it, closes it. */
export async function withSafetensors<T>(file: string, use: (open: OpenSafetensors) => Promise<T>): Promise<T> {
  return withFile(file, async (handle, fileBytes) => {
    const header = await readSafetensorsHeader(handle, fileBytes, file);
    async function* pieces({ start, end }: TensorEntry): AsyncIterable<Uint8Array> {
      for (let at = start; at < end; at += PIECE_BYTES) {
        const piece = new Uint8Array(Math.min(PIECE_BYTES, end - at));
        await readExactly(handle, piece, header.dataOffset + at, file);
        yield piece;
      }
    }
    return use({ ...header, file, pieces });
  });
}

/** Writes a safetensors file atomically, without a second copy of the tensors in memory. */
export async function writeSafetensorsFile(
  path: string,
  tensors: ReadonlyMap<string, RawTensor | TensorStream>,
  metadata: Readonly<Record<string, string>> = {},
  options: { signal?: AbortSignal } = {},
): Promise<void> {
  const { header, order } = safetensorsLayout(tensors, metadata);
  async function* bytes(): AsyncIterable<Uint8Array> {
    yield header;
    for (const name of order) {
      const tensor = tensors.get(name)!;
      if ('bytes' in tensor) yield tensor.bytes;
      else yield* tensor.pieces();
    }
  }
  await writeFileAtomic(path, bytes(), options);
}
