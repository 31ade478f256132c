/** A run's folder: whose it is, what is refused, what a resume finds in it. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { MaclError } from '../../src/errors.js';
import { finetune } from '../../src/train/finetune.js';
import { pretrain, type PretrainOptions } from '../../src/train/pretrain.js';
import { RunFolder } from '../../src/train/run-folder.js';
import { compileSources, ended, firstOutput, type Children } from './child.js';
import { device, listen, logOf, runFiles, scratchFolder, tinyPretrain, toyDataset } from './toy.js';

const root = scratchFolder();
let data: string;
let children: Children;
beforeAll(async () => {
  data = await toyDataset(join(root, 'data'), { cases: 3 });
  children = compileSources(root);
  await run('whole');
});

const run = (out: string, more: Partial<PretrainOptions> = {}) =>
  pretrain({
    data,
    out: join(root, out),
    cacheDir: join(root, 'cache'),
    device,
    threads: 1,
    config: tinyPretrain(),
    ...more,
  });

async function failure(promise: Promise<unknown>): Promise<MaclError> {
  const error = await promise.then(
    () => new Error('nothing was thrown'),
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(MaclError);
  return error as MaclError;
}

/** A folder as a run leaves it that was stopped at a step. */
async function stoppedAt(out: string, step: number): Promise<string> {
  const controller = new AbortController();
  const { onEvent } = listen((e) => e.kind === 'step' && e.step === step && controller.abort());
  expect((await failure(run(out, { signal: controller.signal, onEvent }))).code).toBe('aborted');
  return join(root, out);
}

describe('the lock', () => {
  const lockOf = (folder: string) => readdirSync(folder).filter((n) => n.includes('lock'));

  it('keeps two runs on one folder apart, in one process and in two, and goes with the run', async () => {
    const out = join(root, 'two');
    const first = await RunFolder.open(out, { resume: false });
    expect(lockOf(out)).toEqual(['lock.1']);
    const error = await failure(RunFolder.open(out, { resume: true }));
    expect([error.code, error.message]).toEqual(['locked', expect.stringContaining(`process ${process.pid}`)]);
    expect(lockOf(out)).toEqual(['lock.1']);
    await first.close();
    expect(lockOf(out)).toEqual([]);
    const child = children.start(`
      import { RunFolder } from '${children.url('train/run-folder')}';
      await RunFolder.open(${JSON.stringify(out)}, { resume: true });
      process.stdout.write('.');
      setInterval(() => {}, 1000);`);
    await firstOutput(child);
    expect((await failure(RunFolder.open(out, { resume: true }))).message).toContain(`process ${child.pid}`);
    child.kill('SIGKILL');
    await ended(child);
    expect(lockOf(out)).toEqual(['lock.1']);
    await (await RunFolder.open(out, { resume: true })).close();
    expect(lockOf(out)).toEqual([]);
  });

  it('of a process whose pid another one has now, and one that cannot be read, is taken over', async () => {
    const out = join(root, 'reused');
    mkdirSync(out);
    for (const text of [JSON.stringify({ pid: process.pid, start: '12' }), '', '{"pid":', '{"pid":-1}']) {
      writeFileSync(join(out, 'lock.4'), text);
      const folder = await RunFolder.open(out, { resume: true });
      expect(lockOf(out)).toEqual(['lock.5']);
      await folder.close();
      expect(lockOf(out)).toEqual([]);
    }
  });

  it('goes to exactly one of many that want it at once, dead owner or none', async () => {
    for (let trial = 0; trial < 30; trial++) {
      const out = join(root, `race-${trial}`);
      mkdirSync(out);
      if (trial % 2) writeFileSync(join(out, 'lock.1'), JSON.stringify({ pid: process.pid, start: '12' }));
      const all = await Promise.allSettled(Array.from({ length: 8 }, () => RunFolder.open(out, { resume: true })));
      const won = all.flatMap((r) => (r.status === 'fulfilled' ? [r.value] : []));
      expect(won).toHaveLength(1);
      for (const r of all) if (r.status === 'rejected') expect((r.reason as MaclError).code).toBe('locked');
      await won[0]!.close();
      expect(readdirSync(out)).toEqual([]);
    }
  });

  it('stays with the one that trains while another asks', async () => {
    let second: Promise<MaclError> | undefined;
    const { onEvent } = listen((e) => {
      if (e.kind === 'step' && e.step === 2) second = failure(run('asked', { resume: true }));
    });
    await run('asked', { onEvent });
    expect((await second)?.code).toBe('locked');
    expect(runFiles(join(root, 'asked'))).toEqual(runFiles(join(root, 'whole')));
  });
});

