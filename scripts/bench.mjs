// npm run bench [-- NAME … [options]]: runs bench/NAME.bench.ts (without a name all but those that compare with something
// else). Node 20 does not run TypeScript, so they are bundled into dist-bench first, from src as it is now.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { bundle } from './bundle.mjs';
import { root } from './stamp.mjs';

const all = readdirSync(path.join(root, 'bench'))
  .filter((file) => file.endsWith('.bench.ts'))
  .map((file) => file.replace(/\.bench\.ts$/, ''))
  .sort();
const args = process.argv.slice(2);
const firstOption = args.findIndex((arg) => arg.startsWith('-'));
const asked = firstOption < 0 ? args : args.slice(0, firstOption);
const options = firstOption < 0 ? [] : args.slice(firstOption);
const unknown = asked.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  process.stderr.write(`macl: no benchmark ${unknown.join(', ')}; there are: ${all.join(', ') || 'none'}\n`);
  process.exit(2);
}
/** What wants something beside this checkout, and has options of its own: run when it is named. */
const ALONE = ['against', 'loop', 'peers'];
const names = asked.length > 0 ? asked : all.filter((name) => !ALONE.includes(name));

await bundle(Object.fromEntries(names.map((name) => [name, `bench/${name}.bench.ts`])), 'dist-bench', { clean: true });
for (const name of names) {
  const { status, signal } = spawnSync(process.execPath, [path.join('dist-bench', `${name}.js`), ...options], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) {
    process.stderr.write(`macl: benchmark ${name} ended with ${signal ?? status}\n`);
    process.exitCode = 1;
  }
}
