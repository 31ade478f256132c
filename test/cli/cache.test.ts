/** macl cache: sizes that people write, and what the command prints and removes. */
import { mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { command, parseBytes } from '../../src/cli/commands/cache.js';
import type { CommandContext } from '../../src/cli/context.js';
import { testFolder } from '../data/make-nifti.js';

const folder = testFolder();

it.each([
  ['0', 0],
  ['1500', 1500],
  ['500MB', 5e8],
  ['2GiB', 2 ** 31],
  ['1.5 T', 1.5e12],
  ['10k', 10_000],
] as const)('%s is %d bytes', (text, bytes) => expect(parseBytes(text)).toBe(bytes));

it.each(['', 'all', '-1', '1e3', '5 XB', 'GiB'])('%j is a wrong flag', (text) =>
  expect(() => parseBytes(text)).toThrow(expect.objectContaining({ code: 'usage' })),
);

it('lists by kind, trims to a size, and prints one JSON document', async () => {
  const cache = join(folder, 'cache');
  mkdirSync(cache);
  for (const [n, kind] of ['image', 'image', 'label'].entries()) {
    const path = join(cache, `c${n}.${kind}.${String(n).padStart(32, '0')}.safetensors`);
    writeFileSync(path, Buffer.alloc(2_000_000));
    utimesSync(path, 86400 * (n + 1), 86400 * (n + 1));
  }
  const said: string[] = [];
  const printed: string[] = [];
  const context: CommandContext = {
    signal: new AbortController().signal,
    print: (text) => void printed.push(text),
    say: (text) => void said.push(text),
    interactive: false,
  };
  await command.run({ cache }, context);
  expect(printed.join('\n')).toMatch(/image +2 +4\.0 MB +1970-01-02\nlabel +1 +2\.0 MB +1970-01-04\nall +3 +6\.0 MB/);
  await command.run({ cache, limit: '5MB' }, context);
  expect(said).toEqual(['removed 1 entries, 2.0 MB']);
  expect(readdirSync(cache)).toHaveLength(2);
  printed.length = 0;
  await command.run({ cache, json: true }, context);
  expect(JSON.parse(printed.join(''))).toMatchObject({ folder: cache, bytes: 4_000_000, removed: [] });
});
