/** macl cache: what lies in the folder of prepared cases, and how it is made smaller. */
import { printJson } from '../context.js';
import { text, toggle, usage } from '../flags.js';
import { isSet, word, type Command } from './types.js';

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  ki: 2 ** 10,
  m: 1e6,
  mi: 2 ** 20,
  g: 1e9,
  gi: 2 ** 30,
  t: 1e12,
  ti: 2 ** 40,
};

/** Bytes of 500MB, 2GiB, 1.5T, 0. */
export function parseBytes(given: string): number {
  const found = /^(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?$/i.exec(given.trim());
  const unit = UNITS[found?.[2]?.toLowerCase() ?? '?'];
  if (!found || unit === undefined) throw usage(`--limit: expected a size such as 500MB or 20GiB, found ${given}`);
  return Math.round(Number(found[1]) * unit);
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

export const command: Command = {
  name: 'cache',
  describe: 'list the prepared cases that are kept, or trim them',
  flags: {
    cache: text('cache', 'the folder of prepared cases'),
    limit: text('limit', 'remove the longest unused until no more than this is left: 20GiB; 0: all'),
    json: toggle('print one JSON document'),
  },
  async run(flags, context) {
    const { defaultCacheDir, listCache, trimCache } = await import('../../data/cache.js');
    const folder = word(flags, 'cache') ?? defaultCacheDir();
    const limit = word(flags, 'limit');
    const removed = limit === undefined ? [] : await trimCache(folder, parseBytes(limit));
    const files = await listCache(folder);
    const sum = (list: readonly { bytes: number }[]): number => list.reduce((all, { bytes }) => all + bytes, 0);
    const bytes = sum(files);
    if (isSet(flags, 'json'))
      return printJson(context, { folder, bytes, entries: files, removed: removed.map(({ path }) => path) });
    const { alignColumns } = await import('../../segment/evaluate-table.js');
    const rows = (['fingerprint', 'image', 'label'] as const).map((kind) => {
      const own = files.filter((file) => file.kind === kind);
      return [kind, String(own.length), megabytes(sum(own)), own[0]?.used.toISOString().slice(0, 10) ?? '-'];
    });
    if (removed.length) context.say(`removed ${removed.length} entries, ${megabytes(sum(removed))}`);
    context.print(folder);
    context.print(
      alignColumns([
        ['kind', 'entries', 'size', 'longest unused since'],
        ...rows,
        ['all', String(files.length), megabytes(bytes), ''],
      ]),
    );
  },
};
