/**
 * What `macl predict` writes, all of it known before anything is computed: names, what would take another one's place, and
 * what is there already. A result carries a seal (`nifti-seal.ts`), so that it is known again; any other file is somebody's
 * and is replaced only where the caller says so.
 */
import { createHash } from 'node:crypto';
import { lstat, open, realpath, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { FinetuneConfig } from '../settings/types.js';
import { Breather } from '../breathe.js';
import { asFileError, makeFolder, systemCode, temporaryName } from '../data/files.js';
import { readSeal } from '../data/nifti/read-seal.js';
import { DEFAULT_ARITHMETIC } from '../arithmetic.js';
import { MaclError } from '../errors.js';
import { modelMetadata, type LoadedModel } from '../model/description.js';
import { NIFTI, PROBABILITIES, type PredictCase } from './cases.js';
import type { NetworkOptions } from './network.js';

/** A case and the files that come of it. */
export interface PlannedCase extends PredictCase {
  readonly labels: string;
  readonly probabilities?: string;
}

export interface OutputOptions {
  /** A folder, or (`.nii`, `.nii.gz`) the file of a single case. */
  readonly out: string;
  readonly probabilities: boolean;
  /** Replace whatever is there. */
  readonly overwrite: boolean;
  /** Leave out cases whose results are there. */
  readonly continue: boolean;
  /** What the seal of these results says. */
  readonly seal: string;
  readonly signal?: AbortSignal | undefined;
}

const SEAL = 'macl predict';
/** The most bytes that a name may have on every file system in use. */
const NAME_BYTES = 255;
const BLOCK_BYTES = 1 << 18;

/** What a result depends on beside its models and input. */
export interface SealedSettings extends NetworkOptions {
  readonly mirror: boolean;
  readonly largestComponent: boolean;
  readonly nonFinite: 'refuse' | 'zero';
}

/** What the results of these models and settings are sealed with: equal ones have equal seals. */
export async function sealOf(
  models: readonly LoadedModel<FinetuneConfig>[],
  settings: SealedSettings,
  signal?: AbortSignal,
): Promise<string> {
  const { mirror, largestComponent, nonFinite, precision = 'fp32', arithmetic = DEFAULT_ARITHMETIC } = settings;
  // What was added later stands there where it is not what it was before: results of before are still known.
  const added = { ...(precision === 'fp32' ? {} : { precision }), ...(arithmetic === 'direct' ? {} : { arithmetic }) };
  const said = JSON.stringify({ mirror, largestComponent, nonFinite, ...added });
  const hash = createHash('sha256').update(said);
  const breath = new Breather(signal);
  for (const model of models) {
    hash.update(JSON.stringify(modelMetadata(model)));
    for (const [name, { dtype, shape, bytes }] of [...model.tensors].sort(([a], [b]) => (a < b ? -1 : 1))) {
      hash.update(JSON.stringify([name, dtype, shape]));
      for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
        hash.update(bytes.subarray(at, at + BLOCK_BYTES));
        if (breath.due()) await breath.breathe();
      }
    }
  }
  return `${SEAL} ${hash.digest('hex').slice(0, 12)}`;
}

/**
 * The cases to compute, and those that are there already (with `continue`). Makes the folder once all is well.
 * @throws MaclError `config` or `file` that names the files
 */
export async function planOutputs(
  cases: readonly PredictCase[],
  options: OutputOptions,
): Promise<{ todo: PlannedCase[]; kept: PlannedCase[] }> {
  const single = await isSingleFile(options.out);
  if (single && cases.length !== 1) {
    const words = `${options.out}: names one file, and there are ${cases.length} cases: give a folder as --out`;
    throw new MaclError('config', words, { file: options.out, field: 'out', expected: 1, found: cases.length });
  }
  const planned = cases.map((item): PlannedCase => {
    const labels = single ? options.out : join(options.out, item.output);
    return { ...item, labels, ...(options.probabilities ? { probabilities: besideLabels(labels) } : {}) };
  });
  checkNames(planned);
  const folder = single ? dirname(options.out) : options.out;
  await mustNotReplaceInputs(planned, folder);
  const { foreign, other, same } = await whatIsThere(planned, options);
  const shown = (files: readonly string[]) => files.slice(0, 8).join(', ') + (files.length > 8 ? ', …' : '');
  const refuse = (files: readonly string[], words: string) => {
    if (files.length === 0 || options.overwrite) return;
    const details = { file: files[0] as string, field: 'out', found: files.slice(0, 8) };
    throw new MaclError('config', `${shown(files)}: ${words}`, details);
  };
  refuse(foreign, 'is there and was not written by predict, or was changed since: give another --out, or --overwrite');
  if (options.continue)
    refuse(other, 'was written by another model or with other settings: give another --out, or --overwrite');
  await mustBeWritable(folder);
  const whole = (item: PlannedCase) => filesOf(item).every((file) => same.has(file));
  return options.continue
    ? { todo: planned.filter((item) => !whole(item)), kept: planned.filter(whole) }
    : { todo: planned, kept: [] };
}

