/**
 * A table of cases (CSV with commas, semicolons or tabs): columns image (or image_T1, image_T2 …: a channel each), label,
 * id, patient, split. Paths are relative to the table. Node only.
 */
import { basename, dirname, isAbsolute, relative } from 'node:path';
import { fileError, MaclError } from '../../errors.js';
import { readTextFile } from '../files.js';
import { isInside } from '../paths.js';
import { type DatasetFolder, exists } from './folder.js';
import { composed, counted, patientOf, shownNames } from './names.js';
import { nameCases } from './pairing.js';
import { type CaseRole, type Layout, type ListedCase, type Listing } from './types.js';

export const TABLE = /\.(csv|tsv)$/i;

/** Column names, and others that they go by. */
const COLUMNS: Readonly<Record<'label' | 'id' | 'patient' | 'split', RegExp>> = {
  label: /^(label|labels|mask|seg|segmentation)$/,
  id: /^(id|case|case_id|name)$/,
  patient: /^(patient|patient_id|subject|subject_id|group)$/,
  split: /^(split|role|set|subset)$/,
};
const IMAGE = /^(?:image|images|img|channel)(?:[ _:.-]?(.+))?$/;

const ROLES: Readonly<Record<string, CaseRole | 'test'>> = {
  train: 'training',
  training: 'training',
  '': 'training',
  val: 'validation',
  valid: 'validation',
  validation: 'validation',
  test: 'test',
  testing: 'test',
};

/** Rows of a CSV as RFC 4180 has them: quotes may hold separators, line ends and doubled quotes. */
export function parseTable(text: string, file: string): string[][] {
  const body = text.replace(/^\ufeff/, '');
  const firstLine = body.slice(0, body.search(/[\r\n]|$/));
  const separator = ['\t', ';', ','].find((one) => firstLine.includes(one)) ?? ',';
  const rows: string[][] = [];
  let row: string[] = [];
  let at = 0;
  while (at < body.length) {
    let cell = '';
    if (body[at] === '"') {
      for (at++; ; at++) {
        if (at >= body.length) throw fileError(file, `line ${rows.length + 1}`, 'a quote is not closed');
        if (body[at] !== '"') cell += body[at];
        else if (body[at + 1] === '"') cell += body[at++];
        else break;
      }
      at++;
    }
    const start = at;
    while (at < body.length && body[at] !== separator && body[at] !== '\n' && body[at] !== '\r') at++;
    row.push((cell + body.slice(start, at)).trim());
    if (at < body.length && body[at] === separator) {
      at++;
      if (at === body.length) row.push('');
      if (at < body.length) continue;
    }
    if (body[at] === '\r' && body[at + 1] === '\n') at++;
    at++;
    if (row.some((one) => one !== '') && !row[0]!.startsWith('#')) rows.push(row);
    row = [];
  }
  return rows;
}

export const table: Layout = {
  recognise: (folder) => Promise.resolve(folder.file !== undefined),
  async list(folder) {
    const file = folder.file!;
    return new TableReader(folder, file, parseTable(await readTextFile(file), file)).read();
  },
};

class TableReader {
  private readonly columns = new Map<keyof typeof COLUMNS, number>();
  private readonly images: { at: number; name: string | undefined }[] = [];

  constructor(
    private readonly folder: DatasetFolder,
    private readonly file: string,
    private readonly rows: string[][],
  ) {}

