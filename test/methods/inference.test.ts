/**
 * A network that only predicts: norms folded into convolutions give what computed norms give, on every device; what follows from the
 * weights runs once.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { Breather } from '../../src/breathe.js';
import type { Backend } from '../../src/backend/types.js';
import { resolveConfig } from '../../src/config/index.js';
import { viewOf } from '../../src/graph/codec.js';
import { declareSegmentation } from '../../src/methods/network.js';
import { compileInference } from '../../src/methods/inference.js';
import { Executor } from '../../src/model/executor.js';
import { foldState } from '../../src/model/fold.js';
import { initialState, viewOfEntry } from '../../src/model/network-state.js';
import type { Triple } from '../../src/volume.js';
import { hasVariants } from '../../src/ops/conv3d-variants.js';
import type { FinetuneConfig } from '../../src/settings/types.js';
import { openDevices, openReference } from '../golden/devices.js';
import { normal, uniform } from '../golden/random.js';

const reference = await openReference();
const devices = (await openDevices()).filter(({ label }) => !/reference/.test(label));
afterAll(async () => {
  await reference.close();
  for (const d of devices) await d.backend?.close();
});

const NETWORKS = {
  '3-D': { model: { dims: 3, filters: 16, levels: 2 }, patch: [8, 12, 16] },
  '2-D': { model: { dims: 2, filters: 16, levels: 2 }, patch: [1, 24, 20] },
} as const;
const configOf = ({ model, patch }: (typeof NETWORKS)[keyof typeof NETWORKS]) =>
  resolveConfig({
    task: 'finetune',
    model: { ...model, inChannels: 2, classes: 3 },
    data: { patch, position: 'centre' },
  }) as FinetuneConfig;

/** Logits of two runs, of a network whose norms are far from doing nothing. */
async function infer(backend: Backend, network: keyof typeof NETWORKS, arithmetic: 'direct' | 'fast') {
  const config = configOf(NETWORKS[network]);
  const patch = config.data.patch as Triple;
  const net = declareSegmentation(config, backend.info, 'inference');
  const { program, norms } = compileInference(net, backend, { batch: 2, patch, precision: 'fp32', arithmetic });
  const state = initialState(net.state, 3, backend.info);
  const next = uniform(9);
  for (const entry of net.state.entries) {
    const values = viewOfEntry(net.state, entry, state);
    const shift = /running_var|norm\d\.weight/.test(entry.name) ? 1.5 : 0;
    if (/running|norm|bias/.test(entry.name)) for (let i = 0; i < values.length; i++) values[i] = shift + next();
  }
  await foldState(net.state, state, norms, new Breather());
  const executor = await Executor.open(backend, [program], state);
  const count = 2 * patch[0] * patch[1] * patch[2] * 2;
  executor.set(
    program,
    'x',
    Float32Array.from({ length: count }, () => normal(next)),
  );
  const logits: Float64Array[] = [];
  for (let run = 0; run < 2; run++) {
    await executor.run(program);
    logits.push(Float64Array.from(executor.get(program, 'logits') as ArrayLike<number>));
  }
  await executor.close();
  return { logits, norms, program };
}

describe.each(devices.map((d) => [d.label, d] as const))('%s', (_, { backend }) => {
  const on = backend
    ? it.each(Object.keys(NETWORKS) as (keyof typeof NETWORKS)[])
    : it.skip.each(['3-D', '2-D'] as const);
  on("%s: folded or not, the logits are the reference's, in the first run and the next", async (network) => {
    const truth = (await infer(reference, network, 'direct')).logits[0]!;
    const largest = Math.max(...truth.map(Math.abs));
    for (const arithmetic of ['direct', 'fast'] as const) {
      const { logits, norms } = await infer(backend as Backend, network, arithmetic);
      // Each convolution but the head's and the centre's, which has no norm; not where there is one way alone.
      expect(norms).toHaveLength(arithmetic !== 'direct' && hasVariants(backend?.info.isa ?? '') ? 8 : 0);
      for (const found of logits) {
        const worst = found.reduce((most, v, i) => Math.max(most, Math.abs(v - truth[i]!)), 0);
        expect(worst / largest).toBeLessThan(1e-5);
      }
      expect(logits[1]).toEqual(logits[0]);
    }
  });
});

it('packs weights once, and writes no state', async () => {
  const backend = devices.find((d) => d.backend)?.backend as Backend;
  const { program } = await infer(backend, '3-D', 'fast');
  const kernels = program.graph.nodes.map((n) => n.kernel);
  const packs = kernels.filter((k) => k.endsWith('_pack')).length;
  expect(packs).toBeGreaterThan(8);
  expect(kernels.slice(0, packs).every((k) => k.endsWith('_pack'))).toBe(true);
  const nodesOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(8, true);
  expect(nodesOf(program.setUp as Uint8Array)).toBe(packs);
  expect(nodesOf(program.bytes)).toBe(kernels.length - packs);
  expect(kernels).not.toContain('normact_fwd');
});

it('folds in float64: scale and shift of each output', async () => {
  const state = new Uint8Array(9 * 4);
  const values = viewOf('f32', state);
  //          w of two outputs  b       mean    var     γ of the norm
  values.set([2, 3, /**/ 10, 20, /**/ 1, 2, /**/ 4, 9, /**/ 5]);
  const root = {
    id: 0,
    name: 'weights',
    shape: [9, 1, 1, 1, 1],
    dtype: 'f32',
    segment: 'state',
    opaque: false,
  } as const;
  const part = (offset: number, length: number) =>
    ({ ...root, id: offset + 1, shape: [length, 1, 1, 1, 1], view: { of: root, offset, dense: true } }) as const;
  const norm = { w: part(0, 2), b: part(2, 2), mean: part(4, 2), var: part(6, 2), gamma: null, beta: null, eps: 0 };
  await foldState({ offsets: new Map([[root, 0]]) }, state, [norm], new Breather());
  expect([...(values as Float32Array)]).toEqual([1, 1, 4.5, 6, 1, 2, 4, 9, 5]);
});
