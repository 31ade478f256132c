/** The effective rank of features: its arithmetic against eigenvalues in float64, the probe on devices, the watch, the log. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openBackend } from '../../src/backend/choose.js';
import type { Backend } from '../../src/backend/types.js';
import { Draws } from '../../src/philox.js';
import { GraphBuilder } from '../../src/graph/builder.js';
import { checkGraph, checkPlan } from '../../src/graph/check.js';
import { compile, type CompiledProgram } from '../../src/graph/compile.js';
import { declareNetwork } from '../../src/methods/network.js';
import { Watch } from '../../src/train/watch.js';
import { resolveConfig } from '../../src/config/index.js';
import { buildProbe } from '../../src/methods/probe.js';
import { channelProducts } from '../../src/ops/index.js';
import { Executor } from '../../src/model/executor.js';
import { trainLoop, type Loop } from '../../src/train/loop.js';
import { initialState, setEntry, stateTensors } from '../../src/model/network-state.js';
import { pretrain } from '../../src/train/pretrain.js';
import { deadShare, effectiveRank, representationOf, type Representation } from '../../src/train/representation.js';
import { RunFolder } from '../../src/train/run-folder.js';
import { Rig } from '../golden/rig.js';
import { device, listen, logOf, scratchFolder, tinyPretrain, toyDataset } from './toy.js';

const root = scratchFolder();

/** Eigenvalues of a symmetric matrix by Jacobi rotations. */
function eigenvalues(matrix: readonly (readonly number[])[]): number[] {
  const a = matrix.map((row) => [...row]);
  const n = a.length;
  for (let sweep = 0; sweep < 60; sweep++)
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        if (a[p]![q] === 0) continue;
        const theta = 0.5 * Math.atan2(2 * a[p]![q]!, a[q]![q]! - a[p]![p]!);
        const [c, s] = [Math.cos(theta), Math.sin(theta)];
        for (let k = 0; k < n; k++) {
          const [kp, kq] = [a[k]![p]!, a[k]![q]!];
          a[k]![p] = c * kp - s * kq;
          a[k]![q] = s * kp + c * kq;
        }
        for (let k = 0; k < n; k++) {
          const [pk, qk] = [a[p]![k]!, a[q]![k]!];
          a[p]![k] = c * pk - s * qk;
          a[q]![k] = s * pk + c * qk;
        }
      }
  return a.map((row, i) => row[i]!);
}

/** (Σ λ)² / Σ λ² of the covariance of rows, by its definition: centred first, then its eigenvalues. */
function rankByEigenvalues(rows: readonly Float64Array[]): number {
  const c = rows[0]!.length;
  const mean = Array.from({ length: c }, (_, i) => rows.reduce((s, r) => s + r[i]!, 0) / rows.length);
  const covariance = mean.map((_, i) =>
    mean.map((_, j) => rows.reduce((s, r) => s + (r[i]! - mean[i]!) * (r[j]! - mean[j]!), 0) / rows.length),
  );
  const lambda = eigenvalues(covariance);
  return lambda.reduce((s, x) => s + x, 0) ** 2 / lambda.reduce((s, x) => s + x * x, 0);
}

function sumsOf(rows: readonly Float64Array[], name = 'encoder.centre') {
  const channels = rows[0]!.length;
  const products = new Float64Array(channels * channels);
  const sums = new Float64Array(channels);
  for (const r of rows)
    for (let i = 0; i < channels; i++) {
      sums[i]! += r[i]!;
      for (let j = 0; j < channels; j++) products[i * channels + j]! += r[i]! * r[j]!;
    }
  return { name, channels, count: rows.length, products, sums };
}

/** Rows whose channels are mixtures of `directions` independent normals, over a mean. */
function mixtures(count: number, channels: number, directions: number, seed: number): Float64Array[] {
  const draws = new Draws(seed, 0, 0, 0);
  const mix = Array.from({ length: channels }, () => Array.from({ length: directions }, () => draws.normal()));
  return Array.from({ length: count }, () => {
    const z = Array.from({ length: directions }, () => draws.normal());
    return Float64Array.from(mix, (row, i) => 2 + 0.1 * i + row.reduce((s, w, k) => s + w * z[k]!, 0));
  });
}

describe('the effective rank', () => {
  it.each([
    [1, 9],
    [3, 9],
    [20, 16],
  ])('of mixtures of %d directions in %d channels is that of the eigenvalues', (directions, channels) => {
    const rows = mixtures(400, channels, directions, directions);
    const rank = effectiveRank(sumsOf(rows));
    expect(rank).toBeCloseTo(rankByEigenvalues(rows), 9);
    expect(rank).toBeLessThanOrEqual(Math.min(directions, channels) + 1e-9);
  });

  it('is the number of channels where they vary alike and apart, 1 where they are one, 0 where nothing varies', () => {
    const axes = [0, 1, 2, 3].flatMap((i) =>
      [-1, 1].map((s) => Float64Array.from({ length: 4 }, (_, j) => (i === j ? s : 0))),
    );
    expect(effectiveRank(sumsOf(axes))).toBeCloseTo(4, 12);
    const one = [1, 2, 5].map((v) => Float64Array.of(v, -v, 3 * v));
    expect(effectiveRank(sumsOf(one))).toBeCloseTo(1, 12);
    expect(effectiveRank(sumsOf([1, 1, 1].map(() => Float64Array.of(0.1, 7.3, 0))))).toBe(0);
    expect(effectiveRank(sumsOf([Float64Array.of(NaN, 1), Float64Array.of(1, 2)]))).toBeNaN();
  });

  it('counts units that are zero everywhere', () => {
    const rows = [Float64Array.of(0, 1, 0, 2), Float64Array.of(0, 0, 0, 1)];
    expect(deadShare(sumsOf(rows))).toBe(0.5);
    expect(representationOf([sumsOf(rows)]).deadUnits).toBe(0.5);
  });
});

