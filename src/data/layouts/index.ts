/** The layouts, in the order in which they are tried: what was said first, then what files at the root say. */
import { globs } from './globs.js';
import { patients } from './patients.js';
import { raw } from './raw.js';
import { table } from './table.js';
import { type Layout } from './types.js';

export const LAYOUTS: readonly Layout[] = [table, globs, raw, patients];