describe('--out', () => {
  it('that is not empty is refused, and stays as it was', async () => {
    const out = join(root, 'papers');
    mkdirSync(out);
    writeFileSync(join(out, 'thesis.txt'), 'do not touch');
    const error = await failure(run('papers'));
    expect([error.code, error.details.file]).toEqual(['state', out]);
    expect(error.message).toMatch(/not empty.*--resume/);
    expect(readdirSync(out)).toEqual(['thesis.txt']);
    expect((await failure(run('whole'))).code).toBe('state');
  });

  it('is as empty as before after a start that failed, so that the same command works once the cause is gone', async () => {
    const out = join(root, 'retry');
    expect((await failure(run('retry', { cases: 'nobody' }))).code).toMatch(/dataset|config/);
    const contradiction = tinyPretrain({
      data: { patch: [7, 8, 8] },
      model: {
        strides: [
          [2, 2, 2],
          [2, 2, 2],
        ],
      },
    });
    expect((await failure(run('retry', { config: contradiction }))).code).toBe('config');
    expect((await failure(run('retry', { device: 'cuda:99' }))).code).toBe('device');
    expect(readdirSync(out)).toEqual([]);
    await run('retry');
    expect(runFiles(out)).toEqual(runFiles(join(root, 'whole')));
  });

  it('that is a file is an error with its name', async () => {
    writeFileSync(join(root, 'file'), '');
    const error = await failure(run('file'));
    expect([error.code, error.details.file]).toEqual(['file', join(root, 'file')]);
  });
});

