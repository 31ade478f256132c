/**
 * The vocabulary of the compiler: dtypes, segments, tensors, nodes, graphs. No behaviour.
 *
 * A graph is a list of kernel calls in the order in which they run (`nodes`) over tensors. A node writes its outputs;
 * a node whose `accumulate` attribute is 1 adds into the outputs that it names instead, and those were written before.
 */

import type { DType, SegmentName } from '../program-record.js';

export { DTYPES, DTYPE_BYTES, SEGMENTS, type DType, type SegmentName } from '../program-record.js';
export type SegmentSizes = Record<SegmentName, number>;

/** Five sizes: activations [N, D, H, W, C]; weights as PyTorch has them, filled up with ones. */
export type Shape = readonly [number, number, number, number, number];

export interface View {
  /** The tensor whose memory this one lies in. */
  readonly of: Tensor;
  /** Elements from the start of `of`; for a channel slice the first channel. */
  readonly offset: number;
  /** A dense part of a flat tensor (true), or a slice of its channels, voxel by voxel (false). */
  readonly dense: boolean;
  /** Where not dense: the first voxel; 0 where absent. */
  readonly voxel?: number;
  /** Not the same values but others that take their place: `of` is dead when this tensor is written. */
  readonly inPlace?: boolean;
}

export interface Tensor {
  readonly id: number;
  readonly name: string;
  readonly shape: Shape;
  readonly dtype: DType;
  /** `scratch` is planned by liveness; the others keep their place. */
  readonly segment: SegmentName;
  /** Opaque tensors (packed weights, workspaces) have a size in bytes that the backend says, and no meaning elsewhere. */
  readonly opaque: boolean;
  /** Lies inside another tensor: a slice of its channels, some of its samples, or (dense) a part of a flat one. */
  view?: View;
  /** Scratch that is read from outside after the program has run (results, gradients): never overlaid. */
  keep?: boolean;
  /** In io: written from outside before each run, by the step's caller or (`constant`) with these bytes. */
  given?: 'input' | 'constant';
  constant?: Uint8Array;
  /** Bytes of an opaque tensor, once the backend has been asked. */
  bytes?: number;
}

export type AttrValue = number;
export interface Node {
  /** Unlike every other node's of its graph; a pass that changes a node keeps it. */
  readonly id: number;
  readonly kernel: string;
  readonly attrs: Readonly<Record<string, AttrValue>>;
  /** By position, in the kernel's signature order; null where an optional one is absent. */
  readonly inputs: readonly (Tensor | null)[];
  readonly outputs: readonly (Tensor | null)[];
  /** Commit nodes write state, and run only if the guard is 0. */
  readonly commit: boolean;
  /** Where it comes from, for the text form: e.g. `encoder.blocks.0.conv1`. */
  readonly scope: string;
  /** Backward nodes: the node that they differentiate. */
  readonly forward?: Node;
  /** Nodes that run again (`recompute`): the node whose work they repeat. */
  readonly again?: Node;
}

export interface Graph {
  readonly nodes: readonly Node[];
  readonly tensors: readonly Tensor[];
  /** int32 scalar (0 = commit) that the engine reads between compute and commit, if there are commit nodes. */
  readonly guard: Tensor | null;
}
