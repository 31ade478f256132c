/** VolumeFusion's boxes and mixture: what is drawn lies within the patch, and x is what the labels say. */
import { afterAll, describe, expect, test } from 'vitest';
import { openBackend } from '../../src/backend/choose.js';
import { resolveConfig } from '../../src/config/index.js';
import { methodNamed } from '../../src/methods/index.js';
import { boxmix } from '../../src/ops/index.js';
import { Draws, PURPOSE } from '../../src/philox.js';
import type { Sample } from '../../src/data/sampling/view.js';
import { randomData } from '../golden/random-step.js';
import { Rig } from '../golden/rig.js';
import { StepRun } from '../golden/steprun.js';

const backend = await openBackend('reference', { threads: 1 });
afterAll(() => backend.close());
const method = methodNamed('pretrain', 'volumefusion');
const nobody: Sample = { patches: [], position: [], warps: new Map() };

function boxesOf(patch: readonly [number, number, number], sample: number) {
  const config = resolveConfig({
    task: 'pretrain',
    method: 'volumefusion',
    model: { levels: 1, decoderBlocks: 1 },
    data: { patch },
  });
  const [input] = method.inputs(config);
  const rows = Array.from(input!.values(nobody, new Draws(3, 1, sample, PURPOSE.method)));
  expect(rows).toHaveLength(280);
  return Array.from({ length: 40 }, (_, i) => rows.slice(7 * i, 7 * i + 7));
}

describe('boxes', () => {
  test('are 10 to 40 of the published sizes, within the patch, of five levels', () => {
    const counts = new Set<number>();
    const [levels, sides] = [new Map<number, number>(), [[], [], []] as number[][]];
    for (let sample = 0; sample < 200; sample++) {
      const rows = boxesOf([64, 128, 128], sample);
      const count = rows.findIndex((row) => row[3] === 0);
      const boxes = count < 0 ? rows : rows.slice(0, count);
      counts.add(boxes.length);
      expect(
        rows
          .slice(boxes.length)
          .flat()
          .every((v) => v === 0),
      ).toBe(true);
      for (const row of boxes) {
        [64, 128, 128].forEach((length, axis) => {
          expect(row[axis]).toBeGreaterThanOrEqual(0);
          expect(row[axis]! + row[3 + axis]!).toBeLessThanOrEqual(length);
          sides[axis]!.push(row[3 + axis]!);
        });
        levels.set(row[6]!, (levels.get(row[6]!) ?? 0) + 1);
      }
    }
    expect([Math.min(...counts), Math.max(...counts)]).toEqual([10, 40]);
    expect(sides.map((s) => [Math.min(...s), Math.max(...s)])).toEqual([
      [8, 40],
      [8, 80],
      [8, 80],
    ]);
    const all = [...levels.values()].reduce((a, b) => a + b, 0);
    for (const level of [0, 1, 2, 3, 4]) expect(levels.get(level)! / all).toBeCloseTo(0.2, 1);
  });

  test('fit small and flat patches, are the same for the same counter and others for another', () => {
    for (const patch of [
      [8, 8, 8],
      [2, 4, 6],
    ] as const)
      for (const row of boxesOf(patch, 0))
        patch.forEach((length, a) => expect(row[a]! + row[3 + a]!).toBeLessThanOrEqual(length));
    expect(boxesOf([8, 8, 8], 1)).toEqual(boxesOf([8, 8, 8], 1));
    expect(boxesOf([8, 8, 8], 1)).not.toEqual(boxesOf([8, 8, 8], 2));
  });
});

describe('the mixture', () => {
  test('of ones with zeros is label / 4 at every voxel, later boxes above earlier ones', async () => {
    const rig = new Rig(backend);
    const shape = [1, 6, 6, 6, 1] as const;
    const rows = [
      [0, 0, 0, 6, 6, 3, 1],
      [1, 1, 1, 4, 4, 4, 4],
      [2, 2, 2, 2, 2, 2, 0],
      [5, 5, 5, 4, 4, 4, 3],
      [0, 0, 0, 0, 6, 6, 2],
    ];
    const boxes = rig.input('boxes', [1, rows.length, 7, 1, 1], rows.flat(), 'i32');
    const { x, labels } = boxmix(
      rig.b,
      rig.input('f', shape, new Float64Array(216).fill(1)),
      rig.input('b', shape, new Float64Array(216)),
      boxes,
      4,
    );
    rig.result('x', x);
    rig.result('labels', labels);
    const ready = await rig.ready();
    await ready.run();
    const [mixed, levels] = [ready.read('x'), ready.read('labels')];
    await ready.close();
    expect(mixed).toEqual(levels.map((l) => l / 4));
    const at = (d: number, h: number, w: number) => levels[(d * 6 + h) * 6 + w];
    expect([at(0, 0, 0), at(0, 0, 3), at(1, 1, 1), at(2, 2, 2), at(5, 5, 5)]).toEqual([1, 0, 4, 0, 3]);
    expect(new Set(levels)).toEqual(new Set([0, 1, 3, 4]));
  });

  test('without a word of it in the logits costs ln 5', async () => {
    const config = {
      task: 'pretrain',
      method: 'volumefusion',
      model: { dims: 3, inChannels: 1, filters: 2, levels: 1, decoderBlocks: 1 },
      loss: {},
      optimizer: { name: 'sgd', lr: 0 },
    } as const;
    const data = randomData(config, 2, [8, 8, 8]);
    const silent = {
      ...data,
      weights: (name: string, count: number) =>
        name.startsWith('pretext.') ? new Float64Array(count) : data.weights(name, count),
    };
    const run = await StepRun.create(backend, silent);
    await run.step();
    expect(run.result('loss.ce')[0]).toBeCloseTo(Math.log(5), 9);
    await run.close();
  });
});
