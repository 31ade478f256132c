/** Learning rates by step, against their formulas. */
import { describe, expect, it } from 'vitest';
import { resolveConfig } from '../../src/config/index.js';
import { firstPart, learningRate, type Schedule } from '../../src/train/schedule.js';

const cosine: Schedule = { name: 'cosine', lr: 2e-3, lrFinal: 2e-5, steps: 100 };

describe('learning rate', () => {
  it('of a cosine goes from lr towards lrFinal', () => {
    expect(learningRate(cosine, 0)).toBe(2e-3);
    expect(learningRate(cosine, 50)).toBeCloseTo((2e-3 + 2e-5) / 2, 12);
    expect(learningRate(cosine, 99)).toBeCloseTo(2e-5 + 0.5 * 1.98e-3 * (1 + Math.cos(0.99 * Math.PI)), 12);
  });

  it.each(['cosine', 'cosine-floor', 'constant'] as const)(
    'of %s rises evenly over the warm-up, then begins at lr',
    (name) => {
      const s: Schedule = { ...cosine, name, warmup: 0.1 };
      for (let t = 0; t < 10; t++) expect(learningRate(s, t)).toBeCloseTo((2e-3 * (t + 1)) / 10, 12);
      expect(learningRate(s, 10)).toBe(2e-3);
      // Half of what is left.
      const half = { cosine: (2e-3 + 2e-5) / 2, 'cosine-floor': 1e-3, constant: 2e-3 }[name];
      expect(learningRate(s, 55)).toBeCloseTo(half, 12);
    },
  );

  // nnU-Net's fine-tuning of pre-trained networks (TaWald/nnUNet): 50 of 1000 epochs up, then (1 − t)^0.9.
  const published: Schedule = { name: 'poly', lr: 1e-3, lrFinal: 0, steps: 1000, warmup: 0.05, power: 0.9 };
  it.each([
    [0, 2e-5],
    [49, 1e-3],
    [50, 1e-3],
    [525, 5.358867e-4],
    [999, 1e-3 * (1 / 950) ** 0.9],
  ])('of poly is the published one at step %i: %f', (t, expected) => {
    expect(learningRate(published, t) / expected).toBeCloseTo(1, 6);
  });

  it('of poly has a power of 0.9 unless one is given, and ends at lrFinal', () => {
    expect(learningRate({ ...published, power: undefined }, 525)).toBe(learningRate(published, 525));
    expect(learningRate({ ...published, power: 1, lrFinal: 2e-4 }, 525)).toBeCloseTo(6e-4, 12);
  });

  // The published sawtooths: 25 up and 25 down, then 50 up of 1000; 15 and 15, then 15 of 150.
  it.each([
    [1000, 0.05, 0.05, 50, 25, 50],
    [150, 0.2, 0.1, 30, 15, 15],
  ])('of a sawtooth over %i steps is two polynomials', (steps, sawtooth, warmup, first, up, secondUp) => {
    const s: Schedule = { ...published, name: 'sawtooth', steps, sawtooth, warmup };
    expect(firstPart(s)).toBe(first);
    const at = (t: number) => learningRate(s, t) / 1e-3;
    expect([at(0), at(up - 1), at(up)]).toEqual([1 / up, 1, 1].map((v) => expect.closeTo(v, 12) as number));
    expect(at(first - 1)).toBeCloseTo((1 / (first - up)) ** 0.9, 12);
    expect(at(first)).toBeCloseTo(1 / secondUp, 12);
    expect(at(first + secondUp)).toBe(1);
    const half = first + secondUp + (steps - first - secondUp) / 2;
    expect(at(half)).toBeCloseTo(0.5 ** 0.9, 12);
    for (let t = 0; t < steps; t++) expect(at(t)).toBeGreaterThan(0);
  });

  it('of a sawtooth has two parts whatever its share, where there are two steps', () => {
    const of = (steps: number, sawtooth: number) => firstPart({ name: 'sawtooth', steps, sawtooth });
    expect([of(2, 0.001), of(2, 0.999), of(10, 0.5), of(1, 0.5), of(0, 0.5)]).toEqual([1, 1, 5, 0, 0]);
    expect(firstPart({ name: 'poly', steps: 10, sawtooth: 0.5 })).toBe(0);
  });

  it('without a warm-up, or with one of no step, is as before', () => {
    for (const warmup of [undefined, 0, 0.004])
      for (const t of [0, 1, 77]) expect(learningRate({ ...cosine, warmup }, t)).toBe(learningRate(cosine, t));
  });

  it('has no warm-up by default, and one from 0 to 1 where it is given', () => {
    const of = (optimizer: object) => resolveConfig({ task: 'pretrain', optimizer }).optimizer.warmup;
    expect([of({}), of({ warmup: 0.05 })]).toEqual([0, 0.05]);
    expect(() => of({ warmup: 1.5 })).toThrow(/optimizer\.warmup: expected at most 1/);
  });
});
