/**
 * `macl quickstart`: the whole path on synthetic volumes that it writes itself. Pre-trains on all training volumes without
 * labels, fine-tunes with a few labels from scratch and from the pre-trained run (same seed, steps, labels), and from
 * scratch for as long as both phases together, segments unseen volumes with all three, and reports what was measured,
 * whichever way the comparison goes.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { Breather } from '../breathe.js';
import { asFileError, makeFolder, systemCode, writeFileAtomic } from '../data/files.js';
import { writeSyntheticDataset } from '../data/synthetic-dataset.js';
import { checkOptions, type OptionKinds } from '../options.js';
import { MaclError } from '../errors.js';
import type { EvaluationDocument } from '../segment/evaluate.js';
import { evaluateFolders } from '../predict/evaluate-files.js';
import type { CaseEvent, TrainEvent } from '../train/events.js';
import { finetune } from '../train/finetune.js';
import { loadSegmentModel } from '../model/model-file.js';
import { predictFiles } from '../predict/predict.js';
import { pretrain } from '../train/pretrain.js';
import { estimateSeconds, roughly, type Pace } from './pace.js';
import { CAVEAT, comparisonTable, overall, ROWS, verdict, type Judged, type Measured, type RowName } from './report.js';
import { finetuneSettings, pretrainSettings, SIZE_KINDS, SIZES, type QuickstartSizes } from './settings.js';
import { writeQuickstartSheet } from './sheet.js';
import { MACHINE_OPTIONS, openMachine, type MachineOptions } from '../backend/machine.js';

export type QuickstartEvent = TrainEvent | CaseEvent;

export interface QuickstartOptions extends Pick<MachineOptions, 'device' | 'threads'> {
  /** Default `./macl-quickstart`; a numbered sibling where the folder is taken. */
  readonly out?: string | undefined;
  readonly seed?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: QuickstartEvent) => void) | undefined;
  /** Other sizes than the usual ones (tests). */
  readonly sizes?: Partial<QuickstartSizes> | undefined;
}

export interface QuickstartRow extends Measured {
  /** `scratch+` is from scratch too, with pre-training's time added to its fine-tuning. */
  readonly name: RowName;
  readonly steps: number;
  readonly model: string;
}

export interface QuickstartReport {
  readonly out: string;
  readonly device: { readonly backend: string; readonly isa: string; readonly threads: number };
  readonly seed: number;
  readonly sizes: QuickstartSizes;
  /** Mean Dice over unseen cases with its 95% interval: scratch, pre-trained, scratch+. */
  readonly rows: readonly QuickstartRow[];
  /** Pre-trained minus scratch, case by case. */
  readonly difference: Measured;
  /** Pre-trained minus each of the others. */
  readonly differences: Readonly<Record<'scratch' | 'scratch+', Measured>>;
  readonly verdict: string;
  /** The table and the sentences below it, for people. */
  readonly table: string;
  readonly contactSheet: string;
  readonly reportFile: string;
  /** Folders of the four runs. */
  readonly runs: readonly string[];
  readonly estimateSeconds: number;
  readonly secondsByPart: Readonly<Record<string, number>>;
  readonly elapsedMs: number;
}

const DEFAULT_OUT = 'macl-quickstart';
const PACE_STEPS = 4;
/** Folders of the models, under the run and under `predictions`. */
const FOLDERS: Readonly<Record<RowName, string>> = {
  scratch: 'scratch',
  'pre-trained': 'pretrained',
  'scratch+': 'scratch-plus',
};

const OPTIONS: OptionKinds<QuickstartOptions> = {
  device: MACHINE_OPTIONS.device,
  threads: MACHINE_OPTIONS.threads,
  out: 'text',
  seed: 'count',
  signal: 'signal',
  onEvent: 'function',
  sizes: 'object',
};

