/**
 * Which cases a run trains on and which it validates on, from flags and from the dataset's own lists. No case and no
 * patient is on both sides; what is left out for that is said.
 */
import type { Dataset, DatasetCase } from '../data/dataset.js';
import { counted, shownNames } from '../data/layouts/names.js';
import {
  drawFold,
  type GroupOf,
  partCases,
  readSplit,
  resolveCases,
  type Split,
  splitValidation,
} from '../data/lists.js';
import { MaclError } from '../errors.js';

/** Which cases a run uses; validation cases are never trained on. */
export interface CaseSplit {
  readonly train: readonly string[];
  readonly validation: readonly string[];
  /** Left out of `train`: the image is there again under another name, in validation. */
  readonly twins?: readonly string[];
}

export interface CaseFlags {
  /** `--cases`: the cases that there are, for this run. */
  readonly cases?: string | undefined;
  /** `--labels`, of fine-tuning. */
  readonly labels?: string | undefined;
  /** `--val`, of fine-tuning. */
  readonly val?: string | undefined;
  /** `--fold`: k/n, or FILE.json#K of nnU-Net's splits. */
  readonly fold?: string | undefined;
}

type Say = (message: string) => void;

const idsOf = (cases: readonly DatasetCase[]): string[] => cases.map(({ id }) => id);
const hasLabel = ({ label, missingLabel }: DatasetCase): boolean => label !== undefined || missingLabel !== undefined;

export function groupsOf(dataset: Dataset): GroupOf {
  const groups = new Map(dataset.cases.map(({ id, group }) => [id, group]));
  return (id) => groups.get(id) ?? id;
}

/** The cases that `--cases` leaves; what the dataset holds back is taken where it is named. */
export async function chosenCases(dataset: Dataset, cases: string | undefined, seed: number): Promise<DatasetCase[]> {
  if (cases === undefined) return dataset.cases;
  const held = dataset.cases.filter(({ role }) => role === 'validation');
  const others = dataset.cases.filter(({ role }) => role !== 'validation');
  const groupOf = groupsOf(dataset);
  const options = { available: idsOf(others), also: idsOf(held), groupOf, seed, flag: '--cases' };
  const wanted = new Set(await resolveCases(cases, options));
  return dataset.cases.filter(({ id }) => wanted.has(id));
}

/** All cases that the dataset does not hold back, or those that `--cases` names, less those that `--fold` holds out. */
export async function pretrainCases(dataset: Dataset, flags: CaseFlags, seed: number, say: Say): Promise<CaseSplit> {
  const chosen = await chosenCases(dataset, flags.cases, seed);
  const held = chosen.filter(({ role }) => role === 'validation');
  if (flags.cases !== undefined && held.length)
    say(`--cases names what the dataset holds back for validation: ${shownNames(idsOf(held))}`);
  const used = flags.cases === undefined ? chosen.filter(({ role }) => role !== 'validation') : chosen;
  if (flags.fold === undefined) return { train: idsOf(used), validation: [] };
  const { val } = await splitOfFold(dataset, chosen, flags.fold, seed);
  const split = partCases(idsOf(used), val, groupsOf(dataset));
  say(`--fold ${flags.fold}: ${counted(used.length - split.train.length, 'case')} held out`);
  return { train: split.train, validation: [] };
}

/** The two parts of `--fold`, of labelled cases: pre-training and fine-tuning part them alike. */
async function splitOfFold(
  dataset: Dataset,
  cases: readonly DatasetCase[],
  fold: string,
  seed: number,
): Promise<Split> {
  const labelled = cases.filter(hasLabel);
  const groupOf = groupsOf(dataset);
  const named = await readSplit(fold);
  if (named) {
    const options = { available: idsOf(labelled), groupOf, seed, flag: '--fold', what: 'labelled cases' };
    const [train, val] = [
      await resolveCases(named.train.join(), options),
      await resolveCases(named.val.join(), options),
    ];
    const twice = train.filter((id) => val.includes(id));
    if (twice.length) {
      const words = `--fold ${fold}: in train and in val: ${shownNames(twice)}`;
      throw new MaclError('config', words, { field: '--fold', found: twice });
    }
    return partCases(train, val, groupOf);
  }
  const available = idsOf(labelled.filter(({ role }) => role === 'training'));
  return partCases(available, drawFold(available, fold, seed, groupOf), groupOf);
}

