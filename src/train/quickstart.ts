/**
 * `macl quickstart`: the whole path on synthetic volumes that it writes itself. Pre-trains on all training volumes without
 * labels, fine-tunes with a few labels from scratch and from the pre-trained run (same seed, steps, labels), segments
 * unseen volumes with both, and reports what was measured, whichever way the comparison goes.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { Breather } from '../data/breathe.js';
import { asFileError, makeFolder, systemCode, writeFileAtomic } from '../data/files.js';
import { writeSyntheticDataset } from '../data/synthetic-dataset.js';
import { checkOptions, type OptionKinds } from '../options.js';
import type { EvaluationDocument } from '../segment/evaluate.js';
import { evaluateFolders } from './evaluate-files.js';
import type { CaseEvent, TrainEvent } from './events.js';
import { finetune } from './finetune.js';
import { loadSegmentModel } from './model-file.js';
import { predictFiles } from './predict.js';
import { pretrain } from './pretrain.js';
import { LIMIT_SECONDS, planSteps, replanFinetune, roughly, type Pace } from './quickstart-pace.js';
import { CAVEAT, comparisonTable, overall, verdict, type Measured } from './quickstart-report.js';
import { finetuneSettings, pretrainSettings, SIZE_KINDS, SIZES, type QuickstartSizes } from './quickstart-settings.js';
import { writeQuickstartSheet } from './quickstart-sheet.js';
import { MACHINE_OPTIONS, openMachine, type MachineOptions } from './trainer.js';

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
  readonly name: 'scratch' | 'pre-trained';
  readonly model: string;
}

export interface QuickstartReport {
  readonly out: string;
  readonly device: { readonly backend: string; readonly isa: string; readonly threads: number };
  readonly seed: number;
  readonly sizes: QuickstartSizes;
  /** Fewer steps than usual were taken, because this machine is slow or busy. */
  readonly shortened: boolean;
  /** Mean Dice over unseen cases with its 95% interval. */
  readonly rows: readonly [QuickstartRow, QuickstartRow];
  /** Pre-trained minus scratch, case by case. */
  readonly difference: Measured;
  readonly verdict: string;
  /** The table and the sentences below it, for people. */
  readonly table: string;
  readonly contactSheet: string;
  readonly reportFile: string;
  /** Folders of the three runs. */
  readonly runs: readonly [string, string, string];
  readonly estimateSeconds: number;
  readonly secondsByPart: Readonly<Record<string, number>>;
  readonly elapsedMs: number;
}

