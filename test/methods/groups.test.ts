/** `optimizer.groups`: which tensors lie together, what a step does to each, what is refused, what a plan says. */
import { afterAll, describe, expect, it } from 'vitest';
import { resolveConfig } from '../../src/config/index.js';
import { MaclError } from '../../src/errors.js';
import { describeGroups } from '../../src/methods/groups.js';
import { initialState, viewOfEntry } from '../../src/model/network-state.js';
import type { OptimizerConfig } from '../../src/settings/types.js';
import { openReference } from '../golden/devices.js';
import { netOf, stepOn } from './step-rig.js';

const reference = await openReference();
afterAll(() => reference.close());

type Optimizer = Partial<Omit<OptimizerConfig, 'groups'>> & { groups?: readonly object[] };
const fine = (optimizer: Optimizer = {}, loaded: readonly string[] = []) =>
  netOf({ task: 'finetune', optimizer, train: { batch: 2 } } as never, loaded);
const sgd = { name: 'sgd', momentum: 0, weightDecay: 0 } as const;
const namesIn = (net: ReturnType<typeof fine>, range: string): string[] => {
  const { offset, parameterCount } = net.state.ranges.find(({ name }) => name === range)!;
  return net.state.entries.flatMap(({ name, role, tensor }) => {
    const at = tensor.view?.offset ?? 0;
    return role === 'parameter' && at >= offset && at < offset + parameterCount ? [name] : [];
  });
};

describe('the layout', () => {
  it('is one range in the order of declaration without groups', () => {
    const { ranges, weights, entries } = fine().state;
    expect(ranges).toHaveLength(1);
    expect(ranges[0]).toMatchObject({ name: '', offset: 0, weights });
    let at = 0;
    for (const { role, tensor, shape } of entries) {
      if (role !== 'parameter') continue;
      expect(tensor.view!.offset).toBe(at);
      at += shape.reduce((a, s) => a * s, 1);
    }
    expect(entries.filter((e) => e.role === 'counter').map((e) => e.name)).toEqual(['optimizer.step']);
  });

  it('has a range a group, the first that names a tensor, frozen ones last; each has a counter', () => {
    const net = fine({
      groups: [
        { parts: ['decoder'], frozen: true },
        { parts: ['norms', 'biases'], weightDecay: false },
        { parts: ['encoder'], lr: 0.1 },
      ],
    });
    expect(net.state.ranges.map(({ name }) => name)).toEqual(['2', '3', '', '1']);
    expect(namesIn(net, '1').every((n) => n.startsWith('decoder.'))).toBe(true);
    expect(namesIn(net, '1')).toContain('decoder.blocks.0.norm1.weight');
    expect(namesIn(net, '2')).toEqual(
      expect.arrayContaining(['encoder.blocks.0.norm1.weight', 'encoder.centre.conv1.bias', 'head.bias']),
    );
    expect(namesIn(net, '2').every((n) => /norm\d\.(weight|bias)$|\.bias$/.test(n))).toBe(true);
    expect(namesIn(net, '3').every((n) => /^encoder\..*conv\d\.weight$/.test(n))).toBe(true);
    expect(namesIn(net, '')).toEqual(['head.weight']);
    const counters = net.state.entries.filter((e) => e.role === 'counter').map((e) => e.name);
    expect(counters).toEqual(['optimizer.step.2', 'optimizer.step.3', 'optimizer.step', 'optimizer.step.1']);
  });

  it('parts projectors from the backbone, and loaded from fresh', () => {
    const pre = netOf({ task: 'pretrain', optimizer: { groups: [{ parts: ['projectors'], lr: 2 }] } });
    expect(namesIn(pre, '1').every((n) => n.startsWith('projector.'))).toBe(true);
    expect(namesIn(pre, '').some((n) => n.startsWith('projector.'))).toBe(false);
    const loaded = ['encoder.blocks.0.conv1.weight', 'head.bias'];
    expect(namesIn(fine({ groups: [{ parts: ['loaded'], lr: 0.5 }] }, loaded), '1')).toEqual(loaded);
    expect(namesIn(fine({ groups: [{ parts: ['fresh'], lr: 2 }] }, loaded), '')).toEqual(loaded);
  });

  it('does not change what weights begin with', () => {
    const values = (net: ReturnType<typeof fine>) => {
      const state = initialState(net.state, 5, reference.info);
      return new Map(
        net.state.entries.filter((e) => e.role !== 'counter').map((e) => [e.name, viewOfEntry(net.state, e, state)]),
      );
    };
    expect(
      values(
        fine({
          groups: [
            { parts: ['biases'], lr: 2 },
            { parts: ['encoder'], frozen: true },
          ],
        }),
      ),
    ).toEqual(values(fine()));
  });
});

