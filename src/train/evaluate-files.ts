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
import { readNifti, toRas } from '../data/nifti.js';
import { type Grid, type Volume, type VoxelArray } from '../data/volume.js';
import { fileError, MaclError } from '../errors.js';
import { type BootstrapOptions } from '../segment/bootstrap.js';
import { type ClassLabel, type EvaluationDocument, summarise } from '../segment/evaluate.js';
import { type CaseMetrics, caseMetrics } from '../segment/metrics.js';

export interface EvaluateFoldersOptions extends BootstrapOptions {
  /** Folder of predictions, one label volume a case. */
  pred: string;
  /** Folder of reference labels; a dataset.json in it or beside it names the classes. */
  labels: string;
  /** Other predictions of the same cases, for the paired difference. */
  against?: string;
  /** The classes, without background, where the caller knows them better than dataset.json. */
  classes?: readonly ClassLabel[];
  onProgress?: (done: number, total: number, caseName: string) => void;
}

export interface FolderEvaluation {
  document: EvaluationDocument;
  /** Things worth saying: labels without a prediction, cases that only one side has. */
  notes: string[];
}

const NIFTI = /\.nii(\.gz)?$/;
/** A corner of two grids may lie apart by this share of a voxel: qform and sform differ by rounding. */
const CORNER_TOLERANCE = 0.05;
/** Voxels between two looks at the clock. */
const BLOCK = 1 << 16;

