/** What a method writes to the state itself: after the optimiser, and only in a step that is committed. */
import { afterAll, describe, expect, it } from 'vitest';
import { resolveConfig } from '../../src/config/index.js';
import type { GraphBuilder } from '../../src/graph/builder.js';
import type { Tensor } from '../../src/graph/types.js';
import { declareNetwork } from '../../src/methods/network.js';
import { compileStep } from '../../src/methods/step.js';
import { methodOf, type Method, type Modules } from '../../src/methods/index.js';
import { Executor } from '../../src/model/executor.js';
import { initialState, stateTensors } from '../../src/model/network-state.js';
import { StateBuilder } from '../../src/nn/state.js';
import { backboneOf } from '../../src/backbones/index.js';
import { openReference } from '../golden/devices.js';

const backend = await openReference();
afterAll(() => backend.close());

const config = resolveConfig({
  task: 'finetune',
  model: { filters: 2, levels: 1, decoderBlocks: 1, classes: 2 },
  data: { patch: [4, 4, 4] },
  train: { batch: 2 },
});

/** Segmentation whose encoder has a copy in the state that follows it at once. */
interface Copied extends Modules {
  readonly pairs: readonly (readonly [from: Tensor, to: Tensor])[];
}
const plain = methodOf(config);
const copying = {
  ...plain,
  declare(s: StateBuilder, ...rest: [never, never]): Copied {
    const tensors: Tensor[] = [];
    const declare = s.declare.bind(s);
    s.declare = (...args) => {
      const t = declare(...args);
      if (args[2] === 'parameter') tensors.push(t);
      return t;
    };
    const modules = (plain as Method).declare(s, ...rest);
    const own = tensors.splice(0);
    s.under('target.', { parameter: 'twin' }, () => backboneOf(config.model).declareEncoder(s, config.model));
    return { ...modules, pairs: tensors.map((to, i) => [own[i]!, to] as const) };
  },
  commit(b: GraphBuilder, { pairs }: Copied) {
    for (const [x, y] of pairs) b.emit('copy_fwd', { accumulate: 0 }, { x }, { y }, true);
  },
} as unknown as Method;

describe("a method's own commit", () => {
  const s = new StateBuilder({ real: 'f64', alignment: 64 });
  const modules = copying.declare(s, backboneOf(config.model), config);
  const net = {
    ...declareNetwork(config, { real: 'f64', alignment: 64 }, 'training'),
    method: copying,
    modules,
    state: s.finish(['m', 'v'], true),
  };
  const program = compileStep(net, backend, { source: 'given' });
  const x = Float64Array.from({ length: 128 }, (_, i) => Math.sin(i));

  async function afterStep(input: Float64Array) {
    const executor = await Executor.open(backend, [program], initialState(net.state, 3, backend.info));
    try {
      executor.set(program, 'x', input);
      executor.set(
        program,
        'y',
        Int32Array.from({ length: 128 }, (_, i) => i % 2),
      );
      executor.set(program, 'lr', [0.1]);
      const committed = await executor.run(program);
      return { committed, tensors: stateTensors(net.state, executor.readState(), ['parameter', 'twin']) };
    } finally {
      await executor.close();
    }
  }

  it('sees the parameters after the update', async () => {
    const { committed, tensors } = await afterStep(x);
    expect(committed).toBe(true);
    const twins = [...tensors.keys()].filter((name) => name.startsWith('target.'));
    expect(twins.length).toBeGreaterThan(4);
    const before = stateTensors(net.state, initialState(net.state, 3, backend.info), ['parameter']);
    for (const name of twins) {
      const own = name.slice('target.'.length);
      expect(tensors.get(name)!.bytes).toEqual(tensors.get(own)!.bytes);
    }
    expect(tensors.get('encoder.blocks.0.conv1.weight')!.bytes).not.toEqual(
      before.get('encoder.blocks.0.conv1.weight')!.bytes,
    );
  });

  it('does not happen in a step that is skipped', async () => {
    const { committed, tensors } = await afterStep(x.map((v, i) => (i === 7 ? NaN : v)));
    expect(committed).toBe(false);
    const initial = stateTensors(net.state, initialState(net.state, 3, backend.info), ['parameter', 'twin']);
    for (const [name, t] of initial) expect(tensors.get(name)!.bytes).toEqual(t.bytes);
  });
});
