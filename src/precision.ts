/**
 * The arithmetic of a network: what activations and their gradients are held in. Weights, their gradients and statistics stay
 * in the backend's own dtype in either (masters), losses and sums in float64.
 */
export const PRECISIONS = ['fp32', 'bf16'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** Of the error where a backend lacks one: what the command line turns into its own. */
export const PRECISION_FIELD = 'train.precision';
