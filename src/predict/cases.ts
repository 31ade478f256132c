/**
 * Which files `macl predict` segments, which of them are channels of one case, and what the results are called. Nothing is
 * read here but a header where names do not tell.
 */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { asFileError } from '../data/files.js';
import { caseId, nameKey, NIFTI } from '../data/layouts/names.js';
import { readNiftiHeader } from '../data/nifti/index.js';
import { MaclError } from '../errors.js';

export { NIFTI };
const CHANNEL = /_(\d{4})(\.nii(?:\.gz)?)$/i;

/** At the end of the name of what `predict --probabilities` writes beside a case's labels. */
export const PROBABILITIES = '_probabilities';

/** One volume to segment: its files (one a channel, or one with all channels) and the name of the result. */
export interface PredictCase {
  readonly id: string;
  readonly files: readonly string[];
  readonly output: string;
  /** Why it cannot be segmented, where its files alone show that. */
  readonly problem?: MaclError;
}

/**
 * The cases of a file or folder. Names that end in a channel's number (nnU-Net's `_0000`) are joined where the model has
 * several channels; other numbers are part of the name.
 */
export async function listCases(
  input: string,
  channels: number,
  onNote: (message: string) => void,
): Promise<PredictCase[]> {
  const info = await stat(input).catch((error: unknown) => {
    throw asFileError(error, input, 'read');
  });
  const folder = info.isDirectory() ? input : dirname(input);
  const listed = async (): Promise<string[]> =>
    (
      await readdir(folder).catch((error: unknown) => {
        throw asFileError(error, folder, 'read');
      })
    ).sort();
  // Beside a single file only what may be another channel of it matters.
  const own = basename(input);
  const all = info.isDirectory()
    ? await listed()
    : CHANNEL.test(own)
      ? (await listed()).filter((name) => stemOf(name) === stemOf(own))
      : [own];
  if (!info.isDirectory() && !NIFTI.test(input))
    throw new MaclError('file', `${input}: expected .nii or .nii.gz`, { file: input });
  const names: string[] = [];
  for (const name of all) {
    if (NIFTI.test(name) && !name.startsWith('.')) names.push(name);
    else if (info.isDirectory() && !name.startsWith('.')) onNote(`skipped ${join(folder, name)}: not .nii or .nii.gz`);
  }
  const cases: PredictCase[] = [];
  const there = new Set(names);
  for (const group of byStem(names)) {
    cases.push(...(await casesOf(folder, group, channels, there)));
    if (channels === 1 && group.length > 1 && info.isDirectory())
      onNote(
        `${group.slice(0, 4).join(', ')}${group.length > 4 ? ', …' : ''}: a case each, as the model takes one channel`,
      );
  }
  const wanted = info.isDirectory() ? cases : cases.filter((c) => c.files.includes(join(folder, own)));
  if (wanted.length === 0) throw new MaclError('dataset', `${input}: has no .nii or .nii.gz file`, { file: input });
  // A result's name is in the form in which names are compared, whatever form its image's has.
  return wanted.map((c) => ({ ...c, id: caseId(c.id), output: nameKey(c.output) }));
}

const stemOf = (name: string): string => name.replace(CHANNEL, '$2');

/** Names that are equal but for a number of four digits at their end. */
function byStem(names: readonly string[]): string[][] {
  const groups = new Map<string, string[]>();
  for (const name of names) {
    const stem = stemOf(name);
    // A name without a number never joins one with.
    const key = CHANNEL.test(name) ? `${stem}/` : stem;
    groups.set(key, [...(groups.get(key) ?? []), name]);
  }
  return [...groups.values()];
}

const channelOf = (name: string): number => Number(CHANNEL.exec(name)?.[1] ?? -1);

async function casesOf(
  folder: string,
  names: readonly string[],
  channels: number,
  all: ReadonlySet<string>,
): Promise<PredictCase[]> {
  const [first] = names as readonly [string, ...string[]];
  const single = (name: string, output = name): PredictCase => ({
    id: output.replace(NIFTI, ''),
    files: [join(folder, name)],
    output,
  });
  const joined = stemOf(first);
  // One file of its own: `_0000` is its only channel, or it has them all inside.
  if (channelOf(first) < 0) return [single(first)];
  if (channels === 1)
    return names.length === 1 && channelOf(first) === 0 && !all.has(joined)
      ? [single(first, joined)]
      : names.map((n) => single(n));
  const expected = Array.from({ length: channels }, (_, c) => c);
  const found = names.map(channelOf);
  if (expected.every((c) => found[c] === c) && found.length === channels && !all.has(joined))
    return [{ id: joined.replace(NIFTI, ''), files: names.map((n) => join(folder, n)), output: joined }];
  if (await holdAllChannels(folder, names, channels)) return names.map((n) => single(n));
  const nameOf = (c: number) => joined.replace(NIFTI, `_${String(c).padStart(4, '0')}$&`);
  const missing = expected.filter((c) => !found.includes(c)).map((c) => `${nameOf(c)} is missing`);
  const more = names.filter((n) => channelOf(n) >= channels).map((n) => `${n} is one more`);
  const file = join(folder, first);
  const other = all.has(joined) ? [`${joined} has the same result`] : [];
  const words = `${file}: the model takes ${channels} channels: ${[...missing, ...more, ...other].join(', ')}`;
  const problem = new MaclError('dataset', words, { file, field: 'channels', expected: channels, found: names });
  return [{ id: joined.replace(NIFTI, ''), files: names.map((n) => join(folder, n)), output: joined, problem }];
}

/** Whether each of these files is a case by itself: 4-D, with all of the model's channels. */
async function holdAllChannels(folder: string, names: readonly string[], channels: number): Promise<boolean> {
  for (const name of names) {
    const header = await readNiftiHeader(join(folder, name)).catch(() => null);
    if (header?.channels !== channels) return false;
  }
  return true;
}
