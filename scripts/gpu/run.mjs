// Runs test files of the bundle one after the other: node run.mjs FILE…; writes $OUT/tests.json, prints what failed and
// `N passed, N failed, N skipped`. A file that has run with MACL_RESUME=1 in $OUT/tests.json is not run again.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { takeSuite } from 'vitest';

const LIMIT_MS = 120_000;
const out = path.join(process.env.OUT ?? '.', 'tests.json');
const old = process.env.MACL_RESUME && existsSync(out) ? JSON.parse(readFileSync(out, 'utf8')) : {};
const results = { ...old };

class Skipped extends Error {}
const context = {
  skip: (reason) => {
    throw new Skipped(reason);
  },
};
const within = (work, what) =>
  new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`${what}: not done after ${LIMIT_MS} ms`)), LIMIT_MS);
    Promise.resolve()
      .then(work)
      .then(resolve, reject)
      .finally(() => clearTimeout(late));
  });

async function runSuite(suite, names, skipped, hooks, into) {
  const off = skipped || suite.skipped;
  const after = [...hooks, ...suite.eachAfter];
  const wants = (s) => s.items.some((i) => (i.suite ? !i.suite.skipped && wants(i.suite) : !i.skipped));
  const begun = !off && wants(suite);
  if (begun) for (const hook of suite.before) await within(hook, 'beforeAll');
  for (const item of suite.items) {
    if (item.suite) {
      await runSuite(item.suite, [...names, item.suite.title], off, after, into);
      continue;
    }
    const name = [...names, item.title].filter(Boolean).join(' > ');
    const start = performance.now();
    let state = 'skipped';
    let error = '';
    if (!off && !item.skipped) {
      try {
        await within(() => item.body(context), name);
        state = 'passed';
      } catch (e) {
        if (!(e instanceof Skipped)) {
          state = 'failed';
          error = String(e?.stack ?? e);
          process.stdout.write(`FAILED ${name}\n${error}\n`);
        }
      }
      for (const hook of after) await within(hook, 'afterEach');
    }
    into.push({ name, state, ms: Math.round(performance.now() - start), ...(error ? { error } : {}) });
  }
  if (begun) for (const hook of suite.after) await within(hook, 'afterAll');
}

for (const file of process.argv.slice(2)) {
  if (results[file]) continue;
  const tests = [];
  const start = Date.now();
  try {
    await import(pathToFileURL(path.resolve(file)).href);
    await runSuite(takeSuite(), [], false, [], tests);
  } catch (e) {
    tests.push({ name: file, state: 'failed', ms: 0, error: String(e?.stack ?? e) });
    process.stdout.write(`FAILED ${file}\n${e?.stack ?? e}\n`);
  }
  results[file] = tests;
  writeFileSync(out, `${JSON.stringify(results, null, 1)}\n`);
  const of = (state) => tests.filter((t) => t.state === state).length;
  const seconds = ((Date.now() - start) / 1000).toFixed(1);
  process.stdout.write(
    `${file}: ${of('passed')} passed, ${of('failed')} failed, ${of('skipped')} skipped in ${seconds} s\n`,
  );
}
const all = Object.values(results).flat();
const count = (state) => all.filter((t) => t.state === state).length;
process.stdout.write(`${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped\n`);
process.exit(count('failed') > 0 || count('passed') === 0 ? 1 : 0);
