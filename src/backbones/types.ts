/**
 * What a backbone is to everything above it: methods, planning, transfer, probes ask for nothing else. A backbone is one
 * object in one file of this folder, and a line in `index.ts`.
 */
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import type { PassMode } from '../nn/layers.js';
import type { StateBuilder } from '../nn/state.js';
import type { ModelConfig } from '../settings/types.js';

/** What an encoder gives: the deepest features, and those of each level above (level 0, the finest, first). */
export interface Encoded {
  readonly bottleneck: Tensor;
  readonly skips: readonly Tensor[];
}

export interface Encoder {
  /** @param x [N, D, H, W, C] @returns bottleneck [N, …, wide], and a skip a level */
  encode(b: GraphBuilder, x: Tensor, mode: PassMode): Encoded;
}

/** The decoder blocks that were declared, the deepest first. */
export interface Decoder {
  readonly blocks: number;
  /** @returns the output of the last declared block, [N, …, narrow(blocks)] */
  decode(b: GraphBuilder, from: Encoded, mode: PassMode): Tensor;
}

export interface Head {
  /** @param x the whole decoder's output @returns [N, D, H, W, outputs] */
  apply(b: GraphBuilder, x: Tensor): Tensor;
}

/** Where a tensor of the state belongs: what transfer and parameter groups go by. */
export type Part =
  | { readonly part: 'encoder' | 'skip' | 'head' }
  /** Block 0 is the deepest. */
  | { readonly part: 'decoder'; readonly block: number };

export interface Backbone {
  /** `model.backbone`. */
  readonly name: string;
  readonly describe: string;
  /** The paper, or the code that it was read from. */
  readonly source: string;
  /** Filters of the first level that a plan takes. */
  filters(dims: 2 | 3): number;
  declareEncoder(s: StateBuilder, model: ModelConfig): Encoder;
  declareDecoder(s: StateBuilder, model: ModelConfig, blocks: number): Decoder;
  declareHead(s: StateBuilder, model: ModelConfig, outputs: number): Head;
  /** Channels of the bottleneck. */
  wide(model: ModelConfig): number;
  /** Channels after decoder blocks 0 … blocks − 1. */
  narrow(model: ModelConfig, blocks: number): number;
  /** Name of the convolution that sees the input: it is summed over its inputs where one channel stands for many. */
  readonly firstConvolution: string;
  /** Names of the encoder's levels, those of the skips and then the bottleneck's: what a probe reports by. */
  levelNames(model: ModelConfig): readonly string[];
  /** Null for what is none of the backbone's (projectors). */
  partOf(name: string): Part | null;
  /** Voxels that the smallest bottleneck of a step needs for what is normalised there. */
  readonly bottleneck: {
    /** Counted over all samples of a batch, or in each. */
    readonly per: 'batch' | 'sample';
    /** Fewer are refused. */
    readonly least: number;
    /** Fewer are warned of. */
    wanted(dims: 2 | 3): number;
  };
}

/** The parts of names as U-Nets have them: `encoder.…`, `skip.…`, `decoder.blocks.i.…`, `head.…` or `heads.i.…`. */
export function partByPrefix(name: string): Part | null {
  const block = /^decoder\.blocks\.(\d+)\./.exec(name)?.[1];
  if (block !== undefined) return { part: 'decoder', block: Number(block) };
  if (name.startsWith('encoder.')) return { part: 'encoder' };
  if (name.startsWith('skip.')) return { part: 'skip' };
  return /^heads?\./.test(name) ? { part: 'head' } : null;
}
