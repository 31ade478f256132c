// The quickstart from dataset to picture in its smallest form; its arithmetic and its words without a device.
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readSafetensorsFile } from '../../src/data/files.js';
import { readNiftiHeader } from '../../src/data/nifti.js';
import { quickstart, type QuickstartEvent, type QuickstartReport } from '../../src/train/quickstart.js';
import { planSteps, replanFinetune, roughly } from '../../src/train/quickstart-pace.js';
import { verdict } from '../../src/train/quickstart-report.js';
import { SIZES, type QuickstartSizes } from '../../src/train/quickstart-settings.js';

const TINY: Partial<QuickstartSizes> = {
  trainCases: 3,
  testCases: 2,
  labelledCases: 1,
  pretrainSteps: 2,
  finetuneSteps: 2,
  filters: 4,
  pretrainPatch: [16, 32, 32],
  pretrainBatch: 2,
  finetunePatch: [32, 48, 48],
  finetuneBatch: 1,
};

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'macl-quickstart-test-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the whole path, tiny', () => {
  let report: QuickstartReport;
  const events: QuickstartEvent[] = [];
  beforeAll(async () => {
    // Taken, so that the numbered sibling is used.
    await mkdir(path.join(folder, 'qs', 'mine'), { recursive: true });
    report = await quickstart({
      out: path.join(folder, 'qs'),
      seed: 3,
      threads: 1,
      sizes: TINY,
      onEvent: (event) => events.push(event),
    });
  }, 180_000);

  it('leaves what was there alone and takes a numbered sibling', async () => {
    expect(report.out).toBe(path.join(folder, 'qs-2'));
    expect(await readdir(path.join(folder, 'qs'))).toEqual(['mine']);
  });

  it('leaves three runs with models, predictions on their own grids, a report and a picture', async () => {
    const { out } = report;
    for (const run of ['pretrain', 'scratch', 'pretrained'])
      expect(await readdir(path.join(out, run))).toEqual(
        expect.arrayContaining(['config.json', 'log.jsonl', 'model.safetensors']),
      );
    for (const which of ['scratch', 'pretrained']) {
      const names = await readdir(path.join(out, 'predictions', which));
      expect(names.sort()).toEqual(['phantom_004.nii.gz', 'phantom_005.nii.gz']);
      for (const name of names) {
        const [found, image] = [
          await readNiftiHeader(path.join(out, 'predictions', which, name)),
          await readNiftiHeader(path.join(out, 'dataset', 'imagesTs', name)),
        ];
        expect(found.shape).toEqual(image.shape);
        expect(found.affine).toEqual(image.affine);
      }
    }
    expect((await readFile(report.contactSheet)).subarray(1, 4).toString()).toBe('PNG');
    const document = JSON.parse(await readFile(report.reportFile, 'utf8')) as {
      rows: unknown;
      evaluation: Record<string, { cases: object }>;
    };
    expect(document.rows).toEqual(report.rows);
    expect(Object.keys(document.evaluation['pre-trained']!.cases)).toEqual(['phantom_004', 'phantom_005']);
    expect(existsSync(path.join(out, '.pace'))).toBe(false);
  });

  it('compares like with like: the two fine-tunings differ in where they begin, and in nothing else', async () => {
    const [scratch, pretrained] = await Promise.all(
      ['scratch', 'pretrained'].map(async (run) => {
        const record = JSON.parse(await readFile(path.join(report.out, run, 'config.json'), 'utf8')) as Record<
          string,
          unknown
        >;
        return record;
      }),
    );
    expect(scratch!['init']).toBeNull();
    expect(pretrained!['init']).toBe(path.join(report.out, 'pretrain'));
    expect({ ...pretrained, init: null }).toEqual(scratch);
    expect(scratch!['cases']).toEqual({ train: ['phantom_001'], validation: [] });
    const first = 'encoder.0.0.weight';
    const weights = await Promise.all(
      ['scratch', 'pretrained'].map((run) => readSafetensorsFile(path.join(report.out, run, 'model.safetensors'))),
    );
    const [a, b] = weights.map(({ tensors }) => tensors.get([...tensors.keys()][0]!)!);
    expect(a, first).not.toEqual(b);
  });

  it('prints both rows with intervals, the sign of the difference, and its estimate before it trains', () => {
    expect(report.rows.map((row) => row.name)).toEqual(['scratch', 'pre-trained']);
    for (const row of report.rows) expect(row.dice).toBeGreaterThanOrEqual(0);
    expect(report.table).toMatch(/^scratch .*\[0\.\d+, 0\.\d+\]/m);
    expect(report.table).toMatch(/^pre-trained .*\[0\.\d+, 0\.\d+\]/m);
    expect(report.difference.dice).toBeCloseTo(report.rows[1].dice! - report.rows[0].dice!, 9);
    expect(report.table).toContain(report.verdict);
    const estimate = events.findIndex((event) => event.kind === 'note' && /to go/.test(event.message));
    expect(estimate).toBeGreaterThanOrEqual(0);
    expect(events.findIndex((event) => event.kind === 'step')).toBeGreaterThan(estimate);
  });
});

