/**
 * The interface between the compiler and a machine. A backend does five things: describe, allocate, write, read, run.
 * Nothing here knows about networks; nothing in a backend does either.
 */
import type { Precision } from '../precision.js';
import type { DType, SegmentName, SegmentSizes } from '../graph/types.js';

/** `cuda-host`: the CUDA backend on the host executor, for tests. */
export type BackendName = 'cuda' | 'cuda-host' | 'cpu' | 'wasm' | 'reference';
/** `cuda:1`: another card than the first. */
export type DeviceName = BackendName | 'auto' | `${'cuda' | 'cuda-host'}:${number}`;

/** What people are told of, and what is one too: another card than the first; what tests use. */
export const DEVICES = {
  words: ['auto', 'cuda', 'cpu', 'wasm', 'reference'],
  or: /^(cuda:\d{1,4}|cuda-host(:\d{1,4})?)$/,
} as const;

/** Fusions that a backend may ask for; the unfused program always runs. */
export const FUSIONS = ['conv-stats', 'normact-pool', 'concat', 'loss-grad'] as const;
export type Fusion = (typeof FUSIONS)[number];

/** One tensor of a kernel call as the backend sees it when it is asked for the size of an opaque one. */
export interface TensorInfo {
  readonly shape: readonly number[];
  readonly ld: number;
  readonly dtype: DType;
}

/** Reflection of the kernel table: `tensors` and `attrs` are the strings of `native/ops`. */
export interface KernelInfo {
  readonly name: string;
  readonly tensors: string;
  readonly attrs: string;
  readonly phases: number;
}

export interface BackendInfo {
  readonly name: BackendName;
  /** The card, in words, where a machine may have several. */
  readonly device?: string;
  /** What weights, their gradients and statistics are held in, and in `fp32` activations too: f32, or f64 on `reference`. */
  readonly real: 'f32' | 'f64';
  /** Arithmetic that it has: `bf16` needs kernels of its own, or (`reference`) exact arithmetic to round. */
  readonly precisions: readonly Precision[];
  /** Instruction set in use: amx, avx512bf16, avx512, avx2, baseline, plain, relaxed-simd, simd128, ref64; on CUDA fp32 or tf32. */
  readonly isa: string;
  readonly threads: number;
  /** Bytes on whose multiples its buffers begin: what its widest loads and copies want. */
  readonly alignment: number;
  readonly fusions: ReadonlySet<Fusion>;
  readonly kernels: readonly KernelInfo[];
  /** Most bytes that a session's segments may take together, from what is free now. */
  readonly maxBytes: number;
  /** Bytes of this machine's own memory that the process may still take now; a card's is not among them. */
  readonly hostFreeBytes: number;
  /** Why this backend and not another, where `auto` chose it. */
  readonly why?: string;
}

/** What a layout of tensors has to know of a backend. */
export type Held = Pick<BackendInfo, 'real' | 'alignment'>;

/** The machine that a backend's caller runs on, of which memory outside any session is taken. */
export type Host = Pick<BackendInfo, 'hostFreeBytes'>;

export interface BackendOptions {
  readonly threads?: number;
  /** Force an instruction set (tests, benchmarks). */
  readonly isa?: string;
  /** Ask for other fusions than the backend would (tests). */
  readonly fusions?: Iterable<Fusion>;
}

export interface Backend {
  readonly info: BackendInfo;
  /** Bytes of an opaque tensor (`index` counts inputs, then outputs). Asked before memory is planned. */
  opaqueBytes(kernel: string, tensors: readonly (TensorInfo | null)[], attrs: Uint8Array, index: number): number;
  /** Takes the memory (zeroed) or throws MaclError('memory') with needed and free before anything is taken. */
  createSession(sizes: SegmentSizes): Promise<Session>;
  close(): Promise<void>;
}

export interface LoadedProgram {
  readonly id: number;
}

/** What a run returns. */
export interface RunResult {
  /** False where the guard (or an abort) kept the commit phase from running. */
  readonly committed: boolean;
}

export interface RunOptions {
  /**
   * Stops between kernels; the state is then as before the run; rejects with MaclError('aborted').
   */
  readonly signal?: AbortSignal;
}

export interface Session {
  readonly sizes: SegmentSizes;
  /**
   * Bytes that its threads have of their own, beside the segments: what the programs that were loaded ask for (convolutions by
   * Winograd's algorithm).
   */
  readonly scratchBytes: number;
  /**
   * Checks every offset against the segments once; throws MaclError('program'), or 'memory' where the program's kernels need
   * more for each thread than there is.
   */
  load(program: Uint8Array): LoadedProgram;
  /** Copies bytes in or out. Not while a program runs. */
  write(segment: SegmentName, offset: number, bytes: Uint8Array): void;
  read(segment: SegmentName, offset: number, bytes: number): Uint8Array;
  /** One call, one step; off the event loop's thread. One at a time. */
  run(program: LoadedProgram, options?: RunOptions): Promise<RunResult>;
  /** Milliseconds of each instruction of the run that ended last; empty where the backend does not know (`cpu` and `reference` do). */
  times(): Float64Array;
  /** Frees the memory. Further calls reject with MaclError('state'). */
  close(): Promise<void>;
}

/** Why a backend is or is not used, for `macl inspect`. */
export interface BackendReport {
  readonly name: BackendName;
  readonly available: boolean;
  readonly isas: readonly string[];
  readonly reason: string;
  readonly version?: string;
}
