/** `npm run fuzz`: every target (or those named) for its share of the time; findings are printed and set the exit code. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fuzz } from './target.js';
import { TARGETS } from './targets.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: 'string', default: '1' },
    from: { type: 'string' },
    count: { type: 'string' },
  },
});
const unknown = positionals.filter((name) => !TARGETS.some((t) => t.name === name));
if (unknown.length > 0) {
  process.stderr.write(`no fuzzer ${unknown.join(', ')}; there are ${TARGETS.map((t) => t.name).join(', ')}\n`);
  process.exit(2);
}
const targets = positionals.length > 0 ? TARGETS.filter((t) => positionals.includes(t.name)) : TARGETS;
const minutes = Number(values.minutes);
// Without --from each run goes over other numbers; the first one is printed, so that all of it can be repeated.
const from = values.from === undefined ? ((Date.now() / 1000) % 1e9) | 0 : Number(values.from);
const count = values.count === undefined ? Infinity : Number(values.count);
if (!(minutes > 0) || !Number.isInteger(from) || !(count > 0)) {
  process.stderr.write('--minutes and --count are positive numbers, --from is a whole one\n');
  process.exit(2);
}
for (const target of targets) {
  const folder = mkdtempSync(join(tmpdir(), `macl-fuzz-${target.name}-`));
  const until = Date.now() + (minutes * 60_000) / targets.length;
  let shown = 0;
  const { accepted, refused, findings } = await fuzz(target, folder, {
    from,
    count,
    until,
    onFinding(number, error) {
      if (++shown > 5) return;
      const words = error instanceof Error ? (error.stack ?? error.message) : String(error);
      process.stdout.write(`${target.name} ${number}: ${words}\n`);
    },
  });
  rmSync(folder, { recursive: true, force: true });
  const total = accepted + refused + findings.length;
  process.stdout.write(
    `${target.name}: ${total} executions from ${from}, ${accepted} accepted, ${refused} refused, ${findings.length} findings\n`,
  );
  if (findings.length > 0) process.exitCode = 1;
}
