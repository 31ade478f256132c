/** Data as training meets it: volumes that stay on disk, bad cases, padding, prepared folders. */
import { writeFileSync, readdirSync, readFileSync, copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { patchAffine } from '../../src/data/sampling/affine.js';
import { boxOf, TAPS } from '../../src/data/sampling/affine.js';
import { Draws } from '../../src/philox.js';
import type { Triple } from '../../src/volume.js';
import type { MaclError } from '../../src/errors.js';
import { finetune, type FinetuneOptions } from '../../src/train/finetune.js';
import { pretrain, type PretrainOptions } from '../../src/train/pretrain.js';
import { prepare } from '../../src/train/prepare-command.js';
import { largestBox } from '../../src/train/volume-store.js';
import { writeNifti } from '../../src/data/nifti/index.js';
import {
  device,
  listen,
  logOf,
  runFiles,
  scratchFolder,
  tinyFinetune,
  tinyPretrain,
  toyDataset,
  toyVolume,
} from './toy.js';

const root = scratchFolder();
const cacheDir = join(root, 'cache');
let data: string;
beforeAll(async () => {
  data = await toyDataset(join(root, 'data'));
});
const common = { cacheDir, device, threads: 2 } as const;
const train = (out: string, more: Partial<PretrainOptions> = {}) =>
  pretrain({ ...common, data, out: join(root, out), config: tinyPretrain(), ...more });
const tune = (out: string, more: Partial<FinetuneOptions> = {}) =>
  finetune({ ...common, data, out: join(root, out), config: tinyFinetune(), ...more });
async function failure(promise: Promise<unknown>): Promise<MaclError> {
  return (await promise.then(
    () => new Error('nothing was thrown'),
    (e: unknown) => e,
  )) as MaclError;
}

describe('volumes that do not fit into memory', () => {
  // Larger than the patch, anisotropic, so that boxes are real boxes.
  const augment = { rotation: 30, scale: [0.7, 1.3], mirror: true, translation: 0.1, probability: 1 } as const;

  it.each(['linear', 'cubic'] as const)('train to the same bits as resident ones, %s', async (interpolation) => {
    const large = await toyDataset(join(root, `large-${interpolation}`), {
      shape: [18, 40, 36],
      spacingMm: [2.5, 1, 1.2],
    });
    const config = { augment: { ...augment, interpolation } };
    for (const [name, run] of [
      [
        'pre',
        (out: string, storeBytes: number | undefined, onEvent: PretrainOptions['onEvent']) =>
          train(out, { data: large, storeBytes, onEvent, config: tinyPretrain({ ...config, train: { steps: 8 } }) }),
      ],
      [
        'fine',
        (out: string, storeBytes: number | undefined, onEvent: PretrainOptions['onEvent']) =>
          tune(out, { data: large, storeBytes, onEvent, config: tinyFinetune({ ...config, train: { steps: 8 } }) }),
      ],
    ] as const) {
      const [resident, boxes] = [listen(), listen()];
      await run(`${name}-${interpolation}-resident`, undefined, resident.onEvent);
      await run(`${name}-${interpolation}-boxes`, 0, boxes.onEvent);
      expect(resident.messages('note').join()).not.toMatch(/do not fit/);
      expect(boxes.messages('note').join()).toMatch(/do not fit into memory/);
      expect(runFiles(join(root, `${name}-${interpolation}-boxes`))).toEqual(
        runFiles(join(root, `${name}-${interpolation}-resident`)),
      );
    }
  });

  it('of several channels and in 2-D as well', async () => {
    const two = await toyDataset(join(root, 'two'), { channels: 2, shape: [10, 30, 26] });
    const flat = tinyFinetune({ model: { dims: 2 }, data: { patch: [1, 8, 8] }, augment });
    for (const [name, config] of [
      ['solid', tinyFinetune({ augment })],
      ['flat', flat],
    ] as const) {
      await tune(`${name}-resident`, { data: two, config });
      await tune(`${name}-boxes`, { data: two, config, storeBytes: 0 });
      expect(runFiles(join(root, `${name}-boxes`))).toEqual(runFiles(join(root, `${name}-resident`)));
    }
  });

  it('have slots for the largest box that augmentation can ask for, and not for much more', () => {
    const draws = new Draws(2, 0, 0, 0);
    const shape: Triple = [4000, 4000, 4000];
    for (const [patch, rotation, spacingMm] of [
      [
        [16, 16, 16],
        [30, 30, 30],
        [3, 1, 1],
      ],
      [
        [8, 40, 24],
        [180, 180, 180],
        [5, 0.7, 1],
      ],
      [
        [1, 64, 48],
        [180, 0, 0],
        [5, 0.7, 1.4],
      ],
      [
        [12, 8, 8],
        [0, 0, 0],
        [1, 1, 1],
      ],
      [
        [12, 8, 8],
        [0, 45, 0],
        [1, 2, 3],
      ],
    ] as const) {
      const scale = [0.7, 1.4] as const;
      const most = largestBox(patch, { rotation, scale, translation: 0.1 }, spacingMm);
      const seen = [0, 0, 0];
      for (let n = 0; n < 400; n++) {
        const angle = (a: number) => ((rotation[a as 0] * Math.PI) / 180) * (2 * draws.uniform() - 1);
        const shift = (a: number) => 0.1 * patch[a as 0] * (2 * draws.uniform() - 1);
        const box = boxOf(
          patchAffine(patch, [2000, 2000, 2000], spacingMm, {
            rotation: [angle(0), angle(1), angle(2)],
            scale: 0.7,
            mirror: [false, n % 2 === 0, false],
            shift: [shift(0), shift(1), shift(2)],
          }),
          patch,
          shape,
          TAPS.cubic,
        );
        for (const a of [0, 1, 2] as const) {
          expect(box.shape[a]).toBeLessThanOrEqual(most[a]);
          seen[a] = Math.max(seen[a]!, box.shape[a]);
        }
      }
      for (const a of [0, 1, 2] as const) expect(most[a]).toBeLessThan(2 * seen[a]! + 8);
    }
  });
});

describe('bad cases', () => {
  let bad: string;
  beforeAll(async () => {
    bad = await toyDataset(join(root, 'bad'), { cases: 5 });
    writeFileSync(join(bad, 'imagesTr/toy_2.nii.gz'), 'not gzip');
    copyFileSync(join(bad, 'labelsTr/toy_1.nii.gz'), join(bad, 'labelsTr/toy_1.nii.gz.bak'));
    const other = await toyDataset(join(root, 'other'), { cases: 4, shape: [12, 14, 15] });
    copyFileSync(join(other, 'labelsTr/toy_4.nii.gz'), join(bad, 'labelsTr/toy_4.nii.gz'));
  });

  it('stop a training before it begins, every one of them named with its file', async () => {
    const error = await failure(tune('refused', { data: bad }));
    expect(error.code).toBe('dataset');
    expect(error.message).toMatch(/2 of 5 cases cannot be used/);
    expect(error.message).toContain(join(bad, 'imagesTr/toy_2.nii.gz'));
    expect(error.message).toContain(join(bad, 'labelsTr/toy_4.nii.gz'));
    expect(readdirSync(join(root, 'refused'))).toEqual([]);
    // Pre-training does not look at labels where nothing of it depends on them.
    const images = await failure(train('refused-pre', { data: bad }));
    expect(images.message).toMatch(/1 of 5 cases/);
  });

  it('are left out, named and counted with skipBad; the run is that of the good ones, and resumes so', async () => {
    const { messages, onEvent } = listen();
    await tune('skipped', { data: bad, skipBad: true, onEvent });
    const said = messages('warning').join('\n');
    for (const id of ['toy_2', 'toy_4']) expect(said).toMatch(new RegExp(`left out ${id}`));
    expect(said).toMatch(/2 of 5/);
    await tune('good', { data: bad, labels: 'toy_1,toy_3,toy_5' });
    expect(runFiles(join(root, 'skipped'))['model.safetensors']).toBe(
      runFiles(join(root, 'good'))['model.safetensors'],
    );
    const controller = new AbortController();
    const stop = listen((e) => e.kind === 'step' && e.step === 4 && controller.abort());
    await failure(
      tune('skipped-stopped', { data: bad, skipBad: true, signal: controller.signal, onEvent: stop.onEvent }),
    );
    await tune('skipped-stopped', { data: bad, skipBad: true, resume: true });
    expect(logOf(join(root, 'skipped-stopped'))).toEqual(logOf(join(root, 'good')));
  });

  it('one whose label is not there is left out of the record too; prepare names every file', async () => {
    const gone = await toyDataset(join(root, 'gone'));
    rmSync(join(gone, 'labelsTr/toy_3.nii.gz'));
    writeFileSync(join(gone, 'imagesTr/toy_2.nii.gz'), '');
    writeFileSync(join(gone, 'labelsTr/toy_2.nii.gz'), 'cut');
    const error = await failure(prepare({ data: gone, cacheDir }));
    expect(error.message).toMatch(/2 of 4 cases/);
    for (const file of ['imagesTr/toy_2', 'labelsTr/toy_2', 'labelsTr/toy_3'])
      expect(error.message.split('\n').filter((line) => line.includes(join(gone, `${file}.nii.gz`)))).toHaveLength(1);
    const { messages, onEvent } = listen();
    await tune('gone-run', { data: gone, skipBad: true, onEvent });
    expect(messages('warning').join('\n')).toMatch(/2 of 4 cases were left out/);
    const record = JSON.parse(runFiles(join(root, 'gone-run'))['config.json']!) as { cases: { train: string[] } };
    expect(record.cases.train).toEqual(['toy_1', 'toy_4']);
  });

  it('all of them bad is an error even then', async () => {
    const error = await failure(tune('none', { data: bad, skipBad: true, labels: 'toy_2,toy_4' }));
    expect(error.code).toBe('dataset');
    expect(error.message).toContain('toy_2');
  });
});

describe('padding', () => {
  it('of volumes smaller than the patch never counts in normalisation, and they train', async () => {
    const small = await toyDataset(join(root, 'small'), { shape: [5, 6, 7], cases: 3 });
    const big = tinyFinetune({ data: { patch: [16, 16, 16] } });
    await tune('padded', { data: small, config: big });
    await tune('fitting', { data: small, config: tinyFinetune({ data: { patch: [4, 4, 4] } }) });
    const losses = logOf(join(root, 'padded')).map((r) => r['loss'] as number);
    expect(losses.every(Number.isFinite)).toBe(true);
    // What is kept of a case is the same whatever the patch: padding is made by the sampler, after normalisation.
    const entries = readdirSync(cacheDir, { recursive: true, encoding: 'utf8' }).filter((n) => n.includes('toy_1'));
    const again = listen();
    await tune('padded-again', {
      data: small,
      config: tinyFinetune({ data: { patch: [8, 32, 8] } }),
      onEvent: again.onEvent,
    });
    expect(readdirSync(cacheDir, { recursive: true, encoding: 'utf8' }).filter((n) => n.includes('toy_1'))).toEqual(
      entries,
    );
  });

  it('pre-training on a mix of small and large volumes works', async () => {
    const mixed = await toyDataset(join(root, 'mixed'), { shape: [24, 24, 24], cases: 3 });
    const small = await toyDataset(join(root, 'mixed-small'), { shape: [5, 30, 7], cases: 2 });
    copyFileSync(join(small, 'imagesTr/toy_2.nii.gz'), join(mixed, 'imagesTr/toy_2.nii.gz'));
    await train('mixed-run', { data: mixed });
    expect(logOf(join(root, 'mixed-run')).every((r) => Number.isFinite(r['loss']))).toBe(true);
  });
});

describe('which cases', () => {
  it('says in prepare too what was noticed while reading', async () => {
    const noticed = await toyDataset(join(root, 'noticed'), { cases: 2 });
    const { voxels } = toyVolume(0, [12, 14, 16]);
    voxels[5] = NaN;
    const affine = Float64Array.from([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
    await writeNifti(join(noticed, 'imagesTr/toy_1.nii.gz'), { shape: [16, 14, 12], affine, voxels });
    const { messages, onEvent } = listen();
    await prepare({ data: noticed, cacheDir, config: { data: { nonFinite: 'zero' } }, onEvent });
    expect(messages('warning').join()).toMatch(/toy_1.*1 voxels that are not finite were set to 0/);
  });

  it('validation cases are never trained on, and of MR no label is looked at in pre-training', async () => {
    await tune('split', { val: '0.5' });
    const record = JSON.parse(runFiles(join(root, 'split'))['config.json']!) as {
      cases: { train: string[]; validation: string[] };
    };
    expect(record.cases.validation).toHaveLength(2);
    expect([...record.cases.train, ...record.cases.validation].sort()).toEqual(['toy_1', 'toy_2', 'toy_3', 'toy_4']);
    const unlabelled = join(root, 'unlabelled');
    mkdirSync(join(unlabelled, 'imagesTr'), { recursive: true });
    for (const n of [1, 2, 3, 4])
      copyFileSync(join(data, `imagesTr/toy_${n}.nii.gz`), join(unlabelled, `imagesTr/toy_${n}.nii.gz`));
    await train('with-labels');
    await train('without-labels', { data: unlabelled });
    const [a, b] = ['with-labels', 'without-labels'].map((o) => logOf(join(root, o)));
    expect(b).toEqual(a);
  });

  it.each(['CT', 'MRI'])('that are prepared are not prepared again by pre-training: %s', async (modality) => {
    const set = await toyDataset(join(root, `prepared-${modality}`), { modality });
    // One case has no label at all.
    rmSync(join(set, 'labelsTr/toy_4.nii.gz'));
    const json = JSON.parse(readFileSync(join(set, 'dataset.json'), 'utf8')) as { training: unknown[] };
    writeFileSync(join(set, 'dataset.json'), JSON.stringify({ ...json, training: json.training.slice(0, 3) }));
    const folder = join(root, `cache-${modality}`);
    const { messages, onEvent } = listen();
    expect(await prepare({ data: set, out: folder, onEvent })).toMatchObject({ cases: 4, labelled: 3, skipped: [] });
    const entries = readdirSync(folder).sort();
    await train(`of-prepared-${modality}`, { data: set, cacheDir: folder });
    expect(readdirSync(folder).sort()).toEqual(entries);
    expect(messages('note').join()).toContain(modality === 'CT' ? 'normalised ct' : 'normalised robust');
    // The numbers of CT are those of fine-tuning, which sees the labelled ones.
    await tune(`of-prepared-${modality}-fine`, { data: set, cacheDir: folder });
    const rules = ['', '-fine'].map(
      (end) =>
        (JSON.parse(runFiles(join(root, `of-prepared-${modality}${end}`))['config.json']!) as Record<string, unknown>)[
          'normalization'
        ],
    );
    expect(rules[1]).toEqual(rules[0]);
  });

  it('a bad label stops pre-training on CT, whose numbers it would change; a missing one leaves a case unlabelled', async () => {
    const set = await toyDataset(join(root, 'ct-labels'), { modality: 'CT' });
    rmSync(join(set, 'labelsTr/toy_2.nii.gz'));
    await train('ct-missing', { data: set });
    const record = JSON.parse(runFiles(join(root, 'ct-missing'))['config.json']!) as { cases: { train: string[] } };
    expect(record.cases.train).toHaveLength(4);
    writeFileSync(join(set, 'labelsTr/toy_3.nii.gz'), 'cut');
    const error = await failure(train('ct-bad', { data: set }));
    expect(error.message).toContain(join(set, 'labelsTr/toy_3.nii.gz'));
    await train('ct-as-mr', { data: set, config: tinyPretrain({ data: { patch: [8, 8, 8], normalize: 'case' } }) });
  });

  it('without a label are not among the labelled ones', async () => {
    const set = await toyDataset(join(root, 'some-labels'), { cases: 3 });
    rmSync(join(set, 'labelsTr/toy_3.nii.gz'));
    writeFileSync(join(set, 'dataset.json'), JSON.stringify({ modality: ['MRI'] }));
    for (const flags of [{ labels: 'toy_1,toy_3' }, { val: 'toy_3' }]) {
      const error = await failure(tune('some', { data: set, ...flags }));
      expect(error.message).toMatch(/not among the 2 labelled cases: toy_3$/);
    }
  });

  it('are not held back from pre-training: --val takes none', async () => {
    const error = await failure(train('pre-val', { val: '0.2' }));
    expect([error.code, error.message]).toEqual(['config', expect.stringMatching(/^--val 0\.2: .*no validation/)]);
    await train('pre-val', { val: 'none' });
  });

  it('a model has as many classes as the dataset', async () => {
    const error = await failure(tune('classes', { config: tinyFinetune({ model: { classes: 5 } }) }));
    expect([error.code, error.details]).toEqual(['config', { field: 'model.classes', expected: 3, found: 5 }]);
  });

  it('that a resume names are those that the run began with', async () => {
    const stop = async (
      start: (more: Partial<FinetuneOptions & PretrainOptions>) => Promise<unknown>,
    ): Promise<void> => {
      const controller = new AbortController();
      const { onEvent } = listen((e) => e.kind === 'step' && e.step === 3 && controller.abort());
      expect((await failure(start({ signal: controller.signal, onEvent }))).code).toBe('aborted');
    };
    await stop((more) => tune('named', { ...more, labels: 'toy_1,toy_2,toy_3', val: 'toy_3' }));
    for (const other of [{ labels: 'toy_1,toy_2' }, { labels: 'toy_1,toy_2,toy_3', val: 'toy_2' }]) {
      const error = await failure(tune('named', { resume: true, ...other }));
      expect([error.code, error.message]).toEqual([
        'config',
        expect.stringMatching(/--labels, --val: .*other .* cases \(.*toy_/),
      ]);
    }
    await tune('named', { resume: true, labels: 'toy_3,toy_2,toy_1', val: 'toy_3' });
    await stop((more) => train('named-pre', { ...more, cases: '0.5' }));
    expect((await failure(train('named-pre', { resume: true, cases: '0.75' }))).code).toBe('config');
    await train('named-pre', { resume: true, cases: '0.5' });
  });

  it('the dataset is only read', async () => {
    const before = runFilesOf(data);
    await train('reads');
    await tune('reads-too');
    expect(runFilesOf(data)).toEqual(before);
    expect((await failure(train('inside', { cacheDir: join(data, 'cache') }))).code).toBe('config');
  });
});

const runFilesOf = (folder: string): string[] => readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
