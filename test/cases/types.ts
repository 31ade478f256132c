/**
 * What the case list of an operation says: its cases, how one is put into a graph, and what is known of the values. Golden
 * values, parity, gradient checks, fusions, threads and benchmarks read nothing else; tools/goldens/ops.py reads the literal
 * `cases` of the same file.
 */
import type { BackendName } from '../../src/backend/types.js';
import type { Rig } from '../golden/rig.js';

export type Triple = readonly [number, number, number];
/** [N, D, H, W, C] */
export type Shape = readonly [number, number, number, number, number];

export interface Case {
  readonly name: string;
  /** Whether test/fixtures/ops-<op>.safetensors has its values; the others are held against the reference alone. */
  readonly golden: boolean;
  /** Small enough for finite differences of every element. */
  readonly gradcheck: boolean;
}

/** Values of an input, by name; the count is what the shape holds. */
export type Inputs = (name: string, count: number) => ArrayLike<number>;

export interface Mode {
  /** What gradients hold before; undefined: the kernels write. */
  readonly addTo?: number;
  /** Upstream gradient of a loss. */
  readonly dloss: number;
}

/** Names of what a case's program gives back. */
export interface Built {
  readonly results: readonly string[];
  readonly gradients: readonly string[];
  /** Inputs that the gradients belong to, in the same order. */
  readonly wrt: readonly string[];
}

/** Kinds of arithmetic that bounds are given for. */
export type Kind = 'f64' | 'f32' | 'tf32';

export interface OpCases<C extends Case = Case> {
  /** Name of the file, of the fixture, and of the function in tools/goldens/ops.py. */
  readonly op: string;
  readonly cases: readonly C[];
  /** A loss: its gradients scale with `dloss`, and there is no dy. */
  readonly loss?: boolean;
  /** Inputs and results have the names of tools/goldens/ops.py. */
  build(rig: Rig, c: C, inputs: Inputs, mode: Mode): Built;
  /** One value of an input where there are no golden ones; normal without it. */
  random?(c: C, name: string, next: () => number): number;
  /** Golden values of a result, from those of the file; without it the file has them under the result's own name. */
  expected?(c: C, name: string, value: (name: string) => Float64Array): Float64Array;
  /** Largest error over the result's largest entry, where the suite's bound does not hold. */
  tolerance?(c: C, kind: Kind): number | undefined;
  /** Backends that do not have the operation, each with the reason: counted as skipped there. */
  readonly lacks?: Partial<Record<BackendName, string>>;
  /** What a benchmark times (bench/ops.bench.ts). */
  readonly timing?: readonly C[];
}

/** A list whose kind of case is its own affair. */
export function opCases<C extends Case>(list: OpCases<C>): OpCases {
  return list as unknown as OpCases;
}
