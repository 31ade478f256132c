/** What a layout is: a way of laying a dataset out on disk that is recognised by names, and the cases that it yields. */
import { type DatasetClass } from './dataset-json.js';
import { type DatasetFolder } from './folder.js';

export type LayoutName = 'msd' | 'nnunet' | 'folder' | 'patients' | 'globs' | 'table';

/**
 * What a case is for. `training` and `validation` as a list says, or `training` where there is no list; `unlisted`: there
 * is a list, and the case is not on it. Cases of a test are no cases of a dataset: they are in nothing that is trained.
 */
export type CaseRole = 'training' | 'validation' | 'unlisted';

export interface ListedCase {
  id: string;
  role: CaseRole;
  /** Cases of one patient have one group: a split never parts them. */
  group: string;
  /** One file a channel (nnU-Net), or one file with all channels. Absolute paths. */
  images: string[];
  label?: string;
  /** Image files that should be there and are not. */
  missing: string[];
  /** A label file that a list names and that is not there. */
  missingLabel?: string;
  /** Where a list names the case, for errors. */
  field?: string;
}

/** What a layout finds. Whose file has two roles is for `identity.ts` to say. */
export interface Listing {
  layout: LayoutName;
  /** Who names the cases, for errors: dataset.json, a table, the folder. */
  source: string;
  name?: string;
  cases: ListedCase[];
  /** Volumes that are for testing: what is trained may not be one of them. `field` where a list names it. */
  tests: { path: string; field?: string }[];
  /** As the dataset names its channels; undefined where nothing does. */
  channelNames?: string[];
  classes: DatasetClass[];
  ignoreValue?: number;
}

export interface LayoutOptions {
  /** One pattern a channel. */
  imageGlobs?: readonly string[];
  labelGlob?: string;
  signal?: AbortSignal;
}

export interface Layout {
  /** Whether the folder (or file) is laid out so. Looks at names only. */
  recognise(folder: DatasetFolder, options: LayoutOptions): Promise<boolean>;
  /** Its cases. Throws MaclError `dataset` or `file`; missing files are noted in the cases, for `prepare`. */
  list(folder: DatasetFolder, options: LayoutOptions): Promise<Listing>;
}