/** The labelled cases that `--labels` names, less a part for validation (`--val`, `--fold`, or the dataset's list). */
export async function finetuneCases(dataset: Dataset, flags: CaseFlags, seed: number, say: Say): Promise<CaseSplit> {
  const labelled = (await chosenCases(dataset, flags.cases, seed)).filter(hasLabel);
  if (labelled.length === 0)
    throw new MaclError('dataset', `${dataset.root}: no case has a label`, { file: dataset.root });
  const of = (role: DatasetCase['role']): string[] => idsOf(labelled.filter((one) => one.role === role));
  const [listed, unlisted, heldBack] = [of('training'), of('unlisted'), of('validation')];
  const groupOf = groupsOf(dataset);
  // --labels splits_final.json#0 means that fold, and what it validates on.
  const isFold = flags.fold === undefined && flags.val === undefined && flags.labels !== undefined;
  const fold = flags.fold ?? (isFold && (await readSplit(flags.labels!)) ? flags.labels! : undefined);
  if (fold !== undefined && flags.val !== undefined) {
    const words = `--fold ${fold} and --val ${flags.val}: both say what is validated on; give one`;
    throw new MaclError('config', words, { field: '--fold' });
  }
  const choose = (available: readonly string[], also: readonly string[]): Promise<string[]> =>
    flags.labels === undefined || flags.labels === fold
      ? Promise.resolve([...available])
      : resolveCases(flags.labels, { available, also, groupOf, seed, flag: '--labels', what: 'labelled cases' });
  let split: Split;
  if (fold === undefined) {
    if (!listed.length && flags.labels === undefined)
      throw new MaclError('dataset', `${dataset.root}: no case of the training list has a label`, {
        file: dataset.root,
      });
    const chosen = await choose(listed, unlisted);
    const available = [...listed, ...unlisted].sort();
    const val = flags.val === undefined ? {} : { val: flags.val };
    split = await splitValidation({ chosen, available, heldBack, groupOf, seed, ...val });
  } else {
    const { train, val, parted } = await splitOfFold(dataset, labelled, fold, seed);
    // A fraction is drawn from what is trained on; of a list the held-out cases are left out.
    const chosen = await choose(train, val);
    split = { ...partCases(chosen, val, groupOf), ...(parted && { parted }) };
    if (!split.train.length)
      throw new MaclError('config', `--fold ${fold}: none of the cases is left to train on`, { field: '--fold' });
    say(`--fold ${fold}: ${counted(split.train.length, 'case')} to train on, held out: ${shownNames(val)}`);
  }
  if (split.parted) say(`left out of training, as their patients are validated on: ${shownNames(split.parted)}`);
  return { train: split.train, validation: split.val };
}

/** Without the training cases whose image is in validation too, under another name. */
export function withoutTwins(split: CaseSplit, twins: readonly (readonly string[])[], say: Say): CaseSplit {
  const held = new Set(split.validation);
  const left = new Map<string, string>();
  for (const ids of twins) {
    const validated = ids.find((id) => held.has(id));
    if (validated !== undefined) for (const id of ids) if (!held.has(id)) left.set(id, validated);
  }
  if (!left.size) return split;
  const names = shownNames([...left].map(([id, other]) => `${id} (${other})`));
  say(`${counted(left.size, 'case')} left out of training: the same image is in validation: ${names}`);
  const train = split.train.filter((id) => !left.has(id));
  if (!train.length)
    throw new MaclError('dataset', `every training case holds an image of validation: ${names}`, { field: 'cases' });
  return { train, validation: split.validation, twins: [...left.keys()] };
}

/** A resume that names cases has to name those that the run began with (less the bad ones, which were left out). */
export function checkSameCases(begun: CaseSplit, given: CaseSplit, flags: string, skipBad: boolean): void {
  const twins = new Set(begun.twins);
  for (const part of ['train', 'validation'] as const) {
    const [before, now] = [new Set(begun[part]), new Set(given[part].filter((id) => !twins.has(id)))];
    const added = [...now].filter((id) => !before.has(id));
    const gone = [...before].filter((id) => !now.has(id));
    if (gone.length === 0 && (skipBad || added.length === 0)) continue;
    const words = [...added.map((id) => `+${id}`), ...gone.map((id) => `-${id}`)];
    throw new MaclError(
      'config',
      `--resume: ${flags}: the run began with other ${part} cases (${words.slice(0, 8).join(', ')}); leave it out to go on with them`,
      { field: flags, expected: begun[part], found: given[part] },
    );
  }
}
