/** NIfTI files for tests, written byte by byte and independently of the code under test, damaged where asked. */
import { gzipSync } from 'node:zlib';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

export interface MakeNifti {
  version?: 1 | 2;
  littleEndian?: boolean;
  dims?: (number | bigint)[];
  rank?: number;
  code?: number;
  bitpix?: number;
  pixdim?: number[];
  /** Rows of the sform, 12 numbers; sform_code 1 where given. */
  sform?: number[];
  quatern?: { b: number; c: number; d: number; offset: number[]; qfac: number };
  slope?: number;
  inter?: number;
  units?: number;
  voxOffset?: number | bigint;
  /** Bytes after the extender. */
  extensions?: Uint8Array;
  extender?: number;
  magic?: string;
  /** Voxel bytes, already in the file's byte order. */
  data?: Uint8Array;
}

export const IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0];

export function makeNifti(options: MakeNifti = {}): Uint8Array {
  const version = options.version ?? 1;
  const le = options.littleEndian ?? true;
  const dims = options.dims ?? [2, 3, 4];
  const size = version === 1 ? 348 : 540;
  const ext = options.extensions ?? new Uint8Array(0);
  const offset = options.voxOffset ?? size + 4 + ext.length;
  const data = options.data ?? new Uint8Array(Number(dims.reduce((a, b) => BigInt(a) * BigInt(b), 1n)));
  const out = new Uint8Array(size + 4 + ext.length + data.length);
  const v = new DataView(out.buffer);
  v.setInt32(0, size, le);
  const dim = [options.rank ?? dims.length, ...dims, ...Array<number>(7 - dims.length).fill(1)];
  const pixdim = options.pixdim ?? [1, 1, 1, 1, 1, 1, 1, 1];
  const magic = options.magic ?? (version === 1 ? 'n+1\0' : 'n+2\0\r\n\x1a\n');
  for (let n = 0; n < magic.length; n++) out[(version === 1 ? 344 : 4) + n] = magic.charCodeAt(n);
  const q = options.quatern;
  if (version === 1) {
    dim.forEach((n, i) => v.setInt16(40 + 2 * i, Number(n), le));
    v.setInt16(70, options.code ?? 2, le);
    v.setInt16(72, options.bitpix ?? 8, le);
    pixdim.forEach((n, i) => v.setFloat32(76 + 4 * i, n, le));
    v.setFloat32(108, Number(offset), le);
    v.setFloat32(112, options.slope ?? 0, le);
    v.setFloat32(116, options.inter ?? 0, le);
    v.setUint8(123, options.units ?? 2);
    v.setInt16(252, q ? 1 : 0, le);
    v.setInt16(254, options.sform ? 2 : 0, le);
    if (q) {
      v.setFloat32(76, q.qfac, le);
      [q.b, q.c, q.d, ...q.offset].forEach((n, i) => v.setFloat32(256 + 4 * i, n, le));
    }
    options.sform?.forEach((n, i) => v.setFloat32(280 + 4 * i, n, le));
  } else {
    v.setInt16(12, options.code ?? 2, le);
    v.setInt16(14, options.bitpix ?? 8, le);
    dim.forEach((n, i) => v.setBigInt64(16 + 8 * i, BigInt(n), le));
    pixdim.forEach((n, i) => v.setFloat64(104 + 8 * i, n, le));
    v.setBigInt64(168, BigInt(offset), le);
    v.setFloat64(176, options.slope ?? 0, le);
    v.setFloat64(184, options.inter ?? 0, le);
    v.setInt32(344, q ? 1 : 0, le);
    v.setInt32(348, options.sform ? 2 : 0, le);
    if (q) {
      v.setFloat64(104, q.qfac, le);
      [q.b, q.c, q.d, ...q.offset].forEach((n, i) => v.setFloat64(352 + 8 * i, n, le));
    }
    options.sform?.forEach((n, i) => v.setFloat64(400 + 8 * i, n, le));
    v.setInt32(500, options.units ?? 2, le);
  }
  out[size] = options.extender ?? (ext.length ? 1 : 0);
  out.set(ext, size + 4);
  out.set(data, size + 4 + ext.length);
  return out;
}

/** An extension of `size` bytes (said and real), little endian unless told. */
export function extension(said: number, real = said, littleEndian = true): Uint8Array {
  const out = new Uint8Array(real);
  const view = new DataView(out.buffer);
  if (real >= 8) {
    view.setInt32(0, said, littleEndian);
    view.setInt32(4, 6, littleEndian);
    for (let i = 8; i < real; i++) out[i] = 32 + (i % 90);
  }
  return out;
}

/** A folder for the tests of one file, removed at the end. */
export function testFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'macl-data-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export function put(folder: string, name: string, bytes: Uint8Array, gzip = name.endsWith('.gz')): string {
  const path = join(folder, name);
  writeFileSync(path, gzip ? gzipSync(bytes) : bytes);
  return path;
}

/** 0, 1, 2, … as uint8 voxels. */
export function ramp(count: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, i) => i % 251);
}