it('stops on an abort', async () => {
  const controller = new AbortController();
  const started = quickstart({
    out: path.join(folder, 'aborted'),
    threads: 1,
    sizes: TINY,
    signal: controller.signal,
    onEvent: (event) => {
      if (event.kind === 'step') controller.abort();
    },
  });
  await expect(started).rejects.toMatchObject({ code: 'aborted' });
  expect(existsSync(path.join(folder, 'aborted', 'report.json'))).toBe(false);
}, 120_000);

it('leaves nothing behind where the device is not there', async () => {
  const out = path.join(folder, 'no-device');
  await expect(quickstart({ out, device: 'cuda:99' })).rejects.toMatchObject({ code: 'device' });
  expect(existsSync(out)).toBe(false);
});

describe('pace', () => {
  const total = (pace: { pretrainSeconds: number; finetuneSeconds: number }, left: number) =>
    planSteps(SIZES, pace, left);
  it('keeps all steps where they fit', () => {
    const plan = total({ pretrainSeconds: 0.1, finetuneSeconds: 0.1 }, 270);
    expect(plan).toMatchObject({
      pretrainSteps: SIZES.pretrainSteps,
      finetuneSteps: SIZES.finetuneSteps,
      shortened: false,
    });
  });
  it('takes fewer, in the same proportion, where they do not, and then fits', () => {
    const plan = total({ pretrainSeconds: 0.8, finetuneSeconds: 0.7 }, 270);
    expect(plan.shortened).toBe(true);
    expect(plan.estimateSeconds).toBeLessThanOrEqual(270);
    expect(plan.estimateSeconds).toBeGreaterThan(250);
    expect(plan.pretrainSteps / plan.finetuneSteps).toBeCloseTo(SIZES.pretrainSteps / SIZES.finetuneSteps, 1);
  });
  it('takes some steps on any machine', () => {
    expect(total({ pretrainSeconds: 60, finetuneSeconds: 60 }, 270).finetuneSteps).toBe(10);
  });
  it('takes fewer fine-tuning steps after a slow pre-training, never more', () => {
    const pace = { pretrainSeconds: 0.2, finetuneSeconds: 0.5 };
    expect(replanFinetune(SIZES, pace, 200, 1e6)).toBe(200);
    const steps = replanFinetune(SIZES, pace, 200, 150);
    expect(steps).toBeLessThan(200);
    expect(2 * steps * pace.finetuneSeconds).toBeLessThan(150);
  });
  it.each([
    [7, 'about 5 s'],
    [44, 'about 45 s'],
    [60, 'about 1 min'],
    [140, 'about 2.5 min'],
  ])('says %d s as %s', (seconds, words) => expect(roughly(seconds)).toBe(words));
});

describe('verdict', () => {
  it.each([
    [0.05, [0.01, 0.09], /is ahead/],
    [-0.05, [-0.09, -0.01], /is behind/],
    [0.02, [-0.01, 0.05], /no difference.*more/],
    [-0.02, [-0.05, 0.01], /no difference.*less/],
  ] as const)('of %d %j', (dice, ci95, words) => expect(verdict({ dice, ci95 }, 12)).toMatch(words));
});
