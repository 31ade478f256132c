/** The native addon: loading it (or saying why it cannot be), and its surface as native/napi/addon.cc has it. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join, sep } from 'node:path';
import { MaclError, type MaclErrorCode } from '../errors.js';
import { messageOf } from '../realm.js';
import { addonPath, packageRoot } from '../paths.js';
import type { Outcome } from './session.js';
import type { KernelInfo } from './types.js';

export interface AddonTable {
  readonly isa: string;
  /** By this processor. */
  readonly supported: boolean;
  readonly needs: string;
  readonly kernels: readonly KernelInfo[];
}

export interface AddonSession {
  load(program: Uint8Array): number;
  write(segment: number, offset: number, bytes: Uint8Array): void;
  read(segment: number, offset: number, bytes: number): Uint8Array;
  run(program: number): Promise<Outcome>;
  scratchBytes(): number;
  /** Milliseconds of each instruction of the last run; empty where the machine does not know. */
  times(): Float64Array;
  abort(): void;
  close(): void;
}

export interface Addon {
  /**
   * `compiler`: its version, in its own words; other compilers may give other bits. `alignment`: as BackendInfo has it.
   */
  describe(): { readonly tables: readonly AddonTable[]; readonly compiler: string; readonly alignment: number };
  opaqueBytes(isa: string, kernel: string, tensors: Uint8Array, attrs: Uint8Array, index: number): number;
  bytesAllocated(): number;
  /** `unit`: threads, or on CUDA the index of a device. */
  readonly Session: new (isa: string, sizes: readonly number[], unit: number) => AddonSession;
}

/** The likely reason, and what helps, on one line. */
function howToBuild(): string {
  const compiler = (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, 'g++')));
  const why = compiler
    ? 'its install script was blocked or failed'
    : 'there was no C++ compiler (install python3, make, g++)';
  if (!packageRoot().split(sep).includes('node_modules')) return `${why}; npm run build:addon builds it`;
  const npm = '`npm approve-scripts macl` (npm 11.16 or newer), then `npm rebuild macl`';
  return `${why}; npm: ${npm}; pnpm: \`pnpm approve-builds\`, then \`pnpm rebuild macl\``;
}

/** The addon, or a sentence that says why there is none. Node keeps it loaded once an environment. */
export function loadAddon(): Addon | string {
  const file = addonPath();
  return existsSync(file) ? loadNative<Addon>(file, '') : `the native addon is not built: ${howToBuild()}`;
}

/** A built library of that surface, or a sentence: `absent` where there is no file. */
export function loadNative<T extends Addon>(file: string, absent: string): T | string {
  if (!existsSync(file)) return absent;
  try {
    return createRequire(file)(file) as T;
  } catch (error) {
    return `the native addon does not load: ${messageOf(error)}`;
  }
}

/** An error of the addon as a MaclError; the cause keeps the JavaScript stack. */
export function fromAddon(error: unknown): unknown {
  if (typeof error !== 'object' || error === null || !('maclCode' in error)) return error;
  const { neededBytes, freeBytes } = error as { neededBytes?: number; freeBytes?: number };
  const details = {
    ...(neededBytes === undefined ? {} : { neededBytes }),
    ...(freeBytes === undefined ? {} : { freeBytes }),
  };
  return new MaclError(error.maclCode as MaclErrorCode, messageOf(error), details, { cause: error });
}

/** Bytes of segments and arenas that all native sessions of this process hold now (0 without the addon). */
export function nativeBytesAllocated(): number {
  const addon = loadAddon();
  return typeof addon === 'string' ? 0 : addon.bytesAllocated();
}