  async read(): Promise<Listing> {
    const [header, ...rows] = this.rows;
    this.readHeader(header ?? []);
    const cases: ListedCase[] = [];
    const tests: Listing['tests'] = [];
    const read = [];
    for (const [n, row] of rows.entries()) read.push(await this.row(row, n + 2, header!.length));
    if (!read.length) throw fileError(this.file, 'rows', 'names no case');
    // By default a case is called as its place in the folder is.
    const named = nameCases(read.map(({ images }) => this.folder.shown(images[0]!)));
    const seen = new Map<string, string>();
    for (const [n, { role, id, patient, ...found }] of read.entries()) {
      const caseName = id ?? named[n]!.id;
      const { field } = found;
      const other = seen.get(caseName);
      if (other !== undefined) {
        const words = `${this.file}: ${field}: case ${caseName} is there twice: ${other} and ${field}`;
        throw new MaclError('dataset', words, { file: this.file, field, expected: other, found: field });
      }
      seen.set(caseName, field);
      if (role === 'test') tests.push(...found.images.map((path) => ({ path, field })));
      else {
        const group = patient ?? (id === undefined ? named[n]!.group : patientOf(id));
        cases.push({ ...found, id: caseName, group, role });
      }
    }
    if (tests.length)
      this.folder.notes.push(
        `${counted(new Set(tests.map(({ field }) => field)).size, 'case')} for testing, never trained on`,
      );
    const names = this.images.map(({ name }) => name);
    return {
      layout: 'table',
      source: this.file,
      name: basename(this.file).replace(TABLE, ''),
      cases,
      tests,
      ...(names.length > 1 || names[0] !== undefined
        ? { channelNames: names.map((name, n) => name ?? `channel ${n}`) }
        : {}),
      classes: [],
    };
  }

  private readHeader(header: readonly string[]): void {
    const ignored: string[] = [];
    for (const [at, title] of header.entries()) {
      const name = title.toLowerCase();
      const image = IMAGE.exec(name);
      const column = (Object.keys(COLUMNS) as (keyof typeof COLUMNS)[]).find((key) => COLUMNS[key].test(name));
      if (column && this.columns.has(column)) throw fileError(this.file, title, `a second column for ${column}`);
      if (column) this.columns.set(column, at);
      else if (image)
        this.images.push({ at, name: image[1] === undefined ? undefined : title.slice(-image[1].length) });
      else ignored.push(title);
    }
    if (!this.images.length)
      throw fileError(
        this.file,
        'header',
        `expected a column image (and label, id, patient, split), found ${header.join(', ') || 'nothing'}`,
      );
    if (ignored.length)
      this.folder.notes.push(`${basename(this.file)}: columns that are not used: ${shownNames(ignored)}`);
  }

  private async row(row: readonly string[], line: number, width: number) {
    const field = `row ${line}`;
    const fail = (what: string): MaclError =>
      new MaclError('dataset', `${this.file}: ${field}: ${what}`, { file: this.file, field });
    if (row.length > width) throw fail(`${row.length} cells, the header has ${width}`);
    const cell = (key: keyof typeof COLUMNS): string | undefined => row[this.columns.get(key) ?? -1] || undefined;
    const images: string[] = [];
    const missing: string[] = [];
    for (const { at, name } of this.images) {
      const named = row[at];
      if (!named) throw fail(`${name === undefined ? 'image' : `image ${name}`} is empty`);
      const { path, there } = await this.path(named, field);
      images.push(path);
      if (!there) missing.push(path);
    }
    const split = cell('split')?.toLowerCase() ?? '';
    const role = Object.hasOwn(ROLES, split) ? ROLES[split]! : undefined;
    if (role === undefined) throw fail(`split: expected train, val or test, found ${split}`);
    const label = cell('label');
    const found = label === undefined ? undefined : await this.path(label, field);
    const id = cell('id');
    if (id !== undefined && (/[/\\\0]/.test(id) || id.startsWith('.')))
      throw fail(`id: ${JSON.stringify(id)} is no name of a case`);
    return {
      id: id === undefined ? undefined : composed(id),
      patient: cell('patient'),
      role,
      images,
      missing,
      field,
      ...(found && (found.there ? { label: found.path } : { missingLabel: found.path })),
    };
  }

  /** A path of the table: relative to it, or an absolute one below its folder. */
  private async path(named: string, field: string): Promise<{ path: string; there: boolean }> {
    const root = dirname(this.file);
    const within = isAbsolute(named) && isInside(root, named) ? relative(root, named) : named.replaceAll('\\', '/');
    const path = await this.folder.inside(within, this.file, field);
    const located = await this.folder.locate(path);
    return { path: located ?? path, there: located !== undefined && (await exists(located)) };
  }
}
