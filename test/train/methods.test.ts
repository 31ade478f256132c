/**
 * Every pre-training method from volumes to a fine-tuning: it runs on every backend of this machine, stopped and resumed it
 * is the same bits, what fine-tuning takes of it is named, and where volumes are read box by box they are those of memory.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { BACKBONE_NAMES } from '../../src/backbones/index.js';
import { readSafetensorsFile } from '../../src/data/files.js';
import { inspectProgram } from '../../src/index.js';
import { METHOD_NAMES, methodNamed } from '../../src/methods/index.js';
import { finetune } from '../../src/train/finetune.js';
import { pretrain, type PretrainOptions } from '../../src/train/pretrain.js';
import { device, listen, logOf, runFiles, scratchFolder, tinyFinetune, tinyPretrain, toyDataset } from './toy.js';

const root = scratchFolder();
const common = { cacheDir: join(root, 'cache'), threads: 2 } as const;
let data: string;
beforeAll(async () => {
  data = await toyDataset(join(root, 'data'));
});

const DEVICES = [...new Set([device, 'wasm'] as const)];
const PAIRS = METHOD_NAMES.flatMap((method) => BACKBONE_NAMES.map((backbone) => ({ method, backbone })));

describe.each(PAIRS)('$method on $backbone', ({ method, backbone }) => {
  const named = methodNamed('pretrain', method);
  // Twice the smallest: a sample has several voxels at the bottleneck of every branch.
  const config = () => ({ ...tinyPretrain({ data: { patch: [8, 16, 8] } }), method });
  const run = (out: string, how: Partial<PretrainOptions> = {}) => {
    const base = config();
    return pretrain({
      ...common,
      data,
      device,
      out: join(root, `${method}-${backbone}-${out}`),
      config: { ...base, model: { ...base.model, backbone } },
      ...how,
    });
  };
  const folder = (out: string) => join(root, `${method}-${backbone}-${out}`);
  beforeAll(() => run('whole'));

  it('reports numbers of every step', () => {
    const log = logOf(folder('whole'));
    expect(log).toHaveLength(12);
    for (const record of log)
      for (const name of named.results({ loss: { name: 'ce+dice' } } as never))
        expect(record[name], `${name} of step ${String(record['step'])}`).toEqual(expect.any(Number));
  });

  it('stopped and resumed is never having stopped', async () => {
    const controller = new AbortController();
    const { onEvent } = listen((e) => e.kind === 'step' && e.step === 7 && controller.abort());
    await expect(run('stop', { signal: controller.signal, onEvent, threads: 1 })).rejects.toMatchObject({
      code: 'aborted',
    });
    await run('stop', { resume: true, threads: 3 });
    expect(runFiles(folder('stop'))).toEqual(runFiles(folder('whole')));
  });

  it('reads boxes of volumes that are not in memory, with the same bits', async () => {
    const { messages, onEvent } = listen();
    await run('boxes', { storeBytes: 1, onEvent });
    expect(messages('note').join('\n')).toContain('reads its boxes from disk');
    expect(logOf(folder('boxes'))).toEqual(logOf(folder('whole')));
  });

  it('gives fine-tuning its encoder and trained blocks, and nothing else', async () => {
    const { messages, onEvent } = listen();
    const out = folder('fine');
    await finetune({
      ...common,
      data,
      device,
      out,
      init: folder('whole'),
      config: { ...tinyFinetune({ init: {} }), train: { steps: 0, batch: 2, seed: 7 } },
      onEvent,
    });
    const [before, after] = await Promise.all(
      [folder('whole'), out].map(async (f) => (await readSafetensorsFile(join(f, 'model.safetensors'))).tensors),
    );
    const blocks = named.decoderBlocks({ levels: 2, decoderBlocks: 1 } as never);
    for (const [name, tensor] of after!) {
      const block = /^decoder\.blocks\.(\d)/.exec(name)?.[1];
      const transfers = block === undefined ? name.startsWith('encoder.') : Number(block) < blocks;
      expect(before!.has(name), name).toBe(transfers);
      if (transfers) expect(tensor, name).toEqual(before!.get(name));
    }
    const text = messages('note').join('\n');
    expect(text).toMatch(/taken from .*: encoder\.(blocks|stages)\.0 \(\d+\)/);
    expect(text).toMatch(/fresh: .*\bheads? \(2\)/);
    const left = [...before!.keys()].filter((name) => !after!.has(name)).map((name) => name.split('.')[0]!);
    expect(new Set(left)).toEqual(new Set([method === 'volumefusion' ? 'pretext' : 'projector']));
    expect(text).toMatch(method === 'volumefusion' ? /not used: pretext \(2\)/ : /not used: projector\.image \(\d+\)/);
  });

  it('goes on as a fine-tuning that trains', async () => {
    const out = folder('tuned');
    const { train, data: own } = tinyFinetune({ init: {} });
    await finetune({
      ...common,
      data,
      device,
      out,
      init: folder('whole'),
      config: { train: { ...train, steps: 3 }, data: own },
    });
    expect(existsSync(join(out, 'model.safetensors'))).toBe(true);
    expect(logOf(out).every((r) => Number.isFinite(r['loss']))).toBe(true);
  });

  it.each(DEVICES.filter((d) => d !== device))('runs on %s', async (other) => {
    const base = config();
    await run(other, {
      device: other,
      config: { ...base, model: { ...base.model, backbone }, train: { ...base.train, steps: 2 } },
    });
    const [first] = logOf(folder(other));
    expect(first!['loss']).toBeCloseTo(logOf(folder('whole'))[0]!['loss'] as number, 3);
  });

  it('is shown as a program', async () => {
    const base = config();
    const report = await inspectProgram({
      device,
      config: { task: 'pretrain', ...base, model: { ...base.model, backbone } },
    });
    expect(report.parameters).toBeGreaterThan(100);
    expect(report.text).toContain(backbone === 'unet' ? 'encoder.blocks.0.conv1' : 'encoder.stages.0.conv1');
  });
});
