/** What is known of SimCLR's and PCL's loss without running another framework, and what their configurations refuse. */
import { afterAll, describe, expect, test } from 'vitest';
import { openBackend } from '../../src/backend/choose.js';
import { resolveConfig } from '../../src/config/index.js';
import { GraphBuilder } from '../../src/graph/builder.js';
import { methodNamed } from '../../src/methods/index.js';
import { stubBackend } from '../graph/helpers.js';
import { declareNetwork } from '../../src/methods/network.js';
import { buildStep } from '../../src/methods/step.js';
import { supcon } from '../../src/ops/index.js';
import { normal, uniform } from '../golden/random.js';
import { Rig } from '../golden/rig.js';
import { MaclError } from '../../src/errors.js';

const backend = await openBackend('reference', { threads: 1 });
afterAll(() => backend.close());

/** @param z rows of the first view, then of the second */
async function ntXent(
  z: readonly (readonly number[])[],
  temperature: number,
  positions?: readonly number[],
  scale = 1,
) {
  const [samples, width] = [z.length / 2, z[0]!.length];
  const rig = new Rig(backend);
  const view = (name: string, rows: readonly (readonly number[])[]) =>
    rig.input(name, [samples, 1, 1, 1, width], rows.flat());
  const [z1, z2] = [view('z1', z.slice(0, samples)), view('z2', z.slice(samples))];
  const pos = rig.input('pos', [samples, 1, 1, 1, 1], positions ?? new Float64Array(samples), 'f64');
  const threshold = positions ? 0.1 : 0;
  rig.result('loss', supcon(rig.b, z1, z2, pos, { temperature, threshold, scale }).loss);
  const ready = await rig.ready();
  try {
    await ready.run();
    return ready.read('loss')[0] as number;
  } finally {
    await ready.close();
  }
}
const unit = (i: number, width: number) => Array.from({ length: width }, (_, k) => (k === i ? 1 : 0));
const errorOf = (config: object): MaclError => {
  try {
    resolveConfig(config);
  } catch (error) {
    if (error instanceof MaclError) return error;
    throw error;
  }
  throw new Error('accepted');
};

describe('NT-Xent, the loss at threshold 0', () => {
  test.each([
    [2, 1.0986123],
    [16, 3.4339872],
  ])('of %i samples that all look alike, or have nothing in common, is ln(2B − 1)', async (samples, value) => {
    const alike = Array.from({ length: 2 * samples }, () => [0.3, -0.7, 0.2]);
    expect(await ntXent(alike, 0.1)).toBeCloseTo(value, 6);
    const orthogonal = Array.from({ length: 2 * samples }, (_, i) => unit(i, 2 * samples));
    expect(await ntXent(orthogonal, 0.1)).toBeCloseTo(value, 6);
  });

  test.each([
    [2, 0.1, 9.079574e-5],
    [16, 0.1, 1.361071e-3],
    [8, 0.5, 1.0628794],
  ])('of %i samples told apart whole at τ = %d', async (samples, temperature, value) => {
    const rows = Array.from({ length: 2 * samples }, (_, i) => unit(i % samples, samples));
    expect(Math.abs((await ntXent(rows, temperature)) / value - 1)).toBeLessThan(1e-6);
  });

  test('of random unit rows lies where their similarities put it', async () => {
    const next = uniform(5);
    const values = [];
    for (let k = 0; k < 20; k++) {
      const rows = Array.from({ length: 32 }, () => Array.from({ length: 128 }, () => normal(next)));
      values.push(await ntXent(rows, 0.1));
    }
    const mean = values.reduce((a, b) => a + b, 0) / 20;
    expect(mean).toBeGreaterThan(Math.log(31));
    expect(mean).toBeLessThan(3.8246);
    expect(mean).toBeCloseTo(3.73, 0);
  });

  test('takes the other view alone for a positive, wherever the samples lie', async () => {
    const next = uniform(9);
    const rows = Array.from({ length: 8 }, () => Array.from({ length: 5 }, () => normal(next)));
    const u = rows.map((z) => z.map((v) => v / Math.hypot(...z)));
    const cosine = (i: number, j: number) => u[i]!.reduce((sum, v, c) => sum + v * u[j]![c]!, 0) / 0.2;
    let want = 0;
    for (let i = 0; i < 8; i++) {
      const others = [0, 1, 2, 3, 4, 5, 6, 7].filter((j) => j !== i);
      want += Math.log(others.reduce((sum, j) => sum + Math.exp(cosine(i, j)), 0)) - cosine(i, (i + 4) % 8);
    }
    expect(await ntXent(rows, 0.2)).toBeCloseTo(want / 8, 10);
  });
});

