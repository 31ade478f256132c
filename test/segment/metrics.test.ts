import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Triple } from '../../src/volume.js';
import { squaredDistanceInBox, squaredDistanceMm2 } from '../../src/segment/distance.js';
import { caseMetrics, METRIC_NAMES, type MetricName } from '../../src/segment/metrics.js';
import { percentile, surfaceOf } from '../../src/segment/metrics-surface.js';

/** SciPy's values; made by tools/goldens/metrics.py, which also names the version. */
interface Golden {
  cases: {
    name: string;
    shape: Triple;
    spacingMm: Triple;
    classes: number[];
    pred: string;
    ref: string;
    metrics: Record<string, Record<MetricName, number | string> & { empty?: string }>;
  }[];
  distances: { shape: Triple; spacingMm: Triple; seeds: string; distanceMm: number[] }[];
  percentiles: { values: number[]; q: Record<string, number> }[];
}

const golden = JSON.parse(readFileSync(new URL('../fixtures/metrics.json', import.meta.url), 'utf8')) as Golden;

function bytes(base64: string): Uint8Array {
  return new Uint8Array(Buffer.from(base64, 'base64'));
}

const WORDS: Record<string, number> = { nan: NaN, inf: Infinity };

function expectNear(found: number, wanted: number | string, what: string): void {
  if (typeof wanted === 'string') expect(found, what).toBe(WORDS[wanted]);
  else expect(Math.abs(found - wanted), `${what}: ${found} against ${wanted}`).toBeLessThan(1e-9);
}

describe('distance transform', () => {
  it.each(golden.distances.map((one) => [one.shape.join('×'), one] as const))(
    'agrees with SciPy: %s',
    async (_, one) => {
      const squared = await squaredDistanceMm2(bytes(one.seeds), one.shape, one.spacingMm);
      expect(squared.length).toBe(one.distanceMm.length);
      one.distanceMm.forEach((wanted, i) => expectNear(Math.sqrt(squared[i]!), wanted, `voxel ${i}`));
    },
  );

  it('is infinite without a seed', async () => {
    const squared = await squaredDistanceMm2(new Uint8Array(24), [2, 3, 4], [1, 1, 1]);
    expect([...squared].every((value) => value === Infinity)).toBe(true);
  });

  it('sees only seeds of the box', async () => {
    const seeds = new Uint8Array(4 * 5 * 6);
    seeds[0] = 1;
    seeds[(2 * 5 + 3) * 6 + 4] = 1;
    const box = { start: [1, 2, 3] as Triple, size: [2, 2, 2] as Triple };
    const squared = await squaredDistanceInBox(seeds, [4, 5, 6], [3, 2, 1], box);
    // The seed is at (1, 1, 1) of the box.
    expect([...squared]).toEqual([14, 13, 10, 9, 5, 4, 1, 0]);
  });
});

describe('percentile', () => {
  it('interpolates linearly, as NumPy', async () => {
    for (const { values, q } of golden.percentiles) {
      for (const [share, wanted] of Object.entries(q)) {
        expectNear(await percentile(Float64Array.from(values), Number(share)), wanted, `${values.length} at ${share}`);
      }
    }
    expect(await percentile(new Float64Array(0), 95)).toBeNaN();
  });
});

describe('surface', () => {
  it('of a full volume is its shell', async () => {
    const surface = await surfaceOf(new Uint8Array(27).fill(1), [3, 3, 3], [true, true, true]);
    expect(surface.reduce((sum, value) => sum + value, 0)).toBe(26);
    expect(surface[13]).toBe(0);
  });

  it('in 2-D does not look along D', async () => {
    const surface = await surfaceOf(new Uint8Array(9).fill(1), [1, 3, 3], [false, true, true]);
    expect([...surface]).toEqual([1, 1, 1, 1, 0, 1, 1, 1, 1]);
  });
});

describe('case metrics', () => {
  it.each(golden.cases.map((one) => [one.name, one] as const))('agree with SciPy: %s', async (_, one) => {
    const found = await caseMetrics(bytes(one.pred), bytes(one.ref), one.shape, one.spacingMm, one.classes);
    expect([...found.keys()]).toEqual(one.classes);
    for (const [value, metrics] of found) {
      const wanted = one.metrics[String(value)]!;
      expect(metrics.empty).toBe(wanted.empty);
      for (const name of METRIC_NAMES) expectNear(metrics[name], wanted[name], `class ${value} ${name}`);
    }
  });

  it('do not depend on where in the volume the masks lie', async () => {
    const one = golden.cases[0]!;
    const [depth, height, width] = one.shape;
    const bigger: Triple = [depth + 3, height + 2, width + 5];
    const moved = (base64: string): Uint8Array => {
      const out = new Uint8Array(bigger[0] * bigger[1] * bigger[2]);
      bytes(base64).forEach((value, i) => {
        const w = i % width;
        const h = Math.floor(i / width) % height;
        const d = Math.floor(i / (width * height));
        out[((d + 2) * bigger[1] + h + 1) * bigger[2] + w + 3] = value;
      });
      return out;
    };
    const found = await caseMetrics(moved(one.pred), moved(one.ref), bigger, one.spacingMm, one.classes);
    for (const [value, metrics] of found) {
      for (const name of METRIC_NAMES) expectNear(metrics[name], one.metrics[String(value)]![name], name);
    }
  });

  it('name what does not fit', async () => {
    const eight = new Uint8Array(8);
    await expect(caseMetrics(new Uint8Array(7), eight, [2, 2, 2], [1, 1, 1], [1])).rejects.toMatchObject({
      code: 'geometry',
      details: { field: 'pred', expected: 8, found: 7 },
    });
    await expect(caseMetrics(eight, eight, [2, 2, 2], [1, 0, 1], [1])).rejects.toMatchObject({
      code: 'geometry',
      details: { field: 'spacingMm' },
    });
  });

  it('stop when aborted', async () => {
    const signal = AbortSignal.abort();
    const eight = new Uint8Array(8);
    await expect(caseMetrics(eight, eight, [2, 2, 2], [1, 1, 1], [1], { signal })).rejects.toMatchObject({
      code: 'aborted',
    });
  });
});
