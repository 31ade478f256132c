/**
 * Every method on every backbone: one step on the float64 reference, the CPU and WebAssembly says the same, and what a
 * method says of itself holds. Values are held against PyTorch in test/golden/step.test.ts, gradients in gradcheck.test.ts.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { BACKBONE_NAMES } from '../../src/backbones/index.js';
import { configSchema, resolveConfig } from '../../src/config/index.js';
import { METHOD_NAMES, methodNamed, type Method } from '../../src/methods/index.js';
import { declareNetwork } from '../../src/methods/network.js';
import { openDevices } from '../golden/devices.js';
import { relativeError } from '../golden/fixtures.js';
import { randomData } from '../golden/random-step.js';
import { StepRun, type StepConfig } from '../golden/steprun.js';

/** The reference first, then the best of each backend. */
const devices = (await openDevices()).filter(({ backend }, i, all) => {
  const isFirst = all.findIndex((d) => d.backend?.info.name === backend?.info.name) === i;
  return backend && isFirst && backend.info.name !== 'cuda-host';
});
afterAll(async () => {
  for (const d of devices) await d.backend?.close();
});
const ALL: readonly Method[] = [...METHOD_NAMES.map((name) => methodNamed('pretrain', name)), methodNamed('finetune')];

function configOf({ name, task }: Method, backbone: string, dims: 2 | 3): StepConfig {
  const classes = task === 'finetune' ? { classes: 3 } : {};
  return {
    task,
    ...(task === 'pretrain' ? { method: name } : {}),
    model: { backbone, dims, inChannels: 2, filters: 2, levels: 2, decoderBlocks: 1, ...classes },
    loss: {},
    optimizer: { name: 'sgd', lr: 0.01, momentum: 0.9, weightDecay: 0 },
  };
}

const PAIRS = ALL.flatMap((method) => BACKBONE_NAMES.map((backbone) => ({ name: method.name, method, backbone })));

describe.each(PAIRS)('$name on $backbone', ({ method, backbone }) => {
  test.each([2, 3] as const)('one step in %i-D is the same on every backend', async (dims) => {
    const config = configOf(method, backbone, dims);
    let wanted: Map<string, number> | undefined;
    expect(devices[0]?.backend?.info.real).toBe('f64');
    for (const { backend, label } of devices) {
      const run = await StepRun.create(backend!, randomData(config, 3, dims === 2 ? [1, 16, 24] : [8, 16, 8]));
      try {
        expect(await run.step(), label).toBe(true);
        const names = method.results(resolveConfig(config));
        const found = new Map(names.map((name) => [name, run.result(name)[0] as number]));
        for (const [name, value] of found) expect(Number.isFinite(value), `${label}: ${name} ${value}`).toBe(true);
        const gradients = run.gradients();
        const moved = [...gradients].filter(([, g]) => g.some((v) => v !== 0));
        // Biases before a norm have none on the reference, but rounding.
        expect(moved.length, label).toBeGreaterThan(0.6 * gradients.size);
        wanted ??= found;
        for (const [name, value] of found)
          expect(
            relativeError(Float64Array.of(value), Float64Array.of(wanted.get(name)!), 1e-2),
            `${label}: ${name}`,
          ).toBeLessThan(5e-3);
      } finally {
        await run.close();
      }
    }
  });

  test('its modules have parts that transfer and parts that do not', () => {
    const net = declareNetwork(
      resolveConfig({ ...configOf(method, backbone, 3) }),
      { real: 'f32', alignment: 64 },
      'inference',
    );
    const parts = net.state.entries.map(({ name }) => net.backbone.partOf(name));
    expect(parts.some((p) => p?.part === 'encoder')).toBe(true);
    const blocks = new Set(parts.flatMap((p) => (p?.part === 'decoder' ? [p.block] : [])));
    expect([...blocks].sort()).toEqual(Array.from({ length: method.decoderBlocks(net.config.model) }, (_, i) => i));
    expect(parts.some((p) => p?.part === 'head')).toBe(method.task === 'finetune');
  });
});

describe.each(METHOD_NAMES)('%s', (name) => {
  const method = methodNamed('pretrain', name);

  test('its loss has a schema and defaults that are the same when read again', () => {
    const definitions = configSchema['definitions'] as Record<string, { properties: { loss: object } }>;
    const own = definitions[name === METHOD_NAMES[0] ? 'pretrain' : `pretrain-${name}`];
    expect(own?.properties.loss).toEqual(method.lossSchema);
    const config = resolveConfig({ task: 'pretrain', method: name });
    expect(Object.keys(config.loss).sort()).toEqual(
      Object.keys((method.lossSchema as { properties: object }).properties).sort(),
    );
    expect(resolveConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
  });

  test('names its results, the loss first, and says what it is', () => {
    expect(method.results(resolveConfig({ task: 'pretrain', method: name }))[0]).toBe('loss');
    for (const words of [method.describe, method.source]) expect(words.length).toBeGreaterThan(8);
  });
});
