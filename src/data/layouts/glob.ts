/**
 * Patterns of paths: * and ? within a name, ** over folders, [a-c], {ct,mr}. A pattern without a folder fits at any
 * depth. What the wildcards stood for is kept: an image and its mask are paired by it. No files.
 */
import { MaclError } from '../../errors.js';
import { composed } from './names.js';

/** What each wildcard stood for, or undefined where the path does not fit. */
export type Match = (path: string) => string[] | undefined;

const LETTERS = /[.+^$()|\\/]/;

/** Throws MaclError `config` naming the flag. */
export function compileGlob(pattern: string, flag: string): Match {
  const fail = (why: string): MaclError =>
    new MaclError('config', `${flag} ${pattern}: ${why}`, { field: flag, found: pattern });
  const text = composed(pattern.replaceAll('\\', '/').replace(/^\.\//, ''));
  if (text === '') throw fail('is empty');
  if (text.startsWith('/') || text.split('/').includes('..'))
    throw fail('expected a pattern of paths within the dataset, such as */ct.nii.gz');
  const source = text.includes('/') ? text : `**/${text}`;
  let regex = '';
  let braces = 0;
  for (let at = 0; at < source.length; at++) {
    const c = source[at]!;
    if (source.startsWith('**/', at)) {
      regex += '((?:[^/]+/)*)';
      at += 2;
    } else if (source.startsWith('**', at)) {
      regex += '(.*)';
      at += 1;
    } else if (c === '*') regex += '([^/]*)';
    else if (c === '?') regex += '([^/])';
    else if (c === '[') {
      const end = source.indexOf(']', at + 2);
      if (end < 0) throw fail('[ is not closed');
      const set = source
        .slice(at + 1, end)
        .replace(/^!/, '^')
        .replaceAll('\\', '\\\\');
      regex += `([${set}])`;
      at = end;
    } else if (c === '{') {
      braces++;
      regex += '(?:';
    } else if (c === '}' && braces > 0) {
      braces--;
      regex += ')';
    } else if (c === ',' && braces > 0) regex += '|';
    else regex += LETTERS.test(c) || '{}[]'.includes(c) ? `\\${c}` : c;
  }
  if (braces > 0) throw fail('{ is not closed');
  let compiled: RegExp;
  try {
    compiled = new RegExp(`^${regex}$`, 'iu');
  } catch {
    throw fail('is no pattern');
  }
  return (path) =>
    compiled
      .exec(composed(path))
      ?.slice(1)
      .map((part) => part ?? '');
}