export async function quickstart(options: QuickstartOptions = {}): Promise<QuickstartReport> {
  checkOptions('quickstart', options, OPTIONS);
  if (options.sizes) checkOptions('quickstart: sizes', options.sizes, SIZE_KINDS);
  const begun = performance.now();
  // The device first: one that is not there leaves no folder behind.
  const device = await describeDevice(options);
  const sizes: QuickstartSizes = { ...SIZES, ...options.sizes };
  const out = await claimFolder(resolve(options.out ?? DEFAULT_OUT));
  return new Quickstart(options, sizes, out, device, begun).run();
}

/** Makes the folder, or the first numbered sibling that is free; whoever makes `dataset` in it has it. */
async function claimFolder(wanted: string): Promise<string> {
  await makeFolder(dirname(wanted));
  for (let n = 1; ; n++) {
    const folder = n === 1 ? wanted : `${wanted}-${n}`;
    try {
      await mkdir(folder).catch((error: unknown) => {
        if (systemCode(error) !== 'EEXIST') throw error;
      });
      if ((await readdir(folder)).length > 0) continue;
      await mkdir(join(folder, 'dataset'));
      return folder;
    } catch (error) {
      // A file of that name, or another quickstart that was quicker.
      if (systemCode(error) !== 'EEXIST' && systemCode(error) !== 'ENOTDIR') throw asFileError(error, folder, 'write');
    }
  }
}

async function describeDevice(options: QuickstartOptions): Promise<QuickstartReport['device']> {
  const backend = await openMachine(options);
  const { name, isa, threads } = backend.info;
  await backend.close();
  return { backend: name, isa, threads };
}

class Quickstart {
  private readonly data: string;
  private readonly seed: number;
  private readonly machine: MachineOptions;
  private readonly secondsByPart: Record<string, number> = {};

  constructor(
    private readonly options: QuickstartOptions,
    private readonly sizes: QuickstartSizes,
    private readonly out: string,
    private readonly device: QuickstartReport['device'],
    private readonly begun: number,
  ) {
    this.data = join(out, 'dataset');
    this.seed = options.seed ?? 0;
    this.machine = { device: device.backend as MachineOptions['device'], threads: options.threads };
  }

  async run(): Promise<QuickstartReport> {
    const { sizes, out, device } = this;
    this.note(`quickstart in ${out}, on ${device.backend} (${device.isa}, ${device.threads} threads)`);
    const { trainCases, testCases } = sizes;
    this.note(`1/6 writing ${trainCases + testCases} synthetic volumes with labels (organ, core, duct)`);
    const cases = await this.timed('dataset', () =>
      writeSyntheticDataset(this.data, { trainCases, testCases, seed: this.seed, ...this.abort() }),
    );
    const labels = cases.train.slice(0, sizes.labelledCases);

    const pace = await this.timed('pace', () => this.measurePace(labels));
    const estimate = estimateSeconds(sizes, pace);
    this.note(
      `a step takes ${milliseconds(pace.pretrainSeconds)} (pre-training) and ${milliseconds(pace.finetuneSeconds)} (fine-tuning): ` +
        `${roughly(estimate)} to go`,
    );

    const { pretrainSteps, finetuneSteps, longerSteps } = sizes;
    const labelled = `${labels.length} labelled volumes`;
    this.note(`2/6 pre-training on ${trainCases} volumes without labels, ${pretrainSteps} steps`);
    await this.timed('pretrain', () => this.pretrain(this.folder('pretrain'), pretrainSteps));
    this.note(`3/6 fine-tuning from scratch on ${labelled}, ${finetuneSteps} steps`);
    await this.timed('scratch', () => this.train('scratch', labels));
    this.note(`4/6 fine-tuning from the pre-trained network on the same ${labelled}, ${finetuneSteps} steps`);
    await this.timed('pretrained', () => this.train('pre-trained', labels));
    this.note(`5/6 fine-tuning from scratch with pre-training's time added, ${longerSteps} steps`);
    await this.timed('scratch-plus', () => this.train('scratch+', labels));

    this.note(`6/6 segmenting ${testCases} unseen volumes with all three`);
    const judged = await this.judge();
    const sheet = join(out, 'contact-sheet.png');
    await this.timed('sheet', () =>
      writeQuickstartSheet(
        sheet,
        this.data,
        cases.test,
        Object.fromEntries(ROWS.map((name) => [name, this.predictions(name)])) as Record<RowName, string>,
        judged,
        this.abort(),
      ),
    );
    return this.report(judged, estimate, sheet);
  }

