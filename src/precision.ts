/**
 * The arithmetic of a network: what activations and their gradients are held in. Weights, their gradients and statistics stay
 * in the backend's own dtype in either (masters), losses and sums in float64.
 */
export const PRECISIONS = ['fp32', 'bf16'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** Instruction sets whose kernels hold activations in fp32 alone: the plain ones, and CUDA's. */
const FP32_ALONE: readonly string[] = ['plain', 'fp32', 'tf32'];

/** What a backend has by its instruction set (`BackendInfo.isa`). */
export function precisionsOf(isa: string): readonly Precision[] {
  return FP32_ALONE.includes(isa) ? ['fp32'] : PRECISIONS;
}

/** Of the error where a backend lacks one: what the command line turns into its own. */
export const PRECISION_FIELD = 'train.precision';
