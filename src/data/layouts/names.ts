/**
 * Names of volumes: which files are NIfTI, what a case is called, which words mark a mask. Names are compared in
 * Unicode's composed form and endings without regard to case, because copying between systems changes both. No files.
 */
import { basename } from 'node:path';

export const NIFTI = /\.nii(\.gz)?$/i;

/** nnU-Net's number of a channel at the end of a name, without the file's ending. */
export const CHANNEL = /_(\d{4})$/;

export const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** A name in the one form that names are compared in. */
export const composed = (name: string): string => name.normalize('NFC');

/** Two files whose names have the same key differ at most in Unicode form and in the ending's case. */
export const nameKey = (name: string): string => composed(name).replace(NIFTI, (ending) => ending.toLowerCase());

/** A path's last part, whichever system wrote it. */
export const nameOf = (path: string): string => basename(path.replaceAll('\\', '/'));

/** A file's name without folder and .nii or .nii.gz, composed: the id of a case. */
export function caseId(file: string): string {
  return composed(nameOf(file)).replace(NIFTI, '');
}

/** What systems and archives leave beside data. */
export function isClutter(name: string): boolean {
  return name.startsWith('.') || /^(__MACOSX|thumbs\.db|desktop\.ini)$/i.test(name);
}

const NAMES_SHOWN = 8;

/** The first names of a list, and how many more there are. */
export function shownNames(names: readonly string[]): string {
  const more = names.length - NAMES_SHOWN;
  return names.slice(0, NAMES_SHOWN).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

export { counted } from '../../words.js';

const MASK_WORD =
  /^(segs?|segm|dseg|labels(tr|ts|va|val)|labelmap|gt|gtv|truth|roi|annotations?|contours?|delineations?|manual|\p{L}*(masks?|labels?|seg|segmentations?))$/u;
const IMAGE_WORD = /^(images?(tr|ts|va|val)?|imgs?|scans?|volumes?|vol)$/;

/** The words of a name: letters and digits apart, "LungMask" is two. */
function wordsOf(name: string): string[] {
  const found = composed(name).match(/\p{N}+|\p{Lu}?[\p{Ll}\p{M}]+|\p{Lu}+(?!\p{Ll})|[\p{L}\p{M}]+/gu) ?? [];
  // imagesTr and labelsTr are one word each.
  const joined: string[] = [];
  for (const word of found.map((one) => one.toLowerCase())) {
    const both = `${joined.at(-1) ?? ''}${word}`;
    if (/^(images|labels)(tr|ts|va|val)$/.test(both)) joined[joined.length - 1] = both;
    else joined.push(word);
  }
  return joined;
}

const isMaskWord = (word: string): boolean => MASK_WORD.test(word);
const isRoleWord = (word: string): boolean => MASK_WORD.test(word) || IMAGE_WORD.test(word) || word === 'ground';

/**
 * Whether a path says of itself that it is a mask: "p1/seg.nii.gz", "labels/p1.nii.gz", "p1-label.nii". A folder that is
 * called after a project ("liver-seg 2020") holds images too: it says so with its last word only.
 */
export function namesMask(path: string): boolean {
  const parts = path.replace(NIFTI, '').split('/');
  const file = wordsOf(parts.pop()!);
  return file.some(isMaskWord) || parts.some((part) => isMaskWord(wordsOf(part).at(-1) ?? ''));
}

export type SplitName = 'training' | 'validation' | 'test';

const SPLIT_WORDS: Readonly<Record<string, SplitName>> = {
  ...{ train: 'training', training: 'training', tr: 'training', imagestr: 'training', labelstr: 'training' },
  ...{
    val: 'validation',
    valid: 'validation',
    validation: 'validation',
    imagesva: 'validation',
    labelsva: 'validation',
  },
  ...{ imagesval: 'validation', labelsval: 'validation', test: 'test', testing: 'test', ts: 'test' },
  ...{ imagests: 'test', labelsts: 'test' },
};
const FILLER = /^(set|sets|data|dataset|cases|split)$/;

/** What a folder's name says that its volumes are for: "train", "Test set", "imagesTs", "validation data". */
export function splitOf(folder: string): SplitName | undefined {
  const words = wordsOf(folder).filter(
    (word) => !FILLER.test(word) && !(isRoleWord(word) && !Object.hasOwn(SPLIT_WORDS, word)),
  );
  const [word] = words;
  return words.length === 1 && Object.hasOwn(SPLIT_WORDS, word!) ? SPLIT_WORDS[word!] : undefined;
}

/** A path without the words that say image or mask: equal for an image and its mask. */
export function sharedKey(path: string): string {
  const parts = path
    .replace(NIFTI, '')
    .split('/')
    .map((part) =>
      wordsOf(part)
        .filter((word) => !isRoleWord(word))
        .join(' '),
    );
  return parts.filter(Boolean).join('/');
}

/** Whether a folder's name says nothing but image or mask ("imagesTr", "Ground truth"), and no patient. */
export const isRoleFolder = (name: string): boolean => {
  const words = wordsOf(name);
  return words.length > 0 && words.every(isRoleWord);
};

/** sub-01_ses-2_T1w, patient001_frame12, P012_slice_034: several images of one patient. */
const PATIENT =
  /^(sub-[\p{L}\p{N}]+)(?:_.*)?$|^(.+?)[_-](?:frame|slice|z|ses|run|visit|time|timepoint)[_-]?\p{N}+(?:[_-].*)?$/u;

/** The patient that an id tells of, the id itself where it tells none: all images of a patient stay on one side of a split. */
export function patientOf(id: string): string {
  const match = PATIENT.exec(id);
  return match?.[1] ?? match?.[2] ?? id;
}
