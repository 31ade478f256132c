/**
 * What every tensor of a step is held in: with bf16, activations and their gradients in bf16, everything of weights in the
 * backend's own dtype, losses and sums in float64; with fp32 nothing is bf16. And what does not fit is named.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { openReference } from '../golden/devices.js';
import { resolveConfig } from '../../src/config/index.js';
import { GraphBuilder } from '../../src/graph/builder.js';
import { compile } from '../../src/graph/compile.js';
import { differentiate } from '../../src/graph/differentiate.js';
import { kernelDef } from '../../src/graph/kernel.js';
import type { Graph, Node, Tensor } from '../../src/graph/types.js';
import { BACKBONE_NAMES } from '../../src/backbones/index.js';
import { METHOD_NAMES } from '../../src/methods/index.js';
import { declareNetwork, type SegmentationNetwork } from '../../src/methods/network.js';
import { builderFor } from '../../src/methods/precision.js';
import { buildProbe } from '../../src/methods/probe.js';
import { buildInference } from '../../src/methods/segmentation.js';
import { buildStep, sizesOf } from '../../src/methods/step.js';
import * as ops from '../../src/ops/index.js';
import type { Precision } from '../../src/precision.js';
import type { Triple } from '../../src/volume.js';

const patch: Triple = [8, 8, 8];
const model = { filters: 2, levels: 1, decoderBlocks: 1 };
const info = { name: 'reference', isa: 'ref64', real: 'f32', alignment: 64, precisions: ['fp32', 'bf16'] } as const;
const common = { data: { patch }, train: { batch: 2 } };

function graphs(precision: Precision): Record<string, Graph> {
  const b = () => builderFor(precision, info);
  const net = (config: object) => declareNetwork(resolveConfig({ ...common, ...config }), info, 'training');
  const fine = net({ task: 'finetune', model: { ...model, classes: 3 } });
  const pre = METHOD_NAMES.flatMap((method) =>
    BACKBONE_NAMES.map(
      (backbone) =>
        [`${method} on ${backbone}`, net({ task: 'pretrain', method, model: { ...model, backbone } })] as const,
    ),
  );
  return {
    ...Object.fromEntries(pre.map(([name, n]) => [name, buildStep(n, sizesOf(n), 'volumes', b())])),
    'the first, given': buildStep(pre[0]![1], sizesOf(pre[0]![1]), 'given', b()),
    finetune: buildStep(fine, sizesOf(fine), 'volumes', b()),
    probe: buildProbe(pre[0]![1], 2, patch, 'linear', b()).graph,
    inference: buildInference(fine as SegmentationNetwork, 1, patch, b()),
  };
}

/** Which port of which kernel holds activations, in the kernels' own names; written here once more, not read from them. */
const ACTIVATIONS: Readonly<Record<string, string>> = {
  add_fwd: 'a b y',
  avgpool_fwd: 'x y',
  avgpool_bwd: 'dy dx',
  boxmix_fwd: 'f b x',
  concat_fwd: 'a b y',
  concat_bwd: 'dy da db',
  conv3d_fwd: 'x y',
  conv3d_bwd_x: 'dy dx',
  conv3d_bwd_w: 'x dy',
  dice_fwd: 'x',
  dice_bwd: 'x dx',
  l1_fwd: 'a b',
  l1_bwd: 'a b da db',
  linear_fwd: 'x y',
  linear_bwd_x: 'dy dx',
  linear_bwd_w: 'x dy',
  maxpool3d_fwd: 'x y',
  maxpool3d_bwd: 'x dy dx',
  normact_stats: 'x',
  normact_fwd: 'x y pooled',
  normact_sums: 'dy x',
  normact_bwd: 'dy x dx',
  resize3d_fwd: 'x y',
  resize3d_bwd: 'dy dx',
  softmaxce_fwd: 'x',
  softmaxce_bwd: 'x dx',
  supcon_fwd: 'z1 z2',
  supcon_bwd: 'z1 z2 dz1 dz2',
  upconv3d_fwd: 'x y',
  upconv3d_bwd_x: 'dy dx',
  upconv3d_bwd_w: 'x dy',
};
/** Kernels that are over tensors of any kind. */
const ANY = new Set(['copy_fwd', 'fill_fwd', 'warp3d_fwd']);

function ports(node: Node): { name: string; t: Tensor }[] {
  const def = kernelDef(node.kernel);
  return [...def.inputs, ...def.outputs].flatMap(({ name }, i) => {
    const t = [...node.inputs, ...node.outputs][i];
    return t ? [{ name, t }] : [];
  });
}

describe.each(Object.keys(graphs('bf16')))('%s', (name) => {
  const graph = graphs('bf16')[name] as Graph;

  test('activations and their gradients, and nothing else, are bf16', () => {
    const seen = new Map<Tensor, string>();
    let found = 0;
    for (const node of graph.nodes) {
      if (ANY.has(node.kernel) || kernelDef(node.kernel).alias) continue;
      const activations = new Set(ACTIVATIONS[node.kernel]?.split(' '));
      for (const { name: port, t } of ports(node)) {
        if (t.opaque) continue;
        const what = `${node.scope} ${node.kernel} ${port} (${t.name})`;
        found += activations.has(port) ? 1 : 0;
        if (activations.has(port)) expect(t.dtype, what).toBe('bf16');
        else expect(t.dtype, what).not.toBe('bf16');
        seen.set(t, what);
      }
    }
    expect(found).toBeGreaterThan(10);
    // Views of data and fills: what other kernels read decides, and each tensor is in one of the two lists.
    const left = graph.tensors.filter((t) => !t.opaque && !t.view && !seen.has(t) && t.dtype === 'bf16');
    expect(left.map((t) => t.name)).toEqual([]);
  });

  test('weights are packed for bf16', () => {
    const packs = graph.nodes.filter((n) => n.kernel.endsWith('_pack'));
    expect(packs.length).toBeGreaterThan(0);
    for (const node of packs) expect(node.attrs['dtype'], node.scope).toBe(5);
  });

  test('with fp32 nothing is bf16, and the graph is the same but for its dtypes', () => {
    const plain = graphs('fp32')[name] as Graph;
    const shape = (g: Graph) =>
      g.nodes.map((n) => [n.kernel, ...ports(n).map(({ t }) => `${t.name} ${t.shape.join()}`)]);
    expect(shape(plain)).toEqual(shape(graph));
    expect(plain.tensors.filter((t) => t.dtype === 'bf16')).toEqual([]);
    for (const node of plain.nodes) if (node.kernel.endsWith('_pack')) expect(node.attrs['dtype']).toBe(0);
  });
});