  private async report(judged: Judged, estimate: number, contactSheet: string): Promise<QuickstartReport> {
    const { sizes } = this;
    const differences = {
      scratch: overall(judged.differences.scratch),
      'scratch+': overall(judged.differences['scratch+']),
    };
    const words = [
      verdict(differences.scratch, sizes.testCases, 'the same fine-tuning from scratch'),
      verdict(differences['scratch+'], sizes.testCases, 'as long a training from scratch'),
    ].join('\n');
    const reportFile = join(this.out, 'report.json');
    const head =
      `${sizes.testCases} unseen synthetic volumes, mean [95% interval]; ` +
      `${sizes.labelledCases} of ${sizes.trainCases} training volumes had labels`;
    const legend =
      `scratch: ${sizes.finetuneSteps} steps; pre-trained: ${sizes.pretrainSteps} without labels, then the same ` +
      `${sizes.finetuneSteps}; scratch+: ${sizes.longerSteps}, about as long as both`;
    const table = [
      head,
      legend,
      '',
      comparisonTable(judged),
      '',
      words,
      CAVEAT,
      '',
      `pictures  ${contactSheet}`,
      `report    ${reportFile}`,
      `models    ${this.out}/{pretrain,${ROWS.map((name) => FOLDERS[name]).join()}}/model.safetensors`,
    ].join('\n');
    const summary: QuickstartReport = {
      out: this.out,
      device: this.device,
      seed: this.seed,
      sizes,
      rows: ROWS.map((name) => ({
        name,
        steps: this.steps(name),
        model: join(this.folder(FOLDERS[name]), 'model.safetensors'),
        ...overall(judged[name]),
      })),
      difference: differences.scratch,
      differences,
      verdict: words,
      table,
      contactSheet,
      reportFile,
      runs: ['pretrain', ...ROWS.map((name) => FOLDERS[name])].map((run) => this.folder(run)),
      estimateSeconds: estimate,
      secondsByPart: this.secondsByPart,
      elapsedMs: Math.round(performance.now() - this.begun),
    };
    const { table: _text, ...rest } = summary;
    const { differences: paired, ...evaluation } = judged;
    const document = { ...rest, evaluation, paired };
    await writeFileAtomic(reportFile, `${JSON.stringify(document, null, 1)}\n`, this.abort());
    return summary;
  }