const besideLabels = (file: string): string => file.replace(NIFTI, `${PROBABILITIES}$&`);
const filesOf = ({ labels, probabilities }: PlannedCase): string[] =>
  probabilities === undefined ? [labels] : [labels, probabilities];

async function isSingleFile(out: string): Promise<boolean> {
  if (!NIFTI.test(out)) return false;
  const info = await stat(out).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return null;
    throw asFileError(error, out, 'read');
  });
  return !info?.isDirectory();
}

/** No two results may have one name, and every name must be one that can be written. */
function checkNames(planned: readonly PlannedCase[]): void {
  const owners = new Map<string, string>();
  for (const item of planned)
    for (const file of filesOf(item)) {
      const what = file === item.labels ? `the labels of ${item.id}` : `the probabilities of ${item.id}`;
      const other = owners.get(file);
      if (other !== undefined) {
        const words = `${file}: would be both ${other} and ${what}: give one of the inputs another name`;
        throw new MaclError('config', words, { file, field: 'out', found: [other, what] });
      }
      owners.set(file, what);
      const bytes = Buffer.byteLength(basename(file));
      if (bytes > NAME_BYTES) {
        const words = `${file}: a name of ${bytes} bytes cannot be written (at most ${NAME_BYTES}): give the input a shorter one`;
        throw new MaclError('config', words, { file, field: 'out', expected: NAME_BYTES, found: bytes });
      }
    }
}

/** A result has its image's name: into the same folder it would replace the image. */
async function mustNotReplaceInputs(planned: readonly PlannedCase[], folder: string): Promise<void> {
  const real = await realpath(folder).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return null;
    throw asFileError(error, folder, 'read');
  });
  if (real === null) return;
  const results = new Set(planned.flatMap(filesOf).map((file) => join(real, basename(file))));
  for (const { files } of planned)
    for (const file of files)
      // A link that leads nowhere is found out when it is read.
      if (results.has((await realpath(file).catch(() => null)) ?? ''))
        throw new MaclError('config', `${file}: the result would replace it: give another --out than its folder`, {
          file,
          field: 'out',
        });
}

/** Result files that exist: of somebody else, ours with other settings, ours with these. */
async function whatIsThere(planned: readonly PlannedCase[], options: OutputOptions) {
  const read = options.signal ? { signal: options.signal } : {};
  const [foreign, other]: [string[], string[]] = [[], []];
  const same = new Set<string>();
  for (const file of planned.flatMap(filesOf)) {
    const info = await lstat(file).catch((error: unknown) => {
      if (systemCode(error) === 'ENOENT') return null;
      throw asFileError(error, file, 'read');
    });
    if (!info) continue;
    if (info.isDirectory()) throw new MaclError('file', `${file}: is a folder, expected a file or nothing`, { file });
    const found = info.isFile() ? await readSeal(file, SEAL, read) : undefined;
    if (found === undefined) foreign.push(file);
    else if (found === options.seal) same.add(file);
    else other.push(file);
  }
  return { foreign, other, same };
}

/** Found out now, and not after the first case is computed. */
async function mustBeWritable(folder: string): Promise<void> {
  await makeFolder(folder);
  const probe = temporaryName(join(folder, 'macl'));
  try {
    await (await open(probe, 'wx')).close();
    await unlink(probe);
  } catch (error) {
    throw asFileError(error, folder, 'write');
  }
}
