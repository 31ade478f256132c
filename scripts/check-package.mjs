// The tarball as npm would publish it, held against publint and attw (types for ESM and CommonJS), and its list of files
// looked through. Builds nothing itself: npm runs `prepare`, which is quick when dist is up to date.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { root } from './stamp.mjs';

const folder = mkdtempSync(path.join(os.tmpdir(), 'macl-package-'));
const run = (command, args) => {
  const made = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (made.status !== 0) {
    process.stderr.write(`${made.stdout}${made.stderr}`);
    throw new Error(`${path.basename(args[0] ?? command)} is not content`);
  }
  return made.stdout;
};
const bin = (name) => path.join(root, 'node_modules', '.bin', name);

try {
  const text = run('npm', ['pack', '--json', '--pack-destination', folder]);
  const [pack] = JSON.parse(text.slice(text.search(/^\[/m)));
  const names = pack.files.map((file) => file.path);
  const needed = ['dist/index.js', 'dist/index.cjs', 'dist/index.d.ts', 'dist/index.d.cts', 'dist/cli/main.js'];
  needed.push('dist/wasm/macl-simd.wasm', 'dist/wasm/macl-relaxed.wasm', 'binding.gyp', 'LICENSE', 'README.md');
  needed.push('native/kernels/table.cc', 'scripts/install.mjs', 'scripts/prepare.mjs', 'scripts/stamp.mjs');
  // Whatever README.md links to is there too.
  const linked = [
    ...readFileSync(path.join(root, 'README.md'), 'utf8').matchAll(/\]\(((?:docs|examples)\/[\w./-]+)\)/g),
  ];
  needed.push('docs/log.md', ...linked.map(([, name]) => name).filter((name) => name.endsWith('.md')));
  const missing = needed.filter((name) => !names.includes(name));
  if (missing.length > 0) throw new Error(`the tarball lacks ${missing.join(', ')}`);
  const odd = names.filter((name) => /^(test|src|build)\//.test(name) || /\.(safetensors|nii|gz|tgz)$/.test(name));
  if (odd.length > 0) throw new Error(`the tarball has no use for ${odd.slice(0, 5).join(', ')}`);
  const tarball = path.join(folder, pack.filename);
  run(bin('publint'), [tarball, '--strict']);
  run(bin('attw'), [tarball]);
  process.stdout.write(
    `macl: ${pack.filename}, ${names.length} files, ${Math.ceil(pack.size / 1024)} KiB: publint and attw are content\n`,
  );
} catch (error) {
  process.stderr.write(`macl: ${error.message}\n`);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