const DEFAULT_OUT = 'macl-quickstart';
const PACE_STEPS = 4;

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
    this.note(`1/5 writing ${trainCases + testCases} synthetic volumes with labels (organ, core, duct)`);
    const cases = await this.timed('dataset', () =>
      writeSyntheticDataset(this.data, { trainCases, testCases, seed: this.seed, ...this.abort() }),
    );
    const labels = cases.train.slice(0, sizes.labelledCases);

    const pace = await this.timed('pace', () => this.measurePace(labels));
    const limit = device.backend === 'cpu' ? LIMIT_SECONDS.cpu : LIMIT_SECONDS.other;
    const plan = planSteps(sizes, pace, limit - this.seconds());
    this.note(
      `a step takes ${milliseconds(pace.pretrainSeconds)} (pre-training) and ${milliseconds(pace.finetuneSeconds)} (fine-tuning): ` +
        `${roughly(plan.estimateSeconds)} to go`,
    );

    const { pretrainSteps } = plan;
    this.note(`2/5 pre-training on ${trainCases} volumes without labels, ${pretrainSteps} steps`);
    const before = this.seconds();
    await this.timed('pretrain', () => this.pretrain(this.folder('pretrain'), pretrainSteps));
    // Where the machine turned out slower than it began, both fine-tunings get the same smaller number of steps.
    const slower = Math.max(1, (this.seconds() - before) / (pretrainSteps * pace.pretrainSeconds));
    const now = { ...pace, finetuneSeconds: pace.finetuneSeconds * slower };
    const finetuneSteps = replanFinetune(sizes, now, plan.finetuneSteps, limit - this.seconds());
    const shortened = plan.shortened || finetuneSteps < sizes.finetuneSteps;
    if (shortened)
      this.warn(
        `this machine is slow or busy: ${pretrainSteps} + 2 × ${finetuneSteps} steps instead of ` +
          `${sizes.pretrainSteps} + 2 × ${sizes.finetuneSteps}, so that it ends in ${roughly(limit)}`,
      );
    const few = `${labels.length} labelled volumes, ${finetuneSteps} steps`;
    this.note(`3/5 fine-tuning from scratch on ${few}`);
    await this.timed('scratch', () => this.finetune(this.folder('scratch'), finetuneSteps, labels, undefined));
    this.note(`4/5 fine-tuning from the pre-trained network on the same ${few}`);
    await this.timed('pretrained', () =>
      this.finetune(this.folder('pretrained'), finetuneSteps, labels, this.folder('pretrain')),
    );

    this.note(`5/5 segmenting ${testCases} unseen volumes with both`);
    const [scratch, pretrained] = await this.judge();
    const sheet = join(out, 'contact-sheet.png');
    await this.timed('sheet', () =>
      writeQuickstartSheet(sheet, this.data, cases.test, this.predictions(), { scratch, pretrained }, this.abort()),
    );
    return this.report(scratch, pretrained, { pretrainSteps, finetuneSteps }, shortened, plan.estimateSeconds, sheet);
  }

  private async report(
    scratch: EvaluationDocument,
    pretrained: EvaluationDocument,
    steps: { pretrainSteps: number; finetuneSteps: number },
    shortened: boolean,
    estimateSeconds: number,
    contactSheet: string,
  ): Promise<QuickstartReport> {
    const sizes = { ...this.sizes, ...steps };
    const difference = pretrained.against ? overall(pretrained.against) : { dice: null, ci95: null };
    const words = verdict(difference, sizes.testCases);
    const reportFile = join(this.out, 'report.json');
    const head =
      `${sizes.testCases} unseen synthetic volumes, mean [95% interval]; ` +
      `${sizes.labelledCases} of ${sizes.trainCases} training volumes had labels`;
    const table = [
      head,
      '',
      comparisonTable(scratch, pretrained),
      '',
      words,
      CAVEAT,
      '',
      `pictures  ${contactSheet}`,
      `report    ${reportFile}`,
      `models    ${this.out}/{pretrain,scratch,pretrained}/model.safetensors`,
    ].join('\n');
    const summary: QuickstartReport = {
      out: this.out,
      device: this.device,
      seed: this.seed,
      sizes,
      shortened,
      rows: [
        { name: 'scratch', model: join(this.folder('scratch'), 'model.safetensors'), ...overall(scratch) },
        { name: 'pre-trained', model: join(this.folder('pretrained'), 'model.safetensors'), ...overall(pretrained) },
      ],
      difference,
      verdict: words,
      table,
      contactSheet,
      reportFile,
      runs: [this.folder('pretrain'), this.folder('scratch'), this.folder('pretrained')],
      estimateSeconds,
      secondsByPart: this.secondsByPart,
      elapsedMs: Math.round(performance.now() - this.begun),
    };
    const { table: _text, ...rest } = summary;
    const document = { ...rest, evaluation: { scratch, 'pre-trained': pretrained } };
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

  /** Predictions of both models and their metrics: scratch, and pre-trained with the paired difference. */
  private async judge(): Promise<[EvaluationDocument, EvaluationDocument]> {
    const { scratch, pretrained } = this.predictions();
    await this.timed('predict', async () => {
      const backend = await openMachine(this.machine);
      try {
        for (const [run, folder] of [
          [this.folder('scratch'), scratch],
          [this.folder('pretrained'), pretrained],
        ] as const) {
          await predictFiles(await loadSegmentModel(run), backend, {
            input: join(this.data, 'imagesTs'),
            out: folder,
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
    const evaluate = async (pred: string, against?: string): Promise<EvaluationDocument> => {
      const { document } = await evaluateFolders({
        pred,
        labels: join(this.data, 'labelsTs'),
        ...(against === undefined ? {} : { against }),
        ...this.abort(),
        onProgress: (done, total, id) => this.options.onEvent?.({ kind: 'evaluate', done, total, id }),
      });
      return document;
    };
    return this.timed('evaluate', async () => [await evaluate(scratch), await evaluate(pretrained, scratch)]);
  }

  private common() {
    return { data: this.data, cacheDir: join(this.out, 'cache'), signal: this.options.signal, ...this.machine };
  }

  private abort(): { signal?: AbortSignal } {
    return this.options.signal ? { signal: this.options.signal } : {};
  }

  private folder(run: 'pretrain' | 'scratch' | 'pretrained'): string {
    return join(this.out, run);
  }

  private predictions(): { scratch: string; pretrained: string } {
    return {
      scratch: join(this.out, 'predictions', 'scratch'),
      pretrained: join(this.out, 'predictions', 'pretrained'),
    };
  }

  /** Steps, notes of transfers and warnings of the trainings; their plans lie in config.json. */
  private readonly passOn = (event: TrainEvent): void => {
    if (event.kind !== 'plan' && event.kind !== 'cases' && event.kind !== 'saved') this.options.onEvent?.(event);
  };

  private note(message: string): void {
    this.options.onEvent?.({ kind: 'note', message });
  }

  private warn(message: string): void {
    this.options.onEvent?.({ kind: 'warning', message });
  }

  private seconds(): number {
    return (performance.now() - this.begun) / 1000;
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
