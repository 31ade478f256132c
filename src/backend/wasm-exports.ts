/** The exports of the WebAssembly modules (native/wasm/exports.cc), and reading strings out of their memory. */

import { memoryError } from '../errors.js';

export interface WasmExports {
  readonly __stack_pointer: WebAssembly.Global;
  readonly __heap_base: WebAssembly.Global;
  readonly __tls_size: WebAssembly.Global;
  readonly __tls_align: WebAssembly.Global;
  macl_kernel_count(table: number): number;
  macl_kernel_name(table: number, kernel: number): number;
  macl_kernel_tensors(table: number, kernel: number): number;
  macl_kernel_attrs(table: number, kernel: number): number;
  macl_kernel_phases(table: number, kernel: number): number;
  macl_problem_bytes(): number;
  macl_problem_text(problem: number): number;
  macl_opaque_bytes(
    table: number,
    kernel: number,
    tensors: number,
    count: number,
    attrs: number,
    attrBytes: number,
    index: number,
    problem: number,
  ): number;
  macl_session_bytes(): number;
  macl_session_init(session: number, table: number, threads: number): void;
  macl_session_segment(session: number, segment: number, data: number, bytes: number): void;
  macl_arena_bytes(program: number, length: number, problem: number): number;
  macl_load(
    session: number,
    program: number,
    length: number,
    arena: number,
    arenaBytes: number,
    problem: number,
  ): number;
  macl_scratch_stride(program: number): number;
  macl_session_scratch(session: number, scratch: number, stride: number): void;
  macl_run(session: number, program: number): void;
  macl_abort(session: number): void;
  macl_quit(session: number): void;
  macl_kill(session: number): void;
  macl_done_word(session: number): number;
  macl_stop(session: number): number;
  macl_status(session: number): number;
  macl_failed_instruction(session: number): number;
  macl_failed_kernel(session: number): number;
  macl_status_text(status: number): number;
}

export const PAGE_BYTES = 65_536;
/** 4 GiB: all that 32-bit addresses reach. */
export const MAX_PAGES = 65_536;

/** Address space that an engine reserves for a memory of any size: its 4 GiB, and guards around them. */
const RESERVED_BYTES = 10 * 2 ** 30;

/**
 * A shared memory of some pages. `maximum` may be less than all that 32 bits reach.
 * @throws MaclError `memory` where the engine has no memory or no address space for it (ulimit -v)
 */
export function takeMemory(what: string, pages: number, maximum: number, freeBytes: number): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial: pages, maximum, shared: true });
  } catch (error) {
    const needed = Math.max(pages * PAGE_BYTES, RESERVED_BYTES);
    const why = 'the engine refused it; of address space it takes as much as it could ever need';
    throw memoryError(`${what} (${why})`, needed, freeBytes, {}, error);
  }
}

export function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): WasmExports {
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as WasmExports;
}

/** The NUL-terminated ASCII string at an address. */
export function textAt(memory: WebAssembly.Memory, address: number): string {
  const bytes = new Uint8Array(memory.buffer);
  let text = '';
  for (let at = address >>> 0; bytes[at]; at++) text += String.fromCharCode(bytes[at] as number);
  return text;
}
