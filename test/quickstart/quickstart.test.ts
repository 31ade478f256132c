// The quickstart from dataset to picture in its smallest form; its arithmetic and its words without a device.
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { readSafetensorsFile } from '../../src/data/files.js';
import { readNiftiHeader } from '../../src/data/nifti/index.js';
import { quickstart, type QuickstartEvent, type QuickstartReport } from '../../src/quickstart/quickstart.js';
import { estimateSeconds, roughly } from '../../src/quickstart/pace.js';
import { verdict } from '../../src/quickstart/report.js';
import { SIZES, type QuickstartSizes } from '../../src/quickstart/settings.js';

const TINY: Partial<QuickstartSizes> = {
  trainCases: 3,
  testCases: 3,
  labelledCases: 1,
  pretrainSteps: 2,
  finetuneSteps: 2,
  longerSteps: 3,
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
    // A clock on which everything takes minutes: nothing that is trained may depend on it.
    const now = performance.now.bind(performance);
    let calls = 0;
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now() + 60_000 * calls++);
    report = await quickstart({
      out: path.join(folder, 'qs'),
      seed: 3,
      threads: 1,
      sizes: TINY,
      onEvent: (event) => events.push(event),
    }).finally(() => clock.mockRestore());
  }, 180_000);

  it('leaves what was there alone and takes a numbered sibling', async () => {
    expect(report.out).toBe(path.join(folder, 'qs-2'));
    expect(await readdir(path.join(folder, 'qs'))).toEqual(['mine']);
  });

  it('leaves four runs with models, predictions on their own grids, a report and a picture', async () => {
    const { out } = report;
    for (const run of ['pretrain', 'scratch', 'pretrained', 'scratch-plus'])
      expect(await readdir(path.join(out, run))).toEqual(
        expect.arrayContaining(['config.json', 'log.jsonl', 'model.safetensors']),
      );
    for (const which of ['scratch', 'pretrained', 'scratch-plus']) {
      const names = await readdir(path.join(out, 'predictions', which));
      expect(names.sort()).toEqual(['phantom_004.nii.gz', 'phantom_005.nii.gz', 'phantom_006.nii.gz']);
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
    expect(Object.keys(document.evaluation['pre-trained']!.cases)).toEqual([
      'phantom_004',
      'phantom_005',
      'phantom_006',
    ]);
    expect(existsSync(path.join(out, '.pace'))).toBe(false);
  });

  it('compares like with like: two fine-tunings differ in where they begin alone, the third in its steps', async () => {
    const [scratch, pretrained, longer] = await Promise.all(
      ['scratch', 'pretrained', 'scratch-plus'].map(async (run) => {
        const record = JSON.parse(await readFile(path.join(report.out, run, 'config.json'), 'utf8')) as Record<
          string,
          unknown
        >;
        return record;
      }),
    );
    expect(scratch!['init']).toBeNull();
    expect(pretrained!['init']).toBe(path.join(report.out, 'pretrain'));
    const { loaded, ...others } = pretrained!;
    expect(loaded).toContain('encoder.blocks.0.conv1.weight');
    expect({ ...others, init: null }).toEqual(scratch);
    const steps = (record: Record<string, unknown>) => (record['config'] as { train: { steps: number } }).train;
    expect([steps(scratch!), steps(longer!)].map((train) => train.steps)).toEqual([2, 3]);
    const longerAlike = structuredClone(longer!);
    steps(longerAlike).steps = 2;
    expect(longerAlike).toEqual(scratch);
    expect(scratch!['cases']).toEqual({ train: ['phantom_001'], validation: [] });
    const weights = await Promise.all(
      ['scratch', 'pretrained'].map((run) => readSafetensorsFile(path.join(report.out, run, 'model.safetensors'))),
    );
    const [a, b] = weights.map(({ tensors }) => tensors.get([...tensors.keys()][0]!)!);
    expect(a).not.toEqual(b);
  });

  it('prints all rows with intervals, the signs of the differences, and its estimate before it trains', () => {
    expect(report.rows.map((row) => [row.name, row.steps])).toEqual([
      ['scratch', 2],
      ['pre-trained', 2],
      ['scratch+', 3],
    ]);
    for (const row of report.rows) expect(row.dice).toBeGreaterThanOrEqual(0);
    expect(report.table).toMatch(/^scratch .*\[0\.\d+, 0\.\d+\]/m);
    expect(report.table).toMatch(/^scratch\+ .*\[0\.\d+, 0\.\d+\]/m);
    expect(report.table).toMatch(/^pre-trained .*\[0\.\d+, 0\.\d+\]/m);
    const [scratch, pretrained, longer] = report.rows.map((row) => row.dice!) as [number, number, number];
    expect(report.difference.dice).toBeCloseTo(pretrained - scratch, 9);
    expect(report.differences.scratch).toEqual(report.difference);
    expect(report.differences['scratch+'].dice).toBeCloseTo(pretrained - longer, 9);
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
  it('estimates all steps and all cases, and grows with both step times', () => {
    const pace = { pretrainSeconds: 0.1, finetuneSeconds: 0.1 };
    const { pretrainSteps, finetuneSteps, longerSteps } = SIZES;
    const training = 0.1 * (pretrainSteps + 2 * finetuneSteps + longerSteps);
    expect(estimateSeconds(SIZES, pace)).toBeGreaterThan(training);
    expect(estimateSeconds(SIZES, pace)).toBeLessThan(training + 30);
    expect(estimateSeconds(SIZES, { ...pace, pretrainSeconds: 1.1 }) - estimateSeconds(SIZES, pace)).toBeCloseTo(
      pretrainSteps,
      6,
    );
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
    [0.05, [0.01, 0.09], /^Against scratch .* is ahead/],
    [-0.05, [-0.09, -0.01], /is behind/],
    [0.02, [-0.01, 0.05], /no difference.*more/],
    [-0.02, [-0.05, 0.01], /no difference.*less/],
  ] as const)('of %d %j', (dice, ci95, words) => expect(verdict({ dice, ci95 }, 12, 'scratch')).toMatch(words));
});
