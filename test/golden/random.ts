/** Pseudo-random inputs for tests without golden values: the same for every run and machine, exact in fp32. */
import type { Inputs } from './drivers.js';

/** Mulberry32. */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function normal(next: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}

/** Inputs of a case: normal values, but positions and running variances in (0, 1) and labels 0 … classes − 1. */
export function randomInputs(seed: number, classes = 2): Inputs {
  return (name, count) => {
    const next = uniform(seed * 1009 + [...name].reduce((h, c) => (h * 31 + c.charCodeAt(0)) >>> 0, 7));
    if (name === 'y') return Int32Array.from({ length: count }, () => Math.floor(next() * classes));
    if (name === 'pos' || name === 'rv') return Float32Array.from({ length: count }, () => 0.2 + 0.8 * next());
    return Float32Array.from({ length: count }, () => normal(next));
  };
}
