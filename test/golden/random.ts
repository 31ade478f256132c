/** Pseudo-random inputs for tests without golden values: the same for every run and machine, exact in fp32. */
import type { Case, Inputs, OpCases } from '../cases/types.js';

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

/** Inputs of a case, as its list draws them, once however often they are asked for. */
export function randomInputs(seed: number, list: OpCases, c: Case): Inputs {
  const drawn = new Map<string, Float64Array>();
  return (name, count) => {
    const known = drawn.get(name);
    if (known?.length === count) return known;
    const next = uniform(seed * 1009 + [...name].reduce((h, ch) => (h * 31 + ch.charCodeAt(0)) >>> 0, 7));
    const values = Float64Array.from({ length: count }, () => {
      const value = list.random ? list.random(c, name, next) : normal(next);
      return Number.isInteger(value) ? value : Math.fround(value);
    });
    drawn.set(name, values);
    return values;
  };
}