describe('dtypes that do not fit', () => {
  const b = new GraphBuilder('f32', 'bf16');
  const at = (name: string, dtype?: 'f32' | 'bf16') => b.input(name, [1, 2, 2, 2, 3], dtype);
  const [x, z] = [at('x'), at('z', 'f32')];
  const weights = (name: string, dtype: 'f32' | 'bf16') => b.input(name, [3, 3, 1, 1, 1], dtype);

  test.each<[string, () => unknown, RegExp]>([
    ['concat', () => ops.concat(b, x, z), /concat_fwd takes a \(x, bf16\) and b in one dtype, found b \(z\) in f32/],
    ['add', () => ops.add(b, x, z), /add_fwd takes a \(x, bf16\) and b in one dtype, found b \(z\) in f32/],
    ['l1', () => ops.l1(b, z, x), /l1_fwd takes a \(z, f32\) and b in one dtype, found b \(x\) in bf16/],
    [
      'weights',
      () => ops.conv3d(b, x, weights('w', 'bf16'), null),
      /conv3d_pack takes w in f32, found w \(w\) in bf16/,
    ],
    [
      'statistics',
      () => b.emit('normact_stats', { unused: 0 }, { x }, { mean: b.tensor('m', [3, 1, 1, 1, 1]), var: z }),
      /normact_stats takes mean in f32, found mean \(m\) in bf16/,
    ],
    [
      'gradients of weights',
      () => {
        const w = weights('v', 'f32');
        const { loss } = ops.l1(b, ops.conv3d(b, x, w, null), x);
        differentiate(b, loss, new Map([[w, b.tensor('dv', w.shape)]]));
      },
      /the gradient of v .* f32\) cannot lie in dv .* bf16\)/,
    ],
  ])('%s', (_, build, message) => {
    const before = b.nodes.length;
    expect(build).toThrow(
      expect.objectContaining({ code: 'program', message: expect.stringMatching(message) as string }),
    );
    expect(b.nodes.slice(before).every((n) => !['concat_fwd', 'add_fwd'].includes(n.kernel))).toBe(true);
  });

  test('a precision that a backend lacks', () => {
    const cuda = { name: 'cuda', isa: 'fp32', real: 'f32', alignment: 256, precisions: ['fp32'] } as const;
    expect(() => builderFor('bf16', cuda)).toThrow(
      expect.objectContaining({
        code: 'device',
        message: 'train.precision: expected fp32 on cuda, found bf16, which cpu, wasm and reference have',
      }),
    );
  });
});

describe('bf16 on a backend of float64', async () => {
  const backend = await openReference();
  afterAll(() => backend.close());
  const net = declareNetwork(
    resolveConfig({ task: 'pretrain', model, data: { patch }, train: { batch: 2, precision: 'bf16' } }),
    backend.info,
    'training',
  );
  const declared = buildStep(net, sizesOf(net), 'given', builderFor('bf16', backend.info));
  const { graph } = compile(declared, backend, net.state, 0);

  test('every bf16 tensor is rounded after each kernel that computes it, before anything reads it', () => {
    const bf16 = new Set(declared.tensors.filter((t) => t.dtype === 'bf16').map((t) => t.id));
    expect(graph.tensors.filter((t) => t.dtype === 'bf16')).toEqual([]);
    const exact = ['concat_fwd', 'concat_bwd', 'maxpool3d_fwd'];
    let rounded = 0;
    graph.nodes.forEach((node, i) => {
      if (node.kernel === 'round_fwd' || exact.includes(node.kernel)) return;
      const out = node.outputs.filter((t) => t && bf16.has(t.id));
      const next = graph.nodes.slice(i + 1, i + 1 + out.length);
      for (const t of out) {
        expect(
          next.some((n) => n.kernel === 'round_fwd' && n.outputs[0] === t),
          `${node.kernel} ${t?.name}`,
        ).toBe(true);
        rounded++;
      }
    });
    expect(rounded).toBeGreaterThan(100);
  });

  test('nothing else is rounded but inputs and weights on their way to a kernel; masters stay', () => {
    const bf16 = new Set(declared.tensors.filter((t) => t.dtype === 'bf16').map((t) => t.id));
    const others = graph.nodes.filter((n) => n.kernel === 'round_fwd' && !bf16.has(n.outputs[0]?.id ?? -1));
    const parameters = net.state.entries.filter((e) => e.role === 'parameter' && e.shape.length > 1);
    // Once each, however many passes there are.
    expect(others.map((n) => n.inputs[0]?.name).sort()).toEqual(parameters.map((e) => e.name).sort());
    for (const n of others) expect([n.inputs[0]?.segment, n.outputs[0]?.segment]).toEqual(['state', 'scratch']);
  });
});
