/**
 * `macl evaluate`: a folder of predicted label volumes against a folder of reference ones. It reads, checks grids and
 * label values, and hands arrays to `segment/metrics.ts` and `segment/evaluate.ts`, which know no files. Node only.
 */
import { readdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { Breather } from '../data/breathe.js';
import { caseId } from '../data/dataset.js';
import { classesOf, readDatasetJson } from '../data/dataset-json.js';
import { asFileError, systemCode } from '../data/files.js';
import { type LabelTarget, readLabelVolume } from '../data/case-io.js';
import { type Volume, type VoxelArray } from '../data/volume.js';
import { MaclError } from '../errors.js';
import { checkOptions, type OptionKinds } from '../options.js';
import { emptyLike } from '../realm.js';
import { BOOTSTRAP_OPTIONS, type BootstrapOptions } from '../segment/bootstrap.js';
import { type ClassLabel, type EvaluationDocument, summarise } from '../segment/evaluate.js';
import { checkValues, valuesIn } from '../segment/label-values.js';
import { type CaseMetrics, caseMetrics } from '../segment/metrics.js';
import { NIFTI, PROBABILITIES } from './predict-cases.js';

export interface EvaluateFoldersOptions extends BootstrapOptions {
  /** Folder of predictions, one label volume a case. */
  pred: string;
  /** Folder of reference labels; a dataset.json in it or beside it names the classes. */
  labels: string;
  /** Other predictions of the same cases, for the paired difference. */
  against?: string;
  /** The classes, without background, where the caller knows them better than dataset.json. */
  classes?: readonly ClassLabel[];
  /** The background's value where `classes` are given. Default 0. */
  background?: number;
  onProgress?: (done: number, total: number, caseName: string) => void;
}

const OPTIONS: OptionKinds<EvaluateFoldersOptions> = {
  pred: 'text',
  labels: 'text',
  against: 'text',
  classes: 'list',
  background: 'number',
  onProgress: 'function',
  ...BOOTSTRAP_OPTIONS,
};

/** The document of `macl evaluate --json`. */
export interface FolderDocument extends EvaluationDocument {
  /** Cases of the labels that have no prediction. */
  missing: string[];
}

export interface FolderEvaluation {
  document: FolderDocument;
  /** Things worth saying: labels without a prediction, cases that only one side has. */
  notes: string[];
}

/** Voxels between two looks at the clock. */
const BLOCK = 1 << 16;
/** Names in a message; more are counted. */
const NAMES_SHOWN = 10;

function shownNames(names: readonly string[]): string {
  const more = names.length - NAMES_SHOWN;
  return names.slice(0, NAMES_SHOWN).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/**
 * Case → path of the volumes of a folder, sorted. Dot files and other files are skipped, and in a folder of predictions
 * (the labels are given then) the probabilities of a case, unless a case of the labels is called so.
 */
async function listVolumes(folder: string, labels?: ReadonlyMap<string, string>): Promise<Map<string, string>> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    throw asFileError(error, folder, 'read');
  }
  const found = new Map<string, string>();
  const volumes = names.filter((one) => NIFTI.test(one) && !one.startsWith('.')).sort();
  const ids = new Set(volumes.map(caseId));
  for (const name of volumes) {
    const id = caseId(name);
    const isOutput = id.endsWith(PROBABILITIES) && ids.has(id.slice(0, -PROBABILITIES.length));
    if (labels && isOutput && !labels.has(id)) continue;
    const other = found.get(id);
    if (other !== undefined) {
      const words = `${folder}: case ${id} is there twice: ${other} and ${join(folder, name)}`;
      throw new MaclError('dataset', words, { file: join(folder, name), field: id });
    }
    found.set(id, join(folder, name));
  }
  if (!found.size) {
    const words = `${folder}: volumes: expected label volumes (*.nii, *.nii.gz), found none`;
    throw new MaclError('dataset', words, { file: folder, field: 'volumes' });
  }
  return found;
}

interface NamedClasses {
  /** Without the background. */
  classes: readonly ClassLabel[];
  background: number;
  ignoreValue?: number;
}

/** Classes of the dataset.json in the labels' folder or the one above; undefined where there is none. */
async function namedClasses(labels: string): Promise<NamedClasses | undefined> {
  for (const folder of [resolve(labels), dirname(resolve(labels))]) {
    try {
      const { classes, ignoreValue } = classesOf(await readDatasetJson(join(folder, 'dataset.json')));
      const [background, ...others] = classes;
      if (background && others.length)
        return {
          classes: others,
          background: background.value,
          ...(ignoreValue !== undefined && { ignoreValue }),
        };
    } catch (error) {
      const cause = error instanceof MaclError ? error.cause : error;
      if (systemCode(cause) !== 'ENOENT' && systemCode(cause) !== 'ENOTDIR') throw error;
    }
  }
  return undefined;
}

/** The same voxels in an array that holds `value` too: what is written there must not become another label. */
function roomFor(voxels: VoxelArray, value: number): VoxelArray {
  const one = emptyLike(voxels, 1);
  one[0] = value;
  return one[0] === value ? voxels : new Float64Array(voxels);
}

/** As `valuesIn` and `checkValues` name a file. */
const inFile = (file: string): [what: string, details: { file: string; field: string }] => [
  `${file}: voxels`,
  { file, field: 'voxels' },
];

