/**
 * `macl evaluate`: a folder, or a file, of predicted label volumes against reference ones. It reads, checks grids and
 * label values, and hands arrays to `segment/metrics.ts` and `segment/evaluate.ts`, which know no files. Node only.
 */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { Breather } from '../breathe.js';
import { caseId } from '../data/dataset.js';
import { classesOf, readDatasetJson } from '../data/layouts/dataset-json.js';
import { asFileError, systemCode } from '../data/files.js';
import { resolveCases } from '../data/lists.js';
import { type LabelTarget, readLabelVolume } from '../data/case-io.js';
import { type Volume, type VoxelArray } from '../volume.js';
import { MaclError } from '../errors.js';
import { checkOptions, type OptionKinds } from '../options.js';
import { emptyLike } from '../realm.js';
import { BOOTSTRAP_OPTIONS, type BootstrapOptions } from '../segment/bootstrap.js';
import { type ClassLabel, type EvaluationDocument, summarise } from '../segment/evaluate.js';
import { checkValues, valuesIn } from '../segment/label-values.js';
import { type CaseMetrics, caseMetrics } from '../segment/metrics.js';
import { NIFTI, PROBABILITIES } from './cases.js';

export interface EvaluateFoldersOptions extends BootstrapOptions {
  /** Folder of predictions, one label volume a case; or one volume. */
  pred: string;
  /** Folder of reference labels, or one of them; a dataset.json in the folder or beside it names the classes. */
  labels: string;
  /** Other predictions of the same cases, for the paired difference. */
  against?: string;
  /** Only these cases: FILE.json#KEY, a text file, a comma list, or a fraction. */
  cases?: string;
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
  cases: 'text',
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

/** The most label values, the background counted, that are taken for classes where nothing names them. */
const MOST_CLASSES = 256;

/** The volume where `path` is a file; undefined for a folder. */
async function singleVolume(path: string): Promise<string | undefined> {
  const info = await stat(path).catch((error: unknown) => {
    throw asFileError(error, path, 'read');
  });
  if (info.isDirectory()) return undefined;
  if (NIFTI.test(path)) return path;
  throw new MaclError('file', `${path}: expected a folder, or a .nii or .nii.gz file`, { file: path });
}

interface Listed {
  labels: Map<string, string>;
  preds: Map<string, string>;
  others?: Map<string, string>;
  missing: string[];
}

async function chosenIds(cases: string, available: readonly string[]): Promise<Set<string>> {
  return new Set(await resolveCases(cases, { available, seed: 0, flag: '--cases', what: 'cases with labels' }));
}

/** Files and folders of predictions beside those of labels: two files are one case, whatever they are called. */
async function listCases(options: EvaluateFoldersOptions, notes: Set<string>): Promise<Listed> {
  const { pred, labels, against } = options;
  const single = await singleVolume(pred);
  const reference = await singleVolume(labels);
  let id = single === undefined ? undefined : caseId(basename(single));
  const all =
    reference === undefined ? await listVolumes(labels) : new Map([[id ?? caseId(basename(reference)), reference]]);
  id ??= reference === undefined ? undefined : caseId(basename(reference));
  const chosen = options.cases === undefined ? undefined : await chosenIds(options.cases, [...all.keys()]);
  const only = (found: Map<string, string>): Map<string, string> =>
    new Map([...found].filter(([other]) => (id === undefined || other === id) && (chosen?.has(other) ?? true)));
  const folder = async (path: string): Promise<Map<string, string>> => {
    const one = await singleVolume(path);
    return one === undefined ? only(await listVolumes(path, all)) : new Map([[id ?? caseId(basename(one)), one]]);
  };
  const preds = await folder(pred);
  const others = against === undefined ? undefined : await folder(against);
  if (!preds.size) {
    const words = `${pred}: predictions: has none of ${id === undefined ? `the cases of --cases ${options.cases}` : `case ${id}`}`;
    throw new MaclError('dataset', words, { file: pred, field: 'predictions' });
  }
  const unlabelled = [...preds.keys()].filter((one) => !all.has(one));
  if (unlabelled.length) {
    const words = `${labels}: labels: missing for ${unlabelled.join(', ')}`;
    throw new MaclError('dataset', words, { file: labels, field: 'labels', found: unlabelled });
  }
  // Who names one file asks for it alone.
  const missing = [...only(all).keys()].filter((one) => !preds.has(one));
  if (missing.length)
    notes.add(`${missing.length} of ${only(all).size} labels have no prediction, left out: ${shownNames(missing)}`);
  const alone = others ? [...preds.keys()].filter((one) => !others.has(one)) : [];
  if (alone.length) notes.add(`not in ${against}, left out of the difference: ${shownNames(alone)}`);
  return { labels: all, preds, ...(others && { others }), missing };
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
async function namedClasses(labels: string, notes: Set<string>): Promise<NamedClasses | undefined> {
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
      if (
        error instanceof MaclError &&
        error.details.field?.startsWith('labels[') &&
        Array.isArray(error.details.found)
      ) {
        notes.add(`${error.message}: every value of the volumes is evaluated by itself`);
        return undefined;
      }
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

  /**
   * The classes given, or dataset.json's, or every value that the volumes hold (0 is the background then): one that only
   * predictions hold is found where there is none.
   */
  async chooseClasses(
    options: EvaluateFoldersOptions,
    references: readonly string[],
    predictions: readonly string[],
  ): Promise<readonly ClassLabel[]> {
    const named: NamedClasses | undefined = options.classes
      ? { classes: options.classes, background: options.background ?? 0 }
      : await namedClasses(options.labels, this.notes);
    if (named) {
      this.classes = named.classes;
      this.background = named.background;
      this.ignoreValue = named.ignoreValue;
    } else {
      const all = await this.valuesOf(references);
      const found = await this.valuesOf(predictions);
      const alone = [...found].filter((value) => !all.has(value)).sort((a, b) => a - b);
      if (alone.length) {
        const which = `label ${shownNames(alone.map(String))}`;
        this.notes.add(`${which}: in the predictions only, counted as found where there is none (Dice 0)`);
        for (const value of alone) all.add(value);
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

  /** Every value of some files but the background. An image is found out before anything is measured. */
  private async valuesOf(files: readonly string[]): Promise<Set<number>> {
    const all = new Set<number>();
    const breath = new Breather(this.signal);
    for (const file of files) {
      const { voxels } = await this.read(file);
      const [what, details] = inFile(file);
      for (const value of await valuesIn(voxels, what, breath, details, MOST_CLASSES)) if (value !== 0) all.add(value);
      if (all.size >= MOST_CLASSES) {
        const words = `${what}: with those before it ${all.size} label values, at most ${MOST_CLASSES - 1} are classes`;
        throw new MaclError('label', words, details);
      }
    }
    return all;
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
  const { labels, preds, others, missing } = await listCases(options, notes);
  const evaluator = new FolderEvaluator(signal, notes);
  const classes = await evaluator.chooseClasses(
    options,
    [...preds.keys()].map((id) => labels.get(id)!),
    [...preds, ...(others ?? [])].filter(([id]) => preds.has(id)).map(([, file]) => file),
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
