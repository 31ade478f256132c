/**
 * Numbers at the end of names (case_0000, case_0001): channels of one case, or numbers of cases. A wrong guess joins
 * patients or parts the channels of one, so what was decided without being told is said. Node only.
 */
import { join } from 'node:path';
import { MaclError } from '../../errors.js';
import { type Found } from './folder.js';
import { CHANNEL, counted, shownNames } from './names.js';

/** A case of several files: for each channel its file, and those that are missing. */
export interface ChannelGroup {
  id: string;
  images: string[];
  missing: string[];
}

export interface ChannelHints {
  /** Ids of images and of their labels (undefined: none) as a list pairs them. */
  listed: readonly { image: string; label: string | undefined }[];
  /** Ids of label files. */
  labels: readonly string[];
  /** How many channels dataset.json names. */
  count: number | undefined;
}

const number = (id: string): string => id.slice(-4);
const stemOf = (id: string): string => id.replace(CHANNEL, '');

/** What names alone say: 'channels', 'cases', or why it is not clear. */
export interface Decision {
  asChannels: boolean;
  /** Worth saying: nothing told. */
  note?: string;
}

/** Are these ids case_0000, case_0001 (a file a channel)? Lists decide, then labels, then whether several cases have the same numbers. */
export function decideChannels(images: readonly Found[], hints: ChannelHints): Decision {
  if (!images.length || !images.every(({ id }) => CHANNEL.test(id))) return { asChannels: false };
  const stems = new Map<string, string[]>();
  for (const { id } of images) {
    const numbers = stems.get(stemOf(id));
    if (numbers) numbers.push(number(id));
    else stems.set(stemOf(id), [number(id)]);
  }
  const names = new Set(images.map(({ id }) => id));
  let told: boolean | undefined;
  for (const { image, label } of hints.listed) {
    if (names.has(image)) {
      // The list names files: the label then says whether the number belongs to the case.
      if (label === undefined || label !== stemOf(image)) return { asChannels: false };
      told = true;
    } else if (stems.has(image)) told = true;
  }
  if (told) return { asChannels: true };
  if (hints.labels.length) {
    const own = hints.labels.some((id) => names.has(id));
    return { asChannels: !own && hints.labels.some((id) => stems.has(id)) };
  }
  const files = [...names];
  const sets = new Set([...stems.values()].map((numbers) => numbers.join()));
  const first = [...sets][0]!;
  const perCase = first.split(',').length;
  const alike = sets.size === 1 && first.startsWith('0000') && (hints.count ?? perCase) === perCase;
  if (alike && stems.size > 1) {
    const note = `${shownNames(files)}: ${counted(stems.size, 'case')} of ${counted(perCase, 'channel')}, as all have the same numbers (nnU-Net's names)`;
    return { asChannels: true, ...(perCase > 1 && { note }) };
  }
  if (images.length === 1) return { asChannels: alike };
  if (!files.some((id) => number(id) === '0000')) return { asChannels: false };
  const note =
    `${shownNames(files)}: a case each, as nothing says that the numbers are channels; ` +
    'dataset.json\'s channel_names ({"0": "T1", "1": "T2"}) does';
  return { asChannels: false, note };
}

/** One case a stem, every channel named that is missing. `at`: where those would be, and their ending. */
export function groupChannels(
  images: readonly Found[],
  channels: number | undefined,
  at: { path: string; ending: string },
): ChannelGroup[] {
  const groups = new Map<string, Map<number, string>>();
  let highest = 0;
  for (const { id, path } of images) {
    const match = CHANNEL.exec(id);
    if (!match) {
      throw new MaclError('dataset', `${path}: name: expected a channel ending such as ${id}_0000`, {
        file: path,
        field: 'name',
      });
    }
    const stem = id.slice(0, match.index);
    const group = groups.get(stem) ?? new Map<number, string>();
    groups.set(stem, group.set(Number(match[1]), path));
    highest = Math.max(highest, Number(match[1]));
  }
  const count = channels ?? 1 + highest;
  return [...groups].map(([id, group]) => {
    const extra = [...group.keys()].find((channel) => channel >= count);
    if (extra !== undefined) {
      const file = group.get(extra)!;
      const own = `${id}_${String(extra).padStart(4, '0')}`;
      const words =
        `${file}: channel: ${extra} is not among the ${count} of dataset.json: the number at the end of a name is a ` +
        `channel's there; where it is the case's own, one more says the channel: ${own}_0000${at.ending}`;
      throw new MaclError('dataset', words, { file, field: 'channel', expected: count, found: extra });
    }
    const item: ChannelGroup = { id, images: [], missing: [] };
    for (let channel = 0; channel < count; channel++) {
      const path = group.get(channel);
      const expected = join(at.path, `${id}_${String(channel).padStart(4, '0')}${at.ending}`);
      item.images.push(path ?? expected);
      if (path === undefined) item.missing.push(expected);
    }
    return item;
  });
}
