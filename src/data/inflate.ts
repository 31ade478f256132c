/**
 * The bytes of a file, decompressed where it is gzip (several members too), as chunks that arrive while the event loop
 * stays free. It knows nothing of what the bytes mean; who reads decides when it is enough. Node only.
 */
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { type FileHandle } from 'node:fs/promises';
import { fileError, MaclError } from '../errors.js';
import { abortedError } from '../breathe.js';
import { asFileError, systemCode } from './files.js';

const READ_BYTES = 1024 * 1024;
const INFLATE_BYTES = 256 * 1024;

/** deflate cannot do better than about 1,032 to 1: more than this from so few bytes is a lie. */
export const MAX_DEFLATE_RATIO = 1040;

/** True where the first two bytes are gzip's. */
export function isGzip(first: Uint8Array): boolean {
  return first.length >= 2 && first[0] === 0x1f && first[1] === 0x8b;
}

function gzipError(error: unknown, file: string): MaclError {
  if (error instanceof MaclError) return error;
  const code = systemCode(error) ?? '';
  if (code === 'Z_BUF_ERROR') return fileError(file, 'gzip', 'is cut short', error);
  if (code.startsWith('Z_')) return fileError(file, 'gzip', `is damaged: ${(error as Error).message}`, error);
  return asFileError(error, file, 'read');
}

/** Chunks of the decompressed file: see `streamChunks`. */
export function fileChunks(
  handle: FileHandle,
  gzip: boolean,
  file: string,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  // The handle's own: under Plug'n'Play it is a class that fs.createReadStream does not know.
  const source = handle.createReadStream({ start: 0, autoClose: false, highWaterMark: READ_BYTES });
  return streamChunks(source, gzip, file, signal);
}

/** Chunks of a file that lies in memory, decompressed: see `streamChunks`. */
export function byteChunks(
  bytes: Uint8Array,
  gzip: boolean,
  name: string,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  function* parts(): Generator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += INFLATE_BYTES) yield bytes.subarray(at, at + INFLATE_BYTES);
  }
  return streamChunks(Readable.from(parts(), { objectMode: true, highWaterMark: 1 }), gzip, name, signal);
}

/**
 * The generator may be left early: everything is closed then. A bad checksum or a cut is thrown as MaclError `file`, at the
 * end at the latest; `signal` rejects with `aborted`.
 */
async function* streamChunks(
  source: Readable,
  gzip: boolean,
  file: string,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const gunzip = gzip ? createGunzip({ chunkSize: INFLATE_BYTES }) : undefined;
  if (gunzip) {
    source.on('error', (error) => gunzip.destroy(error));
    source.pipe(gunzip);
  }
  const stream = gunzip ?? source;
  const onAbort = (): void => {
    stream.destroy(abortedError(signal));
  };
  if (signal?.aborted) throw abortedError(signal);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    for await (const chunk of stream) yield chunk as Uint8Array;
  } catch (error) {
    throw gzipError(error, file);
  } finally {
    signal?.removeEventListener('abort', onAbort);
    source.unpipe();
    source.destroy();
    gunzip?.destroy();
  }
}
