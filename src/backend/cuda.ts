/**
 * The `cuda` backend: hand-written kernels on an NVIDIA card, a step as one graph. `cuda:1` takes another card than the
 * first. `cuda-host` is the same addon code and the same kernels run by this machine's processor, for tests: very slow,
 * never chosen by `auto`.
 */
import { MaclError } from '../errors.js';
import { cudaAddonPath } from '../paths.js';
import { fromAddon, loadNative, type Addon } from './addon.js';
import { availableThreads, freeBytes } from './limits-node.js';
import { NativeBackend } from './native.js';
import { threadsOf } from './threads.js';
import { FUSIONS, type Backend, type BackendOptions, type BackendReport } from './types.js';

export interface Card {
  readonly name: string;
  readonly memoryBytes: number;
  /** Compute capability. */
  readonly major: number;
  readonly minor: number;
  readonly processors: number;
}

/** What the CUDA addons have beyond the others (native/cuda/machine.cc). */
export interface CudaAddon extends Addon {
  describe(): ReturnType<Addon['describe']> & {
    /** 1000·major + 10·minor; 0 on the host executor. */
    readonly toolkit: number;
    /** The newest toolkit that the driver serves; 0 without one. */
    readonly driver: number;
    readonly devices: readonly Card[];
    /** Why there are no devices, or ''. */
    readonly problem: string;
  };
  freeBytes(device: number): number;
  failAt(call: string, nth: number, kind: number): boolean;
}

type Kind = 'cuda' | 'cuda-host';
const OLDEST_CAPABILITY = 8;
/** The least driver of a toolkit's major version: with it every build of that major version runs. */
const LEAST_DRIVER: Readonly<Record<number, string>> = { 12: '525.60.13', 13: '580.65.06' };
const SCRIPT = { cuda: 'build:cuda', 'cuda-host': 'build:cuda-host' } as const;

export function loadCuda(kind: Kind): CudaAddon | string {
  const absent = `its addon is not built (npm run ${SCRIPT[kind]})`;
  return loadNative<CudaAddon>(cudaAddonPath(kind === 'cuda-host'), absent);
}

const versionText = (v: number): string => `${Math.floor(v / 1000)}.${Math.floor((v % 1000) / 10)}`;
const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(0)} GiB`;
const cardText = (card: Card, i: number): string =>
  `${i} ${card.name}, ${gib(card.memoryBytes)}, compute capability ${card.major}.${card.minor}`;

/** Why no card can be used at all; null where one may. */
function obstacle({ toolkit, driver, devices, problem }: ReturnType<CudaAddon['describe']>): string | null {
  if (devices.length > 0) return null;
  const major = Math.floor(toolkit / 1000);
  const needs = `this build (CUDA ${versionText(toolkit)}) needs driver ${LEAST_DRIVER[major] ?? 'of its release'} or newer`;
  if (driver === 0) return `no NVIDIA driver answers; ${needs}`;
  if (Math.floor(driver / 1000) < major) return `the driver is for CUDA ${versionText(driver)} at most; ${needs}`;
  const hidden = process.env.CUDA_VISIBLE_DEVICES;
  return `${problem || 'there is no device'}${hidden === undefined ? '' : ` (CUDA_VISIBLE_DEVICES=${hidden})`}`;
}

const tooOld = (card: Card): boolean => card.major < OLDEST_CAPABILITY;

/** Throws `device` with the reason. `index`: which card; by default the first. */
export function openCuda(kind: Kind, index: number, options: BackendOptions = {}): Backend {
  const name = index === 0 ? kind : `${kind}:${index}`;
  const refuse = (why: string, details = {}): MaclError =>
    new MaclError('device', `${name}: ${why}`, { field: 'device', found: name, ...details });
  const addon = loadCuda(kind);
  if (typeof addon === 'string') throw refuse(addon);
  const machine = addon.describe();
  const why = kind === 'cuda' ? obstacle(machine) : machine.problem || null;
  if (why !== null) throw refuse(why);
  const card = machine.devices[index];
  if (!card) throw refuse(`there is no such device; there are ${machine.devices.map(cardText).join('; ')}`);
  if (tooOld(card)) {
    throw refuse(
      `${card.name} has compute capability ${card.major}.${card.minor}; ${OLDEST_CAPABILITY}.0 or newer is needed`,
    );
  }
  const isas = machine.tables.map((t) => t.isa);
  const isa = options.isa ?? isas[0] ?? '';
  const table = machine.tables.find((t) => t.isa === isa);
  if (!table)
    throw refuse(`arithmetic ${isa}: there is ${isas.join(', ')}`, { field: 'isa', expected: isas, found: isa });
  return new NativeBackend({
    name: kind,
    device: kind === 'cuda' ? cardText(card, index) : card.name,
    addon,
    table,
    threads: threadsOf(options.threads, availableThreads),
    unit: index,
    fusions: new Set(options.fusions ?? FUSIONS),
    freeBytes: kind === 'cuda' ? () => freeOn(addon, index) : freeBytes,
    hostFreeBytes: freeBytes,
  });
}

function freeOn(addon: CudaAddon, index: number): number {
  try {
    return addon.freeBytes(index);
  } catch (error) {
    throw fromAddon(error);
  }
}

export function reportCuda(kind: Kind): BackendReport {
  const report = (available: boolean, isas: readonly string[], reason: string): BackendReport => ({
    name: kind,
    available,
    isas,
    reason,
  });
  const addon = loadCuda(kind);
  if (typeof addon === 'string') return report(false, [], addon);
  const machine = addon.describe();
  const isas = machine.tables.map((t) => t.isa);
  if (kind === 'cuda-host') {
    return report(true, isas, 'the CUDA kernels on this processor, for tests: very slow; never chosen by auto');
  }
  const why = obstacle(machine);
  if (why !== null) return report(false, [], why);
  const cards = machine.devices.map(
    (card, i) => `${cardText(card, i)}${tooOld(card) ? ' (too old: 8.0 is needed)' : ''}`,
  );
  const usable = machine.devices.some((card) => !tooOld(card));
  const versions = `built with CUDA ${versionText(machine.toolkit)}, driver for ${versionText(machine.driver)}`;
  return report(usable, usable ? isas : [], `${versions}; ${cards.join('; ')}`);
}
