/** A save that is killed or finds the disk full, and resume after kill -9: processes of their own that die while they save or train. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readSafetensorsFile } from '../../src/data/files.js';
import { Draws } from '../../src/philox.js';
import { RunFolder } from '../../src/train/run-folder.js';
import { compileSources, ended, firstOutput, type Children } from './child.js';
import { device, logOf, runFiles, scratchFolder, tinyFinetune, tinyPretrain, toyDataset } from './toy.js';

const root = scratchFolder();
const cacheDir = join(root, 'cache');
const KILLS = 50;
const STEPS = 40;
/** Floats of the one tensor of a checkpoint: some chunks of a write. */
const FLOATS = 1 << 18;
let children: Children;
beforeAll(() => {
  children = compileSources(root);
});

/** A child that saves checkpoints one after the other, step n full of n, and says so once the first is there. */
const saver = (out: string) => `
  import { RunFolder } from '${children.url('train/run-folder')}';
  const folder = await RunFolder.open(${JSON.stringify(out)}, { resume: true });
  const known = await folder.newestCheckpoint(() => {}, async () => null);
  for (let n = (known?.step ?? 0) + 1; ; n++) {
    folder.record({ step: n });
    const bytes = new Uint8Array(new Float32Array(${FLOATS}).fill(n).buffer);
    await folder.saveCheckpoint(n, new Map([['w', { dtype: 'F32', shape: [${FLOATS}], bytes }]]), { step: String(n) });
    if (n === (known?.step ?? 0) + 1) process.stdout.write(String(n));
  }`;

describe('a save', () => {
  it(`killed at ${KILLS} random moments leaves the previous or the new checkpoint whole`, async () => {
    const out = join(root, 'saves');
    const draws = new Draws(24, 1, 0, 0);
    let before = 0;
    let leftovers = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const child = children.start(saver(out));
      const first = Number(await firstOutput(child));
      expect(first).toBe(before + 1);
      await new Promise((wait) => setTimeout(wait, draws.uniform() * 25));
      child.kill('SIGKILL');
      await ended(child);
      leftovers += readdirSync(join(out, 'checkpoints')).filter((n) => n.endsWith('.tmp')).length;
      const damaged: string[] = [];
      // The dead owner's lock is taken over.
      const folder = await RunFolder.open(out, { resume: true });
      const newest = (await folder.newestCheckpoint(
        (e) => damaged.push(e.message),
        ({ file }) => readSafetensorsFile(file),
      ))!;
      await folder.close();
      expect(damaged).toEqual([]);
      expect(newest.step).toBeGreaterThanOrEqual(first);
      const { bytes } = newest.contents.tensors.get('w')!;
      const values = new Float32Array(bytes.slice().buffer);
      expect(values.length).toBe(FLOATS);
      expect(values.every((v) => v === newest.step)).toBe(true);
      expect(newest.metadata['step']).toBe(String(newest.step));
      before = newest.step;
      expect(readdirSync(join(out, 'checkpoints')).every((n) => /^step-\d{9}\.safetensors$/.test(n))).toBe(true);
    }
    // Kills did come in the middle of a write.
    expect(leftovers).toBeGreaterThan(5);
  });

  it('that the system refuses leaves the old checkpoint and no temporary file', async () => {
    const out = join(root, 'full');
    const { status, stdout } = children.run(
      `
      import { RunFolder } from '${children.url('train/run-folder')}';
      const folder = await RunFolder.open(${JSON.stringify(out)}, { resume: false });
      const tensor = (n) => new Map([['w', { dtype: 'F32', shape: [n], bytes: new Uint8Array(4 * n) }]]);
      await folder.saveCheckpoint(1, tensor(100), {});
      const error = await folder.saveCheckpoint(2, tensor(1 << 18), {}).catch((e) => e);
      await folder.close();
      process.stdout.write(error.code + ' ' + error.details.file);`,
      'ulimit -f 64',
    );
    expect([status, stdout]).toEqual([0, `file ${join(out, 'checkpoints/step-000000002.safetensors')}`]);
    expect(readdirSync(join(out, 'checkpoints'))).toEqual(['step-000000001.safetensors']);
    expect(readdirSync(out)).toEqual(['checkpoints']);
  });
});