describe.each(['reference', device] as const)('the probe on %s', (name) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await openBackend(name, { threads: 2 });
    return () => backend.close();
  });
  const places = name === 'reference' ? 9 : 3;

  it.each([5, 16, 24])('sums products of %d channels as their definition does', async (channels) => {
    const rows = mixtures(3 * 4 * 5 * 6, channels, channels, 9).map((row) => row.map(Math.fround));
    const rig = new Rig(backend);
    const x = rig.input(
      'x',
      [3, 4, 5, 6, channels],
      rows.flatMap((row) => [...row]),
    );
    const { products, sums } = channelProducts(rig.b, x);
    rig.result('products', products);
    rig.result('sums', sums);
    const ready = await rig.ready();
    await ready.run();
    const [p, s] = [ready.read('products'), ready.read('sums')];
    await ready.close();
    const level = { name: 'x', channels, count: rows.length, products: p, sums: s };
    expect(effectiveRank(level)).toBeCloseTo(rankByEigenvalues(rows), places);
  });

  it('finds the rank and the dead units of a network whose weights were made so, and changes no state', async () => {
    const { real } = backend.info;
    const model = {
      dims: 3,
      inChannels: 1,
      filters: 4,
      levels: 2,
      decoderBlocks: 1,
      strides: [
        [2, 2, 2],
        [2, 2, 2],
      ],
      kernels: [
        [3, 3, 3],
        [3, 3, 3],
        [3, 3, 3],
      ],
    } as const;
    const net = declareNetwork(resolveConfig({ task: 'pretrain', model }), backend.info, 'training');
    const { graph, levels } = buildProbe(net, 2, [8, 8, 8], 'given', new GraphBuilder(real));
    const program = compile(graph, backend, net.state, 0);
    expect([...checkGraph(program.graph), ...checkPlan(program.plan)]).toEqual([]);
    const state = initialState(net.state, 4, backend.info);
    const look = async (bytes: Uint8Array) => {
      const executor = await Executor.open(backend, [program], bytes);
      try {
        const draws = new Draws(1, 0, 0, 0);
        executor.set(
          program,
          'x',
          Array.from({ length: 2 * 512 }, () => draws.normal()),
        );
        await executor.run(program);
        expect(Buffer.from(executor.readState()).equals(Buffer.from(bytes))).toBe(true);
        return representationOf(
          levels.map((l) => ({
            ...l,
            products: executor.get(program, `${l.name}.products`),
            sums: executor.get(program, `${l.name}.sums`),
          })),
        );
      } finally {
        await executor.close();
      }
    };
    const fresh = await look(state);
    expect(Object.keys(fresh.effectiveRank)).toEqual(['encoder.blocks.0', 'encoder.blocks.1', 'encoder.centre']);
    expect(fresh.effectiveRank['encoder.centre']).toBeGreaterThan(2);
    expect(fresh.deadUnits).toBe(0);

    // All filters of the last convolution become the first one's, and the last four are switched off.
    const made = state.slice();
    for (const part of ['weight', 'bias'] as const) {
      const entry = net.state.entries.find((e) => e.name === `encoder.centre.conv2.${part}`)!;
      const tensor = stateTensors(net.state, made, ['parameter']).get(entry.name)!;
      const values = real === 'f64' ? new Float64Array(tensor.bytes.buffer) : new Float32Array(tensor.bytes.buffer);
      const size = values.length / 16;
      for (let o = 1; o < 16; o++) values.copyWithin(o * size, 0, size);
      if (part === 'weight') values.fill(0, 12 * size);
      setEntry(net.state, made, entry, tensor);
    }
    const collapsed = await look(made);
    expect(collapsed.effectiveRank['encoder.centre']).toBeCloseTo(1, places);
    expect(collapsed.effectiveRank['encoder.blocks.1']).toBe(fresh.effectiveRank['encoder.blocks.1']);
    expect(collapsed.deadUnits).toBe(0.25);
  });
});

