// The programs of examples/node: they type-check against the built package, are short, and run on a tiny dataset.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writeSyntheticDataset } from '../../src/data/synthetic-dataset.js';
import { packageRoot } from '../../src/paths.js';

const run = promisify(execFile);
const root = packageRoot();
const example = async (name: string, ...args: string[]): Promise<string> => {
  const { stdout } = await run(process.execPath, [path.join(root, 'examples', 'node', `${name}.mjs`), ...args], {
    cwd: root,
    // The cache stays in the test's own folder.
    env: { ...process.env, XDG_CACHE_HOME: path.join(folder, 'cache') },
  });
  return stdout;
};

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'macl-examples-test-'));
  await writeSyntheticDataset(path.join(folder, 'data'), { trainCases: 2, testCases: 1, seed: 1 });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it('type-check', async () => {
  const tsc = path.join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const { stdout } = await run(process.execPath, [tsc, '-p', path.join(root, 'examples', 'node')]).catch(
    (error: { stdout: string }) => error,
  );
  expect(stdout).toBe('');
});

it.each(['segment', 'train', 'evaluate'])('%s is short', (name) => {
  const lines = readFileSync(path.join(root, 'examples', 'node', `${name}.mjs`), 'utf8').split('\n');
  expect(lines.length).toBeLessThan(41);
});

it('train, then segment with the result; evaluate', async () => {
  const runs = path.join(folder, 'runs');
  const trained = await example('train', path.join(folder, 'data'), runs, '1');
  expect(trained).toContain('step 1/1');
  const model = path.join(runs, 'finetune', 'model.safetensors');
  expect(trained).toContain(model);
  // Goes on with finished runs, which changes nothing.
  expect(await example('train', path.join(folder, 'data'), runs, '1')).toContain(model);

  const counts = (await example('segment', model)).trim().split('\n');
  expect(counts.map((line) => line.split(':')[0])).toEqual(['0 background', '1 organ', '2 core', '3 duct']);
  expect(counts.reduce((sum, line) => sum + Number(/(\d+) voxels/.exec(line)![1]), 0)).toBe(40 * 48 * 48);

  // Labels against themselves are all right.
  const labels = path.join(folder, 'data', 'labelsTr');
  const metrics = await example('evaluate', labels, labels, labels);
  expect(metrics).toContain('mean Dice 1.000');
  expect(metrics).toContain('difference with --against');
  expect(metrics).toContain('in memory: Dice 0.857');
});
