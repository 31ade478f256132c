/** `model.recompute`: the same bits in less scratch; how a run computes, not what. */
import { afterAll, expect, it } from 'vitest';
import { resolveConfig, meaningOf } from '../../src/config/index.js';
import { sameMeaning } from '../../src/model/description.js';
import { inspectProgram } from '../../src/step/inspect.js';
import { openReference } from '../golden/devices.js';
import { netOf, stepOn } from './step-rig.js';

const reference = await openReference();
afterAll(() => reference.close());

it.each(['pretrain', 'finetune'] as const)('%s: blocks are computed again, to the same bits', async (task) => {
  const step = (recompute: 'none' | 'blocks') =>
    stepOn(reference, netOf({ task, model: { recompute }, train: { batch: 2, accumulate: 2 } }), 4);
  const [kept, again] = [await step('none'), await step('blocks')];
  expect(again.results).toEqual(kept.results);
  for (const [name, values] of kept.after) expect(again.after.get(name), name).toEqual(values);
  const scopes = new Set(again.program.graph.nodes.filter((n) => n.again).map((n) => n.scope));
  for (const name of ['encoder.blocks.0', 'encoder.blocks.1', 'decoder.blocks.0'])
    expect(
      [...scopes].some((scope) => scope.includes(name)),
      name,
    ).toBe(true);
  expect(kept.program.graph.nodes.some((n) => n.again)).toBe(false);
});

it('inspect says scratch with and without it', async () => {
  const config = { task: 'pretrain', model: { filters: 8, levels: 2 }, data: { patch: [16, 16, 32] } };
  const of = (recompute: string) =>
    inspectProgram({ config: { ...config, model: { ...config.model, recompute } }, device: 'reference' });
  const [kept, again] = [await of('none'), await of('blocks')];
  const scratch = { scratchBytesKept: kept.scratchBytes, scratchBytesRecomputed: again.scratchBytes };
  expect(kept).toMatchObject(scratch);
  expect(again).toMatchObject(scratch);
  expect(again.scratchBytes / kept.scratchBytes).toBeLessThan(0.9);
});

it('is no part of what a model means', () => {
  const of = (recompute: string) => resolveConfig({ task: 'pretrain', model: { recompute } });
  expect(JSON.stringify(meaningOf(of('blocks')))).toBe(JSON.stringify(meaningOf(of('none'))));
  expect(sameMeaning(JSON.stringify(meaningOf(of('none'))), of('blocks'))).toBe(true);
  expect(() => of('layers')).toThrow(/model\.recompute: expected none or blocks .*found "layers"/);
});
