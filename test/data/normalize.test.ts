/** Normalisation by kind, against the same arithmetic on a sorted list; and what one hot voxel does to it. */
import { describe, expect, it } from 'vitest';
import { Breather } from '../../src/breathe.js';
import { type ChannelNormalization, measureChannel, normalizeInto } from '../../src/data/prepare/normalize.js';
import { orderStatistics } from '../../src/data/prepare/order-statistics.js';
import { type VoxelArray } from '../../src/volume.js';

const breath = new Breather();
const ROBUST: ChannelNormalization = { kind: 'robust', percentiles: [0.5, 99.5] };
const CASE: ChannelNormalization = { kind: 'case' };

/** Reproducible numbers in (0, 1). */
function* numbers(seed: number): Generator<number, never> {
  for (let x = seed; ;) yield (x = (x * 48271) % 2147483647) / 2147483647;
}
const someOf = (length: number, of: (u: number) => number, seed = 1): number[] => {
  const stream = numbers(seed);
  return Array.from({ length }, () => of(stream.next().value));
};

function byHand(values: readonly number[], low = -Infinity, high = Infinity) {
  const kept = values.filter((v) => v !== 0).map((v) => Math.min(Math.max(v, low), high));
  const mean = kept.reduce((a, b) => a + b, 0) / kept.length;
  return { mean, std: Math.sqrt(kept.reduce((a, b) => a + (b - mean) ** 2, 0) / kept.length) };
}

describe('order statistics', () => {
  it.each([
    ['small whole numbers', Int16Array.from(someOf(5000, (u) => Math.round(40 * u) - 20))],
    ['floats of either sign', Float32Array.from(someOf(40_000, (u) => Math.tan(3 * (u - 0.5))))],
    ['the whole range of float32', Float64Array.from(someOf(999, (u) => (u < 0.5 ? -1 : 1) * 10 ** (70 * u - 33)))],
    ['one value', Uint8Array.of(7)],
    ['some zeros', Float32Array.from(someOf(777, (u) => (u < 0.4 ? 0 : u)))],
  ] as [string, VoxelArray][])('of %s are those of a sorted list', async (_, values) => {
    const sorted = Float32Array.from(values as Float32Array)
      .filter((v) => v !== 0)
      .sort();
    const ranks = [0, 1, Math.floor(sorted.length / 3), sorted.length - 2, sorted.length - 1].filter(
      (rank) => rank >= 0 && rank < sorted.length,
    );
    const found = await orderStatistics(
      values,
      (count) => {
        expect(count).toBe(sorted.length);
        return ranks;
      },
      breath,
    );
    expect(found).toEqual(ranks.map((rank) => sorted[rank]));
  });

  it('of zeros alone are zero', async () => {
    expect(await orderStatistics(new Float32Array(9), (count) => [0, count - 1], breath)).toEqual([0, 0]);
  });
});

describe('normalisation that is ordered by a channel', () => {
  it.each([
    ['unit', [-2, 0, 6, 2], [0, 0.25, 1, 0.5]],
    ['unit', [3, 3, 3], [0, 0, 0]],
    ['none', [0, 0.25, 70000, -3], [0, 0.25, 70000, -3]],
  ] as const)('%s: %j becomes %j', async (kind, from, to) => {
    const values = Float32Array.from(from);
    const { applied, warning } = await measureChannel(values, { kind }, breath);
    const out = new Float32Array(values.length);
    normalizeInto(values, applied, out);
    expect([...out]).toEqual([...to]);
    expect(warning).toBeUndefined();
  });
});

describe('normalisation per case', () => {
  const values = someOf(20_000, (u) => (u < 0.3 ? 0 : 100 + 50 * u));

  it('robust clips to percentiles of what is not zero, case does not', async () => {
    const { applied } = await measureChannel(Float32Array.from(values), ROBUST, breath);
    const sorted = Float32Array.from(values.filter((v) => v !== 0)).sort();
    const [low, high] = [Math.floor(0.005 * (sorted.length - 1)), Math.ceil(0.995 * (sorted.length - 1))];
    expect([applied.low, applied.high]).toEqual([sorted[low], sorted[high]]);
    const expected = byHand([...Float32Array.from(values)], sorted[low], sorted[high]);
    expect(applied.mean).toBeCloseTo(expected.mean, 9);
    expect(applied.std).toBeCloseTo(expected.std, 9);
    const plain = await measureChannel(Float32Array.from(values), CASE, breath);
    expect(plain.warning).toBeUndefined();
    expect(plain.applied).toMatchObject({ low: null, high: null });
    expect(plain.applied.std).toBeCloseTo(byHand([...Float32Array.from(values)]).std, 9);
  });

  it.each([
    ['one hot voxel', [30_000], /largest value 30000 lies .* deviations beyond the 99.5th percentile .* times as flat/],
    ['a cold one', [-30_000], /smallest value -30000 lies .* beyond the 0.5th percentile/],
    ['twenty of them', Array.from({ length: 20 }, (_, n) => 20_000 + n), /largest value 20000 lies/],
  ] as [string, number[], RegExp][])('%s does not move robust, and is a warning in case', async (_, hot, words) => {
    const clean = Float32Array.from(values);
    const spoilt = clean.slice();
    hot.forEach((value, n) => (spoilt[500 + 37 * n] = value));
    const [before, after] = [new Float32Array(clean.length), new Float32Array(clean.length)];
    normalizeInto(clean, (await measureChannel(clean, ROBUST, breath)).applied, before);
    const robust = await measureChannel(spoilt, ROBUST, breath);
    expect(robust.warning).toBeUndefined();
    normalizeInto(spoilt, robust.applied, after);
    const others = [...before.keys()].filter((i) => spoilt[i] === clean[i] && clean[i] !== 0);
    expect(Math.max(...others.map((i) => Math.abs(before[i]! - after[i]!)))).toBeLessThan(0.05);
    const plain = await measureChannel(spoilt, CASE, breath);
    expect(plain.warning).toMatch(words);
    expect(plain.warning).toMatch(/data.normalize "robust"/);
  });

  it('robust keeps what lies outside its percentiles where everything between them is one value', async () => {
    const sparse = new Float32Array(10_000).fill(5);
    sparse.fill(9, 0, 20);
    const { applied, warning } = await measureChannel(sparse, ROBUST, breath);
    expect(warning).toBeUndefined();
    expect(applied).toMatchObject({ low: null, high: null });
    expect(applied.std).toBeCloseTo(byHand([...sparse]).std, 9);
  });

  it.each([ROBUST, CASE])('a channel without contrast becomes 0 at its mean ($kind)', async (rule) => {
    for (const value of [0, 3.3]) {
      const { applied } = await measureChannel(new Float64Array(500).fill(value), rule, breath);
      expect(applied).toMatchObject({ low: null, high: null, std: 1 });
      expect(applied.mean).toBeCloseTo(value, 12);
    }
  });
});
