/**
 * The arithmetic of a network: what activations and their gradients are held in. Weights, their gradients and statistics stay
 * in the backend's own dtype in either (masters), losses and sums in float64.
 */
export const PRECISIONS = ['fp32', 'bf16'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** What may be asked for: `auto` becomes one of these on the device, once; nothing that is stored says it. */
export const PRECISION_CHOICES = [...PRECISIONS, 'auto'] as const;
export type PrecisionChoice = (typeof PRECISION_CHOICES)[number];

/**
 * `auto` is bf16 where kernels hold activations in it, which halves what they read and write (docs/performance.md has what it does
 * to the Dice). The reference only rounds, and is not faster for it.
 */
export function chosenPrecision(
  choice: PrecisionChoice,
  info: { readonly real: 'f32' | 'f64'; readonly precisions: readonly Precision[] },
): Precision {
  if (choice !== 'auto') return choice;
  return info.real === 'f32' && info.precisions.includes('bf16') ? 'bf16' : 'fp32';
}

/** Instruction sets whose kernels hold activations in fp32 alone: the plain ones, and CUDA's. */
const FP32_ALONE: readonly string[] = ['plain', 'fp32', 'tf32'];

/** What a backend has by its instruction set (`BackendInfo.isa`). */
export function precisionsOf(isa: string): readonly Precision[] {
  return FP32_ALONE.includes(isa) ? ['fp32'] : PRECISIONS;
}

/** The instruction set whose bits a run has: amx and avx512bf16 differ from avx512 in bf16 alone. */
export function bitsOf(isa: string, precision: Precision): string {
  return precision === 'fp32' && (isa === 'amx' || isa === 'avx512bf16') ? 'avx512' : isa;
}

/** Of the error where a backend lacks one: what the command line turns into its own. */
export const PRECISION_FIELD = 'train.precision';