  /** Step times of both trainings, from a few steps of each in a folder that goes away. */
  private async measurePace(labels: readonly string[]): Promise<Pace> {
    const folder = join(this.out, '.pace');
    const lastStepOf = async (train: (onEvent: (event: TrainEvent) => void) => Promise<unknown>): Promise<number> => {
      const ends: number[] = [];
      await train((event) => {
        if (event.kind === 'step') ends.push(performance.now());
      });
      // The first steps fault pages in and compile; the quickest of the others is the machine's pace.
      const took = ends.slice(1).map((end, n) => (end - ends[n]!) / 1000);
      return Math.max(1e-4, Math.min(...took));
    };
    try {
      return {
        pretrainSeconds: await lastStepOf((onEvent) => this.pretrain(join(folder, 'pretrain'), PACE_STEPS, onEvent)),
        finetuneSeconds: await lastStepOf((onEvent) =>
          this.finetune(join(folder, 'finetune'), PACE_STEPS, labels, undefined, onEvent),
        ),
      };
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  private pretrain(out: string, steps: number, onEvent: (event: TrainEvent) => void = this.passOn): Promise<unknown> {
    const config = pretrainSettings(this.sizes, steps, this.seed);
    return pretrain({ ...this.common(), out, config, onEvent });
  }

  private steps(name: RowName): number {
    return name === 'scratch+' ? this.sizes.longerSteps : this.sizes.finetuneSteps;
  }

  private train(name: RowName, labels: readonly string[]): Promise<unknown> {
    const init = name === 'pre-trained' ? this.folder('pretrain') : undefined;
    return this.finetune(this.folder(FOLDERS[name]), this.steps(name), labels, init);
  }

  private finetune(
    out: string,
    steps: number,
    labels: readonly string[],
    init: string | undefined,
    onEvent: (event: TrainEvent) => void = this.passOn,
  ): Promise<unknown> {
    const config = finetuneSettings(this.sizes, steps, this.seed);
    return finetune({ ...this.common(), out, config, init, labels: labels.join(','), val: 'none', onEvent });
  }

  /** Predictions of all models, their metrics, and the paired differences of the pre-trained one. */
  private async judge(): Promise<Judged> {
    await this.timed('predict', async () => {
      const backend = await openMachine(this.machine);
      try {
        for (const name of ROWS) {
          await predictFiles(await loadSegmentModel(this.folder(FOLDERS[name])), backend, {
            input: join(this.data, 'imagesTs'),
            out: this.predictions(name),
            mirror: false,
            probabilities: false,
            nonFinite: 'refuse',
            signal: this.options.signal,
            // A finished case is worth no line of its own; the last one is.
            onCase: (at) => {
              if (at.done < at.tiles || at.index === at.total - 1) this.options.onEvent?.({ kind: 'predict', ...at });
            },
          });
        }
      } finally {
        await backend.close();
      }
    });
    const evaluate = async (name: RowName, against?: RowName): Promise<EvaluationDocument> => {
      const { document } = await evaluateFolders({
        pred: this.predictions(name),
        labels: join(this.data, 'labelsTs'),
        ...(against === undefined ? {} : { against: this.predictions(against) }),
        ...this.abort(),
        onProgress: (done, total, id) => this.options.onEvent?.({ kind: 'evaluate', done, total, id }),
      });
      return document;
    };
    return this.timed('evaluate', async () => {
      const against = async (other: RowName) => {
        const document = await evaluate('pre-trained', other);
        if (!document.against) throw new MaclError('program', `nothing to compare with ${other}`);
        return document.against;
      };
      return {
        scratch: await evaluate('scratch'),
        'pre-trained': await evaluate('pre-trained'),
        'scratch+': await evaluate('scratch+'),
        differences: { scratch: await against('scratch'), 'scratch+': await against('scratch+') },
      };
    });
  }

  private common() {
    return { data: this.data, cacheDir: join(this.out, 'cache'), signal: this.options.signal, ...this.machine };
  }

  private abort(): { signal?: AbortSignal } {
    return this.options.signal ? { signal: this.options.signal } : {};
  }

  private folder(run: string): string {
    return join(this.out, run);
  }

  private predictions(name: RowName): string {
    return join(this.out, 'predictions', FOLDERS[name]);
  }

  /** Steps, notes of transfers and warnings of the trainings; their plans lie in config.json. */
  private readonly passOn = (event: TrainEvent): void => {
    if (event.kind !== 'plan' && event.kind !== 'cases' && event.kind !== 'saved') this.options.onEvent?.(event);
  };

  private note(message: string): void {
    this.options.onEvent?.({ kind: 'note', message });
  }

  private async timed<T>(part: string, work: () => Promise<T>): Promise<T> {
    await new Breather(this.options.signal).breathe();
    const start = performance.now();
    const result = await work();
    this.secondsByPart[part] = Number(((performance.now() - start) / 1000).toFixed(2));
    return result;
  }
}

function milliseconds(seconds: number): string {
  return seconds < 1 ? `${Math.max(1, Math.round(1000 * seconds))} ms` : `${seconds.toFixed(1)} s`;
}