describe('a training', () => {
  it.each(['pretrain', 'finetune'] as const)(
    '%s killed and resumed until done is never having stopped',
    async (task) => {
      const data = await toyDataset(join(root, `${task}-data`));
      const config =
        task === 'pretrain'
          ? tinyPretrain({ train: { steps: STEPS } })
          : tinyFinetune({ train: { steps: STEPS, valEvery: 7 } });
      const base = { data, cacheDir, device, threads: 1, config, ...(task === 'finetune' ? { val: '0.5' } : {}) };
      // It kills itself some steps and fractions of a millisecond after its first step, wherever it then is: another
      // process would come too late where steps are this short.
      const program = (out: string, kill?: { afterSteps: number; afterMs: number }) => `
      import { ${task} } from '${children.url(`train/${task}`)}';
      const kill = ${JSON.stringify(kill ?? null)};
      let steps = 0;
      await ${task}({ ...${JSON.stringify(base)}, out: ${JSON.stringify(join(root, out))}, resume: ${kill !== undefined},
        onEvent: (e) => {
          if (!kill || e.kind !== 'step' || ++steps !== kill.afterSteps) return;
          const at = performance.now() + kill.afterMs;
          const look = () => (performance.now() < at ? setImmediate(look) : process.kill(process.pid, 'SIGKILL'));
          look();
        } });`;
      expect(children.run(program(`${task}-whole`)).status).toBe(0);
      const draws = new Draws(3, 0, task.length, 0);
      const out = `${task}-killed`;
      let kills = 0;
      for (let status: number | null = null; status !== 0;) {
        const kill = { afterSteps: 1 + Math.floor(draws.uniform() * 6), afterMs: draws.uniform() * 3 };
        // The last try runs to its end.
        const result = children.run(program(out, kills < 12 ? kill : { afterSteps: -1, afterMs: 0 }));
        status = result.status;
        if (status === 0) break;
        expect(result.stderr).toBe('');
        kills++;
      }
      expect(kills).toBeGreaterThan(2);
      const [found, whole] = [runFiles(join(root, out)), runFiles(join(root, `${task}-whole`))];
      expect(logOf(join(root, out))).toEqual(logOf(join(root, `${task}-whole`)));
      expect(found).toEqual(whole);
    },
  );

  it('that runs out of disk keeps the last checkpoint and says which file', async () => {
    const data = await toyDataset(join(root, 'disk-data'));
    const out = join(root, 'disk');
    const base = { data, cacheDir, device, threads: 1, out };
    const program = (checkpointEvery: number, resume: boolean) => `
      import { pretrain } from '${children.url('train/pretrain')}';
      const config = ${JSON.stringify(tinyPretrain({ model: { filters: 4 }, train: { steps: 20 } }))};
      config.train.checkpointEvery = ${checkpointEvery};
      const options = { ...${JSON.stringify(base)}, config, resume: ${resume} };
      const controller = new AbortController();
      options.signal = controller.signal;
      if (!${resume}) options.onEvent = (e) => e.kind === 'step' && e.step === 6 && controller.abort();
      const error = await pretrain(options).catch((e) => e);
      process.stdout.write(error.code + ' ' + error.details.file);`;
    expect(children.run(program(5, false)).stdout).toMatch(/^aborted/);
    const before = runFiles(out);
    expect(children.run(program(5, true), 'ulimit -f 16').stdout).toBe(
      `file ${join(out, 'checkpoints/step-000000010.safetensors')}`,
    );
    const after = runFiles(out);
    expect(Object.keys(after)).toEqual(Object.keys(before));
    for (const name of Object.keys(before).filter((n) => n !== 'log.jsonl')) expect(after[name]).toBe(before[name]);
  });
});

describe('what a killed save left', () => {
  it('is removed by the resume, and a file of a process that asks for the lock is not', async () => {
    const out = join(root, 'leftovers');
    mkdirSync(join(out, 'checkpoints'), { recursive: true });
    const dead = children.run('process.stdout.write(String(process.pid))').stdout;
    const hex = 'ab'.repeat(6);
    const left = [`.model.safetensors.${dead}.${hex}.tmp`, `.lock.${dead}.${hex}.tmp`, `.config.json.1.${hex}.tmp`];
    for (const name of [...left, `checkpoints/.best.safetensors.${dead}.${hex}.tmp`, `.lock.${process.pid}.${hex}.tmp`])
      writeFileSync(join(out, name), '');
    const folder = await RunFolder.open(out, { resume: true });
    await folder.close();
    expect(readdirSync(out).sort()).toEqual([`.lock.${process.pid}.${hex}.tmp`, 'checkpoints']);
    expect(readdirSync(join(out, 'checkpoints'))).toEqual([]);
  });
});

describe('the file of a checkpoint', () => {
  it('that was cut short or overwritten is passed over for the one before', async () => {
    const out = join(root, 'damaged');
    mkdirSync(out);
    const folder = await RunFolder.open(out, { resume: false });
    const tensors = new Map([['w', { dtype: 'F32' as const, shape: [2], bytes: new Uint8Array(8) }]]);
    await folder.saveCheckpoint(1, tensors, { step: '1' });
    await folder.saveCheckpoint(2, tensors, { step: '2' });
    writeFileSync(join(out, 'checkpoints/step-000000002.safetensors'), 'not what it was');
    const damaged: string[] = [];
    expect(
      (
        await folder.newestCheckpoint(
          (e) => damaged.push(e.message),
          () => Promise.resolve(null),
        )
      )?.step,
    ).toBe(1);
    expect(damaged.join()).toMatch(/step-000000002/);
    await folder.close();
  });
});
