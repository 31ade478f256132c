// npm run gpu:bundle: one folder, build/gpu-bundle, for a machine that has a card and its driver: the CUDA addon and the
// host's, the tests of operations, steps and the backend, benchmarks and the command line, each with all it needs, a Node
// binary packed with xz where xz is, and run.sh. Nothing is installed there.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { bundle } from './bundle.mjs';
import { root } from './stamp.mjs';

const TESTS = ['ops', 'optim', 'edges', 'warp3d', 'fused', 'step', 'threads'];
const folder = path.join('build', 'gpu-bundle');
const at = (...parts) => path.join(root, folder, ...parts);
const LIMIT_BYTES = 60 * 2 ** 20;

const addons = ['build/cuda/macl_cuda.node', 'build/cuda-host/macl_cuda_host.node', 'build/Release/macl.node'].filter(
  (f) => existsSync(path.join(root, f)),
);
if (!addons.includes('build/Release/macl.node') || addons.length < 2) {
  process.stderr.write('macl: the bundle needs the addon and a CUDA one: npm run build:addon, npm run build:cuda\n');
  process.exit(1);
}
// The packed Node is kept: packing it takes longer than everything else.
for (const name of existsSync(at()) ? readdirSync(at()) : [])
  if (name !== 'node.xz') rmSync(at(name), { recursive: true });
mkdirSync(at('test'), { recursive: true });

await bundle(
  {
    ...Object.fromEntries(TESTS.map((name) => [`${name}.test`, `test/golden/${name}.test.ts`])),
    'cuda.test': 'test/backend/cuda.test.ts',
    'step.bench': 'bench/step.bench.ts',
    run: 'scripts/gpu/run.mjs',
    macl: 'src/cli/main.ts',
  },
  path.join(folder, 'test', 'golden'),
  { alias: { vitest: path.join(root, 'scripts', 'gpu', 'vitest.mjs') }, noExternal: [/.*/], inlineOnly: false },
);
cpSync(path.join(root, 'test', 'fixtures'), at('test', 'fixtures'), { recursive: true });
for (const file of addons) {
  mkdirSync(path.dirname(at(file)), { recursive: true });
  cpSync(path.join(root, file), at(file));
  spawnSync('strip', ['--strip-unneeded', at(file)]);
}
// Where the package begins (src/paths.ts), and that its files are modules.
const { name, version, type } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
writeFileSync(at('package.json'), `${JSON.stringify({ name, version, type })}\n`);
cpSync(path.join(root, 'scripts', 'gpu', 'run.sh'), at('run.sh'));
chmodSync(at('run.sh'), 0o755);
try {
  writeFileSync(at('commit'), execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, encoding: 'utf8' }));
} catch {
  writeFileSync(at('commit'), 'unknown\n');
}
if (!existsSync(at('node.xz'))) {
  cpSync(process.execPath, at('node'));
  spawnSync('strip', [at('node')]);
  const packed = spawnSync('xz', ['-1', '-T0', '-c', at('node')], {
    stdio: ['ignore', openSync(at('node.xz'), 'w'), 'ignore'],
  });
  if (packed.status !== 0) rmSync(at('node.xz'), { force: true });
  rmSync(at('node'));
}

const bytes = readdirSync(at(), { recursive: true })
  .map((file) => statSync(at(file)))
  .reduce((sum, stat) => sum + (stat.isFile() ? stat.size : 0), 0);
process.stdout.write(`macl: ${folder}, ${(bytes / 2 ** 20).toFixed(1)} MiB: run.sh correctness | bench | macl\n`);
if (bytes > LIMIT_BYTES) {
  process.stderr.write(`macl: that is more than ${LIMIT_BYTES / 2 ** 20} MiB\n`);
  process.exitCode = 1;
}
