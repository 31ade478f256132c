/**
 * How convolutions are computed on a backend that has several algorithms for them. `direct`: sums over taps and channels as they
 * stand. `precise`: Winograd's with at most one axis of F(4,3). `fast`: with two, fewer multiplications and larger rounding errors. A
 * backend that has one way alone takes it, whatever is asked for.
 */
export const ARITHMETICS = ['direct', 'precise', 'fast'] as const;
export type Arithmetic = (typeof ARITHMETICS)[number];

/** Where nothing is said. */
export const DEFAULT_ARITHMETIC: Arithmetic = 'fast';

/** Of runs and models that say nothing: those of before there was a choice, and since then those that are direct. */
export const ARITHMETIC_OF_BEFORE: Arithmetic = 'direct';