describe('--resume', () => {
  it('passes over damaged checkpoints, cuts the log back, and comes to the same result', async () => {
    const out = await stoppedAt('damaged', 8);
    truncateSync(join(out, 'checkpoints/step-000000008.safetensors'), 1000);
    const { messages, onEvent } = listen();
    await run('damaged', { resume: true, onEvent });
    expect(messages('warning').join()).toMatch(/damaged checkpoint.*step-000000008/);
    const [found, whole] = [runFiles(out), runFiles(join(root, 'whole'))];
    expect(found['log.jsonl']).toBe(whole['log.jsonl']);
    expect(found['model.safetensors']).toBe(whole['model.safetensors']);
  });

  it('without a whole checkpoint starts at step 0 and says so', async () => {
    const out = await stoppedAt('gone', 8);
    for (const name of readdirSync(join(out, 'checkpoints'))) writeFileSync(join(out, 'checkpoints', name), 'x');
    for (const then of ['damaged', 'no checkpoints', 'no config']) {
      const copy = join(root, `gone-${then.replace(' ', '-')}`);
      cpSync(out, copy, { recursive: true });
      if (then !== 'damaged') rmSync(join(copy, 'checkpoints'), { recursive: true });
      if (then === 'no config') rmSync(join(copy, 'config.json'));
      const { messages, onEvent } = listen();
      await run(copy.slice(root.length + 1), { resume: true, onEvent });
      expect(messages('note').join()).toMatch(/no whole checkpoint: starting at step 0/);
      expect(logOf(copy)).toEqual(logOf(join(root, 'whole')));
      expect(runFiles(copy)).toEqual(runFiles(join(root, 'whole')));
    }
  });

  it('of an empty or absent folder begins a run', async () => {
    await run('fresh', { resume: true });
    expect(runFiles(join(root, 'fresh'))).toEqual(runFiles(join(root, 'whole')));
  });

  it('cuts off a torn last line', async () => {
    const out = await stoppedAt('torn', 8);
    const log = readFileSync(join(out, 'log.jsonl'), 'utf8');
    writeFileSync(join(out, 'log.jsonl'), `${log}{"step":9,"lo`);
    await run('torn', { resume: true });
    expect(logOf(out)).toEqual(logOf(join(root, 'whole')));
  });

  it('refuses what contradicts the run, naming both, and takes what says nothing about the result', async () => {
    const out = await stoppedAt('other', 3);
    const error = await failure(run('other', { resume: true, config: tinyPretrain({ train: { seed: 8 } }) }));
    expect([error.code, error.details.field]).toEqual(['config', 'train.seed']);
    expect(error.details).toMatchObject({ expected: 7, found: 8 });
    for (const augment of [{ rotation: 3 }, { mirror: true }]) {
      const short = await failure(run('other', { resume: true, config: { ...tinyPretrain(), augment } }));
      expect(short.message).toMatch(/--resume: augment\.(rotation|mirror)/);
    }
    const task = await failure(
      finetune({ data, out, resume: true, cacheDir: join(root, 'cache'), device, threads: 1 }),
    );
    expect(task.message).toMatch(/is a pretrain run/);
    const same = { ...tinyPretrain({ train: { checkpointEvery: 4 } }), augment: { rotation: 20, mirror: false } };
    await run('other', { resume: true, config: same, threads: 2 });
    expect(existsSync(join(out, 'checkpoints/step-000000008.safetensors'))).toBe(true);
    expect(runFiles(out)['model.safetensors']).toBe(runFiles(join(root, 'whole'))['model.safetensors']);
  });

  it('neither goes on in a folder that is no run, nor removes anything there', async () => {
    const out = join(root, 'foreign');
    mkdirSync(out);
    for (const name of ['notes.txt', '.precious.tmp']) writeFileSync(join(out, name), 'mine');
    const error = await failure(run('foreign', { resume: true }));
    expect([error.code, error.message]).toEqual([
      'state',
      expect.stringMatching(/not the folder of a run.*notes\.txt/),
    ]);
    expect(readdirSync(out).sort()).toEqual(['.precious.tmp', 'notes.txt']);
  });

  it.skipIf(device === 'wasm')('on another instruction set warns that bits will differ', async () => {
    await stoppedAt('isa', 3);
    const { messages, onEvent } = listen();
    await run('isa', { resume: true, isa: 'plain', onEvent });
    expect(messages('warning').join()).toMatch(/began on cpu .* goes on on cpu \(plain\): its bits will differ/);
  });

  it('never mixes runs: a checkpoint of another configuration is refused, another dataset is warned about', async () => {
    const out = await stoppedAt('mixed', 3);
    rmSync(join(out, 'config.json'));
    const config = tinyPretrain({ train: { seed: 8 } });
    const error = await failure(run('mixed', { resume: true, config }));
    expect([error.code, error.details.file]).toEqual(['config', join(out, 'checkpoints/step-000000003.safetensors')]);
    await run('mixed', { resume: true });
    expect(runFiles(out)).toEqual(runFiles(join(root, 'whole')));
    await stoppedAt('moved', 3);
    cpSync(data, join(root, 'data-2'), { recursive: true });
    const { messages, onEvent } = listen();
    await run('moved', { resume: true, data: join(root, 'data-2'), onEvent });
    expect(messages('warning').join()).toMatch(/began on .*data and goes on with .*data-2/);
    expect(runFiles(join(root, 'moved'))['model.safetensors']).toBe(runFiles(out)['model.safetensors']);
  });

  it('with a record that is not one names it', async () => {
    const out = await stoppedAt('record', 2);
    for (const text of ['{', '[]', '{"format":2}']) {
      writeFileSync(join(out, 'config.json'), text);
      const error = await failure(run('record', { resume: true }));
      expect([error.code, error.details.file]).toEqual(['file', join(out, 'config.json')]);
    }
  });
});

describe('a run', () => {
  it('keeps times, folders and threads out of the model', () => {
    const text = runFiles(join(root, 'whole'))['model.safetensors']!;
    const header = text.slice(8, 8 + Buffer.from(text.slice(0, 8), 'latin1').readUInt32LE());
    expect(JSON.parse(header)).toHaveProperty('__metadata__');
    expect(header).not.toContain(root);
    expect(header).not.toMatch(/threads|pid|host|time"/);
  });
});
