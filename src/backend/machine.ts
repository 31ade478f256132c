/** The machine that a command computes on, as its caller asks for it: options and their check, and opening it. */
import type { OptionKinds } from '../options.js';
import { loadAddon } from './addon.js';
import { openBackend } from './choose.js';
import { DEVICES, type Backend, type DeviceName } from './types.js';

export interface MachineOptions {
  readonly device?: DeviceName | undefined;
  readonly threads?: number | undefined;
  readonly isa?: string | undefined;
  /** Most bytes of resident volumes; more are read box by box. Default: half of what the programs leave free. */
  readonly storeBytes?: number | undefined;
}

export const MACHINE_OPTIONS: OptionKinds<MachineOptions> = {
  device: DEVICES,
  threads: 'count',
  isa: 'text',
  storeBytes: 'count',
};

/** @param onNote hears where `auto` had to take WebAssembly, and what helps */
export async function openMachine(options: MachineOptions, onNote?: (message: string) => void): Promise<Backend> {
  const backend = await openBackend(options.device ?? 'auto', {
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    ...(options.isa === undefined ? {} : { isa: options.isa }),
  });
  if (onNote && backend.info.name === 'wasm' && (options.device ?? 'auto') === 'auto') {
    const addon = loadAddon();
    if (typeof addon === 'string') onNote(`WebAssembly computes, several times slower: ${addon}`);
  }
  return backend;
}