class FolderEvaluator {
  private known: ReadonlySet<number> = new Set();
  private ignoreValue: number | undefined;
  private background = 0;
  private classes: readonly ClassLabel[] = [];
  constructor(
    private readonly signal: AbortSignal | undefined,
    private readonly notes: Set<string>,
  ) {}

  private async read(file: string, target?: LabelTarget): Promise<Volume> {
    const { volume, warnings } = await readLabelVolume(file, this.signal, target);
    for (const words of warnings) this.notes.add(words);
    return volume;
  }

  /** The classes given, or dataset.json's, or every value that the reference labels hold (0 is the background then). */
  async chooseClasses(options: EvaluateFoldersOptions, references: readonly string[]): Promise<readonly ClassLabel[]> {
    const named: NamedClasses | undefined = options.classes
      ? { classes: options.classes, background: options.background ?? 0 }
      : await namedClasses(options.labels);
    if (named) {
      this.classes = named.classes;
      this.background = named.background;
      this.ignoreValue = named.ignoreValue;
    } else {
      const all = new Set<number>();
      const breath = new Breather(this.signal);
      for (const file of references) {
        const { voxels } = await this.read(file);
        for (const value of await this.values(voxels, file, breath)) if (value !== 0) all.add(value);
      }
      this.classes = [...all].sort((a, b) => a - b).map((value) => ({ value }));
    }
    if (!this.classes.length) {
      const words = `${options.labels}: labels: hold background alone, there is nothing to evaluate`;
      throw new MaclError('dataset', words, { file: options.labels, field: 'labels' });
    }
    this.known = new Set([this.background, ...this.classes.map(({ value }) => value)]);
    return this.classes;
  }

  private values(voxels: VoxelArray, file: string, breath: Breather): Promise<Set<number>> {
    const [what, details] = inFile(file);
    return valuesIn(voxels, what, breath, details);
  }

  async compare(predFile: string, referenceFile: string, reference: Volume): Promise<CaseMetrics> {
    const pred = await this.read(predFile, { grid: reference.grid, file: referenceFile });
    const breath = new Breather(this.signal);
    checkValues(await this.values(pred.voxels, predFile, breath), this.known, ...inFile(predFile));
    let { voxels } = pred;
    if (this.ignoreValue !== undefined) {
      // Where the reference says nothing, nothing is judged: there the prediction counts as background too.
      voxels = roomFor(voxels, this.background);
      for (let i = 0; i < voxels.length; i++) {
        if (reference.voxels[i] === this.ignoreValue) voxels[i] = this.background;
        if (i % BLOCK === 0 && breath.due()) await breath.breathe();
      }
    }
    const { shape, spacingMm } = reference.grid;
    const values = this.classes.map(({ value }) => value);
    return caseMetrics(voxels, reference.voxels, shape, spacingMm, values, this.signal ? { signal: this.signal } : {});
  }

  async reference(file: string): Promise<Volume> {
    const volume = await this.read(file);
    const values = await this.values(volume.voxels, file, new Breather(this.signal));
    if (this.ignoreValue !== undefined) values.delete(this.ignoreValue);
    checkValues(values, this.known, ...inFile(file));
    return volume;
  }
}

/**
 * Evaluates every prediction that is there; each needs a label of the same name (channel endings do not occur in label
 * files). Throws MaclError `dataset` (folders that do not match), `geometry` (other grids), `label` (a value outside
 * the classes), `file`, `aborted`, always naming the file.
 */
export async function evaluateFolders(options: EvaluateFoldersOptions): Promise<FolderEvaluation> {
  checkOptions('evaluate', options, OPTIONS, ['pred', 'labels']);
  const { signal } = options;
  const notes = new Set<string>();
  const labels = await listVolumes(options.labels);
  const preds = await listVolumes(options.pred, labels);
  const others = options.against === undefined ? undefined : await listVolumes(options.against, labels);
  const unlabelled = [...preds.keys()].filter((id) => !labels.has(id));
  if (unlabelled.length) {
    const words = `${options.labels}: labels: missing for ${unlabelled.join(', ')}`;
    throw new MaclError('dataset', words, { file: options.labels, field: 'labels', found: unlabelled });
  }
  const missing = [...labels.keys()].filter((id) => !preds.has(id));
  if (missing.length)
    notes.add(`${missing.length} of ${labels.size} labels have no prediction, left out: ${shownNames(missing)}`);
  if (others) {
    const alone = [...preds.keys()].filter((id) => !others.has(id));
    if (alone.length) notes.add(`not in ${options.against}, left out of the difference: ${shownNames(alone)}`);
  }
  const evaluator = new FolderEvaluator(signal, notes);
  const classes = await evaluator.chooseClasses(
    options,
    [...preds.keys()].map((id) => labels.get(id)!),
  );
  const cases = new Map<string, CaseMetrics>();
  const against = new Map<string, CaseMetrics>();
  let done = 0;
  for (const [id, predFile] of preds) {
    const referenceFile = labels.get(id)!;
    const reference = await evaluator.reference(referenceFile);
    cases.set(id, await evaluator.compare(predFile, referenceFile, reference));
    const otherFile = others?.get(id);
    if (otherFile !== undefined) against.set(id, await evaluator.compare(otherFile, referenceFile, reference));
    options.onProgress?.(++done, preds.size, id);
  }
  const document = await summarise(cases, classes, {
    ...(options.draws !== undefined && { draws: options.draws }),
    ...(options.seed !== undefined && { seed: options.seed }),
    ...(signal && { signal }),
    ...(others && { against }),
  });
  return { document: { ...document, missing }, notes: [...notes] };
}