describe('a step', () => {
  it('of groups that differ in nothing has the same results', async () => {
    for (const name of ['sgd', 'adam', 'adamw'] as const) {
      const [plain, grouped] = [
        fine({ name, weightDecay: 0.1 }),
        fine({ name, weightDecay: 0.1, groups: [{ parts: ['norms'] }, { parts: ['decoder'] }] }),
      ];
      const [a, b] = [await stepOn(reference, plain, 2), await stepOn(reference, grouped, 2)];
      for (const [entry, values] of a.after) expect(b.after.get(entry), entry).toEqual(values);
      expect(b.results).toEqual({ ...a.results, gradnorm: expect.closeTo(a.results['gradnorm']!, 9) as number });
    }
  });

  it("takes each group's factor of the rate, and decay where it is wanted", async () => {
    const groups = [
      { parts: ['decoder'], lr: 0.25 },
      { parts: ['norms', 'biases'], weightDecay: false },
    ];
    const { before, after, gradients } = await stepOn(reference, fine({ ...sgd, weightDecay: 0.5, groups }), 2, {
      lr: 0.2,
    });
    for (const [name, g] of gradients) {
      const inDecoder = name.startsWith('decoder.');
      const decay = inDecoder || /conv\d\.weight|head\.weight/.test(name) ? 0.5 : 0;
      const [rate, w] = [inDecoder ? 0.05 : 0.2, before.get(name)!];
      const expected = w.map((x, i) => x - rate * (g[i]! + decay * x));
      expected.forEach((x, i) => expect(after.get(name)![i], name).toBeCloseTo(x, 13));
    }
  });

  it('freezes weights, moments, counters and statistics, and computes no gradient of them', async () => {
    const groups = [{ parts: ['encoder'], frozen: true }];
    const net = fine({ name: 'adamw', weightDecay: 0.1, groups });
    const { before, after, gradients, program } = await stepOn(reference, net, 2);
    const ours = [...before.keys()].filter((n) => n.includes('encoder.') || n === 'optimizer.step.1');
    expect(ours.some((n) => n.endsWith('running_mean'))).toBe(true);
    for (const name of ours) expect(after.get(name), name).toEqual(before.get(name));
    expect([...gradients.keys()].some((n) => n.startsWith('encoder.'))).toBe(false);
    for (const name of [
      'decoder.blocks.0.conv1.weight',
      'decoder.blocks.1.norm1.running_mean',
      'head.bias',
      'optimizer.step',
    ])
      expect(after.get(name), name).not.toEqual(before.get(name));
    // Nothing lies below the encoder: its backward pass is not there at all, and no statistics are taken.
    const kernels = program.graph.nodes.filter((n) => n.scope.includes('encoder.')).map((n) => n.kernel);
    expect(kernels.filter((k) => /_bwd|stats|sums|wgrad|dgrad/.test(k))).toEqual([]);
  });

  it('passes gradients through what is frozen: those below are as if it were not', async () => {
    const [all, held] = [
      await stepOn(reference, fine(sgd), 2),
      await stepOn(reference, fine({ ...sgd, groups: [{ parts: ['head'], frozen: true }] }), 2),
    ];
    expect(held.gradients.size).toBe(all.gradients.size - 2);
    for (const [name, g] of held.gradients) expect(g, name).toEqual(all.gradients.get(name));
    expect(held.after.get('head.weight')).toEqual(held.before.get('head.weight'));
    // Through a frozen norm too, by its given statistics: against finite differences of the loss.
    const net = fine({ ...sgd, groups: [{ parts: ['decoder'], frozen: true }] });
    const { gradients, state } = await stepOn(reference, net, 2, { lr: 0 });
    const entry = net.state.entries.find((e) => e.name === 'encoder.blocks.1.conv2.weight')!;
    const loss = async (i: number, by: number) => {
      const moved = state.slice();
      viewOfEntry(net.state, entry, moved)[i]! += by;
      return (await stepOn(reference, net, 2, { lr: 0, begin: moved })).results['loss']!;
    };
    for (const i of [0, 17]) {
      // The step moved the statistics of the norms that train; losses take those of the batch.
      const slope = ((await loss(i, 1e-5)) - (await loss(i, -1e-5))) / 2e-5;
      expect(slope).toBeCloseTo(gradients.get(entry.name)![i]!, 6);
    }
  });

  it("of a sawtooth's first part holds what was loaded; the second trains it with moments and a counter of its own", async () => {
    const plain = fine();
    const loaded = plain.state.entries.filter((e) => e.name.startsWith('encoder.')).map((e) => e.name);
    const net = fine({ schedule: 'sawtooth', groups: [{ parts: ['biases'], weightDecay: false }] }, loaded);
    expect(net.state.ranges.map(({ name }) => name)).toEqual(['1', '', '1.loaded', 'loaded']);
    const first = await stepOn(reference, net, 2, { part: 'first' });
    const second = await stepOn(reference, net, 2, { part: 'all', begin: first.state });
    const counts = ({ after }: typeof first) =>
      ['', '.1', '.loaded', '.1.loaded'].map((n) => after.get(`optimizer.step${n}`)![0]);
    expect([counts(first), counts(second)]).toEqual([
      [1, 1, 0, 0],
      [2, 2, 1, 1],
    ]);
    for (const name of loaded) {
      expect(first.after.get(name), name).toEqual(first.before.get(name));
      if (!name.endsWith('conv1.bias') && !name.endsWith('conv2.bias'))
        expect(second.after.get(name), name).not.toEqual(first.after.get(name));
    }
    // Both parts take the same input and give the same results.
    const io = ({ program }: typeof first) =>
      [...program.io].flatMap(([name, { shape, dtype, role }]) =>
        role === 'constant' ? [] : [{ name, shape, dtype, role }],
      );
    const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
    expect(io(first).sort(byName)).toEqual(io(second).sort(byName));
  });
});