describe('a pre-training', () => {
  const cacheDir = join(root, 'cache');
  let data: string;
  beforeAll(async () => {
    data = await toyDataset(join(root, 'data'), { cases: 6 });
  });
  const run = (out: string, config: ReturnType<typeof tinyPretrain>, onEvent = listen().onEvent) =>
    pretrain({ data, out: join(root, out), cacheDir, device, threads: 2, config, onEvent });

  it('logs rank and dead units at the first, every fiftieth and the last step, and says them at its end', async () => {
    const { messages, onEvent } = listen();
    const summary = await run('healthy', tinyPretrain({ train: { steps: 60 }, optimizer: { lr: 1e-3 } }), onEvent);
    const looked = logOf(join(root, 'healthy')).filter((r) => 'effectiveRank' in r);
    expect(looked.map((r) => r['step'])).toEqual([1, 51, 60]);
    for (const { effectiveRank, deadUnits } of looked as { effectiveRank: object; deadUnits: number }[]) {
      expect(Object.keys(effectiveRank)).toEqual(['encoder.blocks.0', 'encoder.blocks.1', 'encoder.centre']);
      expect(Object.values(effectiveRank).every((r) => r >= 1 && r <= 8)).toBe(true);
      expect(deadUnits >= 0 && deadUnits <= 1, String(deadUnits)).toBe(true);
    }
    expect(summary.represented).toEqual({
      first: expect.objectContaining({ effectiveRank: looked[0]!['effectiveRank'] }) as unknown,
      last: expect.objectContaining({ effectiveRank: looked[2]!['effectiveRank'] }) as unknown,
    });
    expect(messages('note').join('\n')).toMatch(
      /effective rank, first → last: encoder\.blocks\.0 \d\.\d → \d\.\d, .*encoder\.centre .*dead units in the centre: \d+% → \d+%/,
    );
    expect(messages('warning').filter((w) => w.includes('collapse of dimensions'))).toEqual([]);
  });

  it('that is resumed knows how it began', async () => {
    const config = tinyPretrain({ train: { steps: 60, checkpointEvery: 40 }, optimizer: { lr: 1e-3 } });
    await run('resumed', config);
    const out = join(root, 'resumed');
    const whole = logOf(out);
    // As a kill between the checkpoints would leave it: the model and the last checkpoint are not there.
    for (const name of ['model.safetensors', 'checkpoints/step-000000060.safetensors']) rmSync(join(out, name));
    const summary = await pretrain({ data, out, cacheDir, device, config, resume: true });
    expect(logOf(out)).toEqual(whole);
    expect(summary.represented?.first.effectiveRank).toEqual(whole[0]!['effectiveRank']);
    expect(summary.represented?.last.effectiveRank).toEqual(whole.at(-1)!['effectiveRank']);
  });
});

describe('a collapse of dimensions', () => {
  /** Warnings of a loop of 401 steps whose features are `at(step)` before each look. */
  async function warnings(name: string, at: (step: number) => Representation, first?: Representation) {
    const folder = await RunFolder.open(join(root, name), { resume: false });
    const found: string[] = [];
    let step = 0;
    const executor = {
      set: () => undefined,
      run() {
        step++;
        return Promise.resolve(true);
      },
      scalar: () => 1,
      readState: () => new Uint8Array(0),
    } as unknown as Executor;
    const { represented } = await trainLoop({
      executor,
      programAt: () => ({}) as CompiledProgram,
      state: { entries: [], bytes: 0 } as unknown as Loop['state'],
      schedule: { name: 'constant', lr: 1, lrFinal: 1, steps: 401 },
      batch: 1,
      startStep: 0,
      results: ['loss'],
      checkpointEvery: 1000,
      metadata: {},
      watch: new Watch(
        [],
        (message) => found.push(message),
        first ? { firstRepresentation: JSON.stringify(first) } : {},
      ),
      folder,
      represent: () => Promise.resolve(at(step)),
      prepareInput: () => undefined,
    });
    await folder.close();
    return { found, represented };
  }
  const ranks = (block: number, centre: number, deadUnits = 0): Representation => ({
    effectiveRank: { 'encoder.blocks.0': block, 'encoder.centre': centre },
    deadUnits,
  });

  it('is warned about where a level falls below a quarter of where it began, each level once', async () => {
    // The centre is made to lose a third every 50 steps, the block to lose a tenth.
    const collapsing = (step: number) => ranks(6 * 0.9 ** (step / 50), 16 * 0.66 ** (step / 50), step / 1000);
    const { found, represented } = await warnings('made', collapsing);
    expect(found).toEqual([
      expect.stringMatching(
        /^collapse of dimensions: the effective rank of encoder\.centre is 3\.0, below a quarter of the 16\.0 that it began with \(step 201\)/,
      ),
    ]);
    expect(represented).toEqual({ first: collapsing(0), last: collapsing(400) });
  });

  it('is not where ranks halve, grow again or begin at nothing', async () => {
    const wavering = (step: number) => ranks(0, step % 100 === 0 ? 16 : 4.1);
    expect((await warnings('healthy-loop', wavering)).found).toEqual([]);
  });

  it('is measured against the beginning of a run that goes on', async () => {
    const { found, represented } = await warnings('goes-on', () => ranks(6, 3), ranks(6, 16));
    expect(found).toEqual([expect.stringMatching(/centre is 3\.0, below a quarter of the 16\.0 .*\(step 1\)/)]);
    expect(represented!.first).toEqual(ranks(6, 16));
  });
});