describe("PCL's loss", () => {
  test.each([
    ['each its own', [0, 0.2, 0.4, 0.6]],
    ['in pairs', [0, 0.05, 0.4, 0.45]],
    ['all near', [0, 0.01, 0.02, 0.03]],
  ])('is ln(2B − 1) where all look alike, positions %s', async (_, positions) => {
    const alike = Array.from({ length: 8 }, () => [1, 2, 3]);
    expect(await ntXent(alike, 0.1, positions)).toBeCloseTo(Math.log(7), 9);
    expect(await ntXent(alike, 0.1, positions, 0.1 / 0.07)).toBeCloseTo(1.4285714285714286 * Math.log(7), 9);
  });

  test("has the released code's factor where it is asked for", () => {
    const scaleOf = (loss: object) => {
      const config = resolveConfig({
        task: 'pretrain',
        method: 'pcl',
        model: { dims: 2, levels: 1, filters: 2, decoderBlocks: 1 },
        loss,
      });
      const net = declareNetwork(config, stubBackend.info, 'training');
      const graph = buildStep(net, { batch: 2, patch: [1, 8, 8] }, 'given', new GraphBuilder('f32'));
      return graph.nodes.find((n) => n.kernel.startsWith('supcon'))!.attrs['scale'];
    };
    expect(scaleOf({})).toBe(1);
    expect(scaleOf({ temperatureFactor: 'code' })).toBeCloseTo(1.4285714, 7);
    expect(resolveConfig({ task: 'pretrain', method: 'pcl', preset: 'code-2d' }).loss).toMatchObject({
      temperatureFactor: 'code',
    });
  });
});

describe('configurations', () => {
  test('τ follows from the rows that are compared, and is kept where it is given', () => {
    const temperature = (batch: number, loss: object = {}) =>
      (resolveConfig({ task: 'pretrain', method: 'simclr', train: { batch }, loss }).loss as { temperature: number })
        .temperature;
    expect([temperature(8), temperature(15), temperature(16)]).toEqual([0.5, 0.5, 0.1]);
    expect(temperature(8, { temperature: 0.07 })).toBe(0.07);
  });

  test.each(['simclr', 'pcl'])('%s changes intensities, and refuses views of one intensity', (method) => {
    const { intensity } = resolveConfig({ task: 'pretrain', method }).augment;
    expect(Math.min(intensity.brightness, intensity.contrast, intensity.noise)).toBeGreaterThan(0);
    const none = { brightness: 0, contrast: 0, noise: 0 };
    const error = errorOf({ task: 'pretrain', method, augment: { intensity: none } });
    expect(error).toMatchObject({ code: 'config', details: { field: 'augment.intensity' } });
    expect(error.message).toMatch(/histograms/);
    const views = methodNamed('pretrain', method).views(resolveConfig({ task: 'pretrain', method }));
    expect(views.map((v) => v.name)).toEqual(['v1', 'v2']);
    expect(views.every((v) => v.kind === 'image' && v.spatial && v.intensity.contrast > 0)).toBe(true);
  });

  test.each([
    [{ method: 'simclr', loss: { threshold: 0.1 } }, 'loss.threshold'],
    [{ method: 'simclr', train: { batch: 1 } }, 'train.batch'],
    [{ method: 'pcl', loss: { weights: {} } }, 'loss.weights'],
    [{ method: 'pcl', data: { position: 'slice' }, loss: { threshold: [0.1, 0.1] } }, 'loss.threshold'],
    [{ method: 'pcl', loss: { threshold: 0 } }, 'loss.threshold'],
  ])('%j is refused at %s', (config, field) => {
    expect(errorOf({ task: 'pretrain', ...config })).toMatchObject({ code: 'config', details: { field } });
  });
});
