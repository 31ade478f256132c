/** The program of a network that only predicts: its weights are loaded once, and what follows from them is computed once. */
import type { Arithmetic } from '../arithmetic.js';
import type { Backend } from '../backend/types.js';
import { compile, type CompiledProgram } from '../graph/compile.js';
import type { StateTable } from '../nn/state.js';
import { foldNorms, type FoldedNorm } from '../ops/conv3d-fold.js';
import { hasVariants } from '../ops/conv3d-variants.js';
import type { Precision } from '../precision.js';
import type { Triple } from '../volume.js';
import { builderFor } from './precision.js';
import { buildInference } from './segmentation.js';

export interface InferenceOptions {
  readonly batch: number;
  readonly patch: Triple;
  readonly precision: Precision;
  readonly arithmetic: Arithmetic;
}

/**
 * Input `x`, result `logits`, for a session in which nothing else runs.
 * @returns the program, and the norms that the loaded weights have to be folded with (`model/fold.ts`): none where convolutions are
 * direct, whose bits are those of norms that are computed, and where a backend has one way alone
 */
export function compileInference(
  net: Parameters<typeof buildInference>[0] & { readonly state: StateTable },
  backend: Backend,
  { batch, patch, precision, arithmetic }: InferenceOptions,
): { readonly program: CompiledProgram; readonly norms: readonly FoldedNorm[] } {
  const built = buildInference(net, batch, patch, builderFor(precision, backend.info));
  const folds = arithmetic !== 'direct' && hasVariants(backend.info.isa);
  const { graph, norms } = folds ? foldNorms(built) : { graph: built, norms: [] };
  return { program: compile(graph, backend, net.state, 0, { arithmetic, setUp: true }), norms };
}