describe('refused are', () => {
  const error = (make: () => unknown): MaclError => {
    try {
      make();
    } catch (e) {
      expect(e).toBeInstanceOf(MaclError);
      return e as MaclError;
    }
    throw new Error('nothing was thrown');
  };
  it.each([
    [
      { groups: [{ parts: ['skip'] }] },
      [],
      /optimizer\.groups\[0\]\.parts: expected parts of the network .* found skip/,
    ],
    [{ groups: [{ parts: ['encoder'] }, { parts: ['encoder'] }] }, [], /optimizer\.groups\[1\]\.parts/],
    [{ groups: [{ parts: ['loaded'], lr: 0.1 }] }, [], /optimizer\.groups\[0\]\.parts: .* found loaded/],
    [{ groups: [{ parts: ['fresh'], frozen: true }] }, [], /optimizer\.groups: expected something to train/],
  ] as const)('%j', (optimizer, loaded, words) => {
    const e = error(() => fine(optimizer as never, loaded));
    expect([e.code, e.message]).toEqual(['config', expect.stringMatching(words) as string]);
  });

  it('a sawtooth of what was loaded whole, and one in pre-training', () => {
    const all = fine().state.entries.map((e) => e.name);
    expect(error(() => fine({ schedule: 'sawtooth' }, all)).message).toMatch(/something fresh to train/);
    expect(error(() => resolveConfig({ task: 'pretrain', optimizer: { schedule: 'sawtooth' } })).message).toMatch(
      /optimizer\.schedule: .*because pre-training loads nothing/,
    );
  });

  it.each([
    [{ groups: [{}] }, /optimizer\.groups\.0\.parts: expected a value/],
    [{ groups: [{ parts: [] }] }, /optimizer\.groups\.0\.parts: expected 1 to 9 entries/],
    [{ groups: [{ parts: ['middle'] }] }, /optimizer\.groups\.0\.parts\.0: expected encoder or skip/],
    [{ groups: [{ parts: ['head'], lr: 0 }] }, /optimizer\.groups\.0\.lr: expected above 0/],
    [{ groups: [{ parts: ['head'], rate: 1 }] }, /optimizer\.groups\.0\.rate: unknown key/],
    [{ sawtooth: 1 }, /optimizer\.sawtooth: expected below 1/],
    [{ power: 0 }, /optimizer\.power: expected at least 0\.01/],
  ])('%j', (optimizer, words) => {
    expect(error(() => resolveConfig({ task: 'finetune', model: { classes: 2 }, optimizer })).message).toMatch(words);
  });
});

it('a plan says groups and what is frozen', () => {
  const net = fine({
    groups: [
      { parts: ['encoder'], frozen: true },
      { parts: ['norms', 'biases'], lr: 0.5, weightDecay: false },
    ],
  });
  const lines = describeGroups(net.config.optimizer, net.state, net.grouping);
  const frozen = net.state.ranges.find(({ name }) => name === '1')!.parameterCount.toLocaleString('en');
  expect(lines[0]).toBe(`parameters in 3 groups; ${frozen} parameters are never trained`);
  expect(lines).toContain(`  encoder: ${frozen} parameters, frozen`);
  expect(lines.find((l) => l.includes('norms'))).toMatch(
    /^ {2}norms, biases: \d+ parameters, 0\.5 of the learning rate, no weight decay$/,
  );
  expect(describeGroups(fine().config.optimizer, fine().state, fine().grouping)).toEqual([]);
});
