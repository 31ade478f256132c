/** A run's folder: whose it is, what is refused, what a resume finds in it. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
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

describe('a folder that is taken away while a run writes to it', () => {
  const whole = (out: string) => readdirSync(join(root, out), { recursive: true, encoding: 'utf8' }).sort();
  /** What happens to the folder after step 6; checkpoints come at 5, 10 and the end. */
  const after = async (out: string, happens: () => void) => {
    const { onEvent } = listen((e) => e.kind === 'step' && e.step === 6 && happens());
    return failure(run(out, { onEvent }));
  };

  it.each([
    ['removed', (out: string) => rmSync(out, { recursive: true })],
    ['emptied', (out: string) => readdirSync(out).forEach((n) => rmSync(join(out, n), { recursive: true }))],
    ['moved away', (out: string) => renameSync(out, `${out}-moved`)],
  ])('%s: is an error, and nothing is written to where it was', async (how, happens) => {
    const name = `away-${how.replace(' ', '-')}`;
    const out = join(root, name);
    const error = await after(name, () => happens(out));
    expect([error.code, error.details.file]).toEqual(['state', join(out, 'lock.1')]);
    expect(error.message).toMatch(/removed or replaced while this run was writing/);
    expect(existsSync(out) ? readdirSync(out) : []).toEqual([]);
  });

  it('exchanged for another run: the other stays as it is', async () => {
    const out = join(root, 'taken');
    let other: RunFolder | undefined;
    let opened: Promise<void> | undefined;
    const { onEvent } = listen((e) => {
      if (e.kind !== 'step' || e.step !== 6) return;
      rmSync(out, { recursive: true });
      opened = RunFolder.open(out, { resume: false }).then((folder) => void (other = folder));
    });
    const error = await failure(run('taken', { onEvent }));
    await opened;
    expect(error.code).toBe('state');
    expect(whole('taken')).toEqual(['lock.1']);
    await other!.close();
    expect(whole('taken')).toEqual([]);
  });

  it.each(['config.json', 'log.jsonl'])('without its %s: is an error that names it', async (name) => {
    const out = `lost-${name.slice(0, 3)}`;
    let logged = false;
    const { onEvent } = listen((e) => {
      if (e.kind !== 'step' || logged || !existsSync(join(root, out, name))) return;
      logged = true;
      rmSync(join(root, out, name));
    });
    const error = await failure(run(out, { onEvent }));
    expect([error.code, error.details.file]).toEqual(['state', join(root, out, name)]);
    expect(existsSync(join(root, out, 'model.safetensors'))).toBe(false);
  });
});