/** Case → path of the volumes of a folder, sorted. Dot files and other files are skipped. */
async function listVolumes(folder: string): Promise<Map<string, string>> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    throw asFileError(error, folder, 'read');
  }
  const found = new Map<string, string>();
  for (const name of names.filter((one) => NIFTI.test(one) && !one.startsWith('.')).sort()) {
    const id = caseId(name);
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

/** Classes of the dataset.json in the labels' folder or the one above; undefined where there is none. */
async function namedClasses(labels: string): Promise<{ classes: ClassLabel[]; ignoreValue?: number } | undefined> {
  for (const folder of [resolve(labels), dirname(resolve(labels))]) {
    try {
      const { classes, ignoreValue } = classesOf(await readDatasetJson(join(folder, 'dataset.json')));
      // The first is the background.
      if (classes.length > 1) return { classes: classes.slice(1), ...(ignoreValue !== undefined && { ignoreValue }) };
    } catch (error) {
      const cause = error instanceof MaclError ? error.cause : error;
      if (systemCode(cause) !== 'ENOENT' && systemCode(cause) !== 'ENOTDIR') throw error;
    }
  }
  return undefined;
}

async function readLabels(file: string, signal: AbortSignal | undefined): Promise<Volume> {
  const options = signal ? { signal } : {};
  const { volume } = await toRas(await readNifti(file, options), options);
  if (volume.channels !== 1) {
    throw fileError(file, 'dim', `expected a label volume with one channel, found ${volume.channels}`);
  }
  return volume;
}

/** Every value that occurs. Throws MaclError `label` for one that is not a whole number. */
async function valuesIn(voxels: VoxelArray, file: string, breath: Breather): Promise<Set<number>> {
  const found = new Set<number>();
  let last: number | undefined;
  for (let i = 0; i < voxels.length; i++) {
    const value = voxels[i]!;
    if (value !== last) {
      if (!Number.isInteger(value)) {
        const words = `${file}: voxels: expected whole label values, found ${value}`;
        throw new MaclError('label', words, { file, field: 'voxels', found: value });
      }
      found.add(value);
      last = value;
    }
    if (i % BLOCK === 0 && breath.due()) await breath.breathe();
  }
  return found;
}

function corner(grid: Grid, n: number, row: number): number {
  const [depth, height, width] = grid.shape;
  const a = grid.affine;
  const at = [n & 1 ? width - 1 : 0, n & 2 ? height - 1 : 0, n & 4 ? depth - 1 : 0];
  return a[4 * row]! * at[0]! + a[4 * row + 1]! * at[1]! + a[4 * row + 2]! * at[2]! + a[4 * row + 3]!;
}

/** Fault 14: throws MaclError `geometry` where two volumes, turned to RAS, do not lie on the same grid. */
function checkSameGrid(found: Grid, expected: Grid, file: string, reference: string): void {
  if (!found.shape.every((n, axis) => n === expected.shape[axis])) {
    const [is, wanted] = [found.shape.join(' × '), expected.shape.join(' × ')];
    const words = `${file}: shape: expected ${wanted} voxels (D × H × W) as ${reference}, found ${is}`;
    throw new MaclError('geometry', words, { file, field: 'shape', expected: expected.shape, found: found.shape });
  }
  let apartMm = 0;
  for (let n = 0; n < 8; n++) {
    apartMm = Math.max(
      apartMm,
      Math.hypot(...[0, 1, 2].map((row) => corner(found, n, row) - corner(expected, n, row))),
    );
  }
  if (apartMm <= CORNER_TOLERANCE * Math.min(...expected.spacingMm)) return;
  const words = `${file}: affine: expected the grid of ${reference}, found corners ${apartMm.toFixed(3)} mm away`;
  throw new MaclError('geometry', words, {
    file,
    field: 'affine',
    expected: [...expected.affine],
    found: [...found.affine],
  });
}

/** Fault 15. */
function checkValues(values: ReadonlySet<number>, known: ReadonlySet<number>, file: string): void {
  const outside = [...values].filter((value) => !known.has(value)).sort((a, b) => a - b);
  if (!outside.length) return;
  const expected = [...known].sort((a, b) => a - b);
  const words = `${file}: voxels: label ${outside.join(', ')} is not among the classes ${expected.join(', ')}`;
  throw new MaclError('label', words, { file, field: 'voxels', expected, found: outside });
}

class FolderEvaluator {
  private known: ReadonlySet<number> = new Set();
  private ignoreValue: number | undefined;
  private classes: readonly ClassLabel[] = [];
  constructor(private readonly signal: AbortSignal | undefined) {}

  /** The classes given, or dataset.json's, or every value that the reference labels hold (0 is the background). */
  async chooseClasses(options: EvaluateFoldersOptions, references: readonly string[]): Promise<readonly ClassLabel[]> {
    const named = options.classes ? { classes: options.classes } : await namedClasses(options.labels);
    if (named) {
      this.classes = named.classes;
      this.ignoreValue = 'ignoreValue' in named ? (named.ignoreValue as number | undefined) : undefined;
    } else {
      const all = new Set<number>();
      const breath = new Breather(this.signal);
      for (const file of references) {
        const { voxels } = await readLabels(file, this.signal);
        for (const value of await valuesIn(voxels, file, breath)) if (value !== 0) all.add(value);
      }
      this.classes = [...all].sort((a, b) => a - b).map((value) => ({ value }));
    }
    if (!this.classes.length) {
      const words = `${options.labels}: labels: hold background alone, there is nothing to evaluate`;
      throw new MaclError('dataset', words, { file: options.labels, field: 'labels' });
    }
    this.known = new Set([0, ...this.classes.map(({ value }) => value)]);
    return this.classes;
  }

  async compare(predFile: string, referenceFile: string, reference: Volume): Promise<CaseMetrics> {
    const pred = await readLabels(predFile, this.signal);
    checkSameGrid(pred.grid, reference.grid, predFile, referenceFile);
    const breath = new Breather(this.signal);
    checkValues(await valuesIn(pred.voxels, predFile, breath), this.known, predFile);
    if (this.ignoreValue !== undefined) {
      // Where the reference says nothing, nothing is judged: there the prediction counts as background too.
      for (let i = 0; i < pred.voxels.length; i++) {
        if (reference.voxels[i] === this.ignoreValue) pred.voxels[i] = 0;
        if (i % BLOCK === 0 && breath.due()) await breath.breathe();
      }
    }
    const { shape, spacingMm } = reference.grid;
    const values = this.classes.map(({ value }) => value);
    return caseMetrics(
      pred.voxels,
      reference.voxels,
      shape,
      spacingMm,
      values,
      this.signal ? { signal: this.signal } : {},
    );
  }

  async reference(file: string): Promise<Volume> {
    const volume = await readLabels(file, this.signal);
    const values = await valuesIn(volume.voxels, file, new Breather(this.signal));
    if (this.ignoreValue !== undefined) values.delete(this.ignoreValue);
    checkValues(values, this.known, file);
    return volume;
  }
}

/**
 * Evaluates every prediction that is there; each needs a label of the same name (channel endings do not occur in label
 * files). Throws MaclError `dataset` (folders that do not match), `geometry` (other grids), `label` (a value outside
 * the classes), `file`, `aborted`, always naming the file.
 */
export async function evaluateFolders(options: EvaluateFoldersOptions): Promise<FolderEvaluation> {
  const { signal } = options;
  const notes: string[] = [];
  const preds = await listVolumes(options.pred);
  const labels = await listVolumes(options.labels);
  const others = options.against === undefined ? undefined : await listVolumes(options.against);
  const unlabelled = [...preds.keys()].filter((id) => !labels.has(id));
  if (unlabelled.length) {
    const words = `${options.labels}: labels: missing for ${unlabelled.join(', ')}`;
    throw new MaclError('dataset', words, { file: options.labels, field: 'labels', found: unlabelled });
  }
  const unpredicted = [...labels.keys()].filter((id) => !preds.has(id));
  if (unpredicted.length) notes.push(`${unpredicted.length} of ${labels.size} labels have no prediction: left out`);
  if (others) {
    const alone = [...preds.keys()].filter((id) => !others.has(id));
    if (alone.length) notes.push(`not in ${options.against}, left out of the difference: ${alone.join(', ')}`);
  }
  const evaluator = new FolderEvaluator(signal);
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
  return { document, notes };
}