describe('what cannot be read', () => {
  it('is not what is not there: a checkpoint, log, lock or record stops a resume, and everything stays', async () => {
    const out = await stoppedAt('unread', 8);
    // A link to itself cannot be opened by anybody, root included.
    for (const name of ['checkpoints/step-000000008.safetensors', 'log.jsonl', 'config.json', 'lock.3']) {
      const copy = join(root, `unread-${name.slice(0, 3)}`);
      cpSync(out, copy, { recursive: true });
      rmSync(join(copy, name), { force: true });
      symlinkSync(name.replace(/.*\//, ''), join(copy, name));
      const before = readdirSync(copy, { recursive: true }).sort();
      const error = await failure(run(copy.slice(root.length + 1), { resume: true }));
      expect([error.code, error.details.file], error.message).toEqual(['file', join(copy, name)]);
      expect(error.message).toMatch(/ELOOP/);
      expect(readdirSync(copy, { recursive: true }).sort()).toEqual(before);
    }
  });
});

describe('volumes that were exchanged under the same names', () => {
  it('are an error on --resume that names the cases; the same volumes elsewhere or touched are not', async () => {
    const own = join(root, 'own-data');
    await toyDataset(own, { cases: 3 });
    const there = { data: own };
    const controller = new AbortController();
    const { onEvent } = listen((e) => e.kind === 'step' && e.step === 3 && controller.abort());
    await failure(run('exchanged', { ...there, signal: controller.signal, onEvent }));
    const log = readFileSync(join(root, 'exchanged/log.jsonl'), 'utf8');
    const image = (n: number) => join(own, `imagesTr/toy_${n}.nii.gz`);
    const first = readFileSync(image(1));
    cpSync(image(2), image(1));
    const error = await failure(run('exchanged', { ...there, resume: true }));
    expect([error.code, error.details.found]).toEqual(['dataset', ['toy_1']]);
    // One voxel that changed places with another leaves every statistic as it was.
    const bytes = gunzipSync(first);
    const data = 352 + 4 * 300;
    expect(bytes.readFloatLE(data)).not.toBe(bytes.readFloatLE(data + 4));
    bytes
      .subarray(data, data + 8)
      .set(Buffer.concat([bytes.subarray(data + 4, data + 8), bytes.subarray(data, data + 4)]));
    writeFileSync(image(1), gzipSync(bytes));
    expect((await failure(run('exchanged', { ...there, resume: true }))).details.found).toEqual(['toy_1']);
    expect(error.message).toMatch(/toy_1 \(other voxels\)/);
    expect(readFileSync(join(root, 'exchanged/log.jsonl'), 'utf8')).toBe(log);
    writeFileSync(image(1), first);
    await run('exchanged', { ...there, resume: true });
    const model = (out: string) => runFiles(join(root, out))['model.safetensors'];
    expect(model('exchanged')).toBe(model('whole'));
  });
});

describe('the record of a run', () => {
  it('is checked like any input: each field that is wrong is named', async () => {
    const out = await stoppedAt('fields', 2);
    const text = readFileSync(join(out, 'config.json'), 'utf8');
    const wrong: [string, (record: Record<string, any>) => void][] = [
      ['config.train.steps', (r) => (r['config'].train.steps = 'many')],
      ['config.data.patch', (r) => (r['config'].data.patch = null)],
      ['config.model.levles', (r) => (r['config'].model.levles = 2)],
      ['normalization[0]', (r) => (r['normalization'] = [{ kind: 'ct' }])],
      ['normalization', (r) => (r['normalization'] = [])],
      ['channelNames', (r) => (r['channelNames'] = 'MRI')],
      ['cases.train', (r) => (r['cases'].train = ['toy_1', 'toy_1'])],
      ['cases.train', (r) => (r['cases'].train = [])],
      ['cases', (r) => (r['cases'].validation = ['toy_1'])],
      ['channels', (r) => (r['channels'] = 'some')],
      ['device', (r) => (r['device'] = null)],
      ['dataset', (r) => delete r['dataset']],
      ['volumes', (r) => (r['volumes'] = { toy_1: 3 })],
    ];
    for (const [field, change] of wrong) {
      const record = JSON.parse(text) as Record<string, any>;
      change(record);
      writeFileSync(join(out, 'config.json'), JSON.stringify(record));
      const error = await failure(run('fields', { resume: true }));
      expect([error.code, error.details.file], `${field}: ${error.message}`).toEqual([
        'file',
        join(out, 'config.json'),
      ]);
      expect(error.details.field).toContain(field);
    }
    writeFileSync(join(out, 'config.json'), '['.repeat(6000) + ']'.repeat(6000));
    expect((await failure(run('fields', { resume: true }))).message).toMatch(/nested deeper/);
    writeFileSync(join(out, 'config.json'), text);
    await run('fields', { resume: true });
  });

  it('lines of the log that are no records are left out and named', async () => {
    const out = await stoppedAt('lines', 8);
    const lines = readFileSync(join(out, 'log.jsonl'), 'utf8').split('\n');
    lines[2] = '{"step":3,"lo\u0000ss';
    writeFileSync(join(out, 'log.jsonl'), lines.join('\n'));
    const { messages, onEvent } = listen();
    await run('lines', { resume: true, onEvent });
    expect(messages('warning').join()).toMatch(/log\.jsonl: lines that are no records were left out: 3/);
    expect(logOf(out).map((r) => r['step'])).toEqual(
      logOf(join(root, 'whole')).flatMap((r) => (r['step'] === 3 ? [] : [r['step']])),
    );
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
