// npm run fuzz [-- NAME … --minutes N --from NUMBER --count N]: the fuzzers of fuzz/ over src as it is now, then those of
// native/fuzz under AddressSanitizer and UndefinedBehaviorSanitizer where g++ is. Node 20 does not run TypeScript, so the
// former are bundled into dist-bench. What is printed last names executions and findings; a finding sets the exit code.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { bundle } from './bundle.mjs';
import { root } from './stamp.mjs';

const args = process.argv.slice(2);
const native = readdirSync(path.join(root, 'native/fuzz')).map((file) => path.basename(file, '.cc'));
const names = args.filter((arg, i) => !arg.startsWith('--') && !args[i - 1]?.startsWith('--'));
const nativeAsked = names.length > 0 ? native.filter((name) => names.includes(name)) : native;
const scripted = args.filter((arg) => !native.includes(arg));

if (names.length === 0 || names.some((name) => !native.includes(name))) {
  await bundle({ fuzz: 'fuzz/main.ts' }, 'dist-bench');
  run(process.execPath, ['dist-bench/fuzz.js', ...scripted]);
}

for (const name of nativeAsked) {
  const program = buildNative(name);
  if (program === null) process.stdout.write(`${name}: skipped, no g++ with sanitizers here\n`);
  else run(program, [option('--minutes', '1'), option('--from', '0'), option('--count', '0')]);
}

function run(program, programArgs) {
  const { status } = spawnSync(program, programArgs, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exitCode = 1;
}

function option(flag, otherwise) {
  const at = args.indexOf(flag);
  return at < 0 ? otherwise : args[at + 1];
}

/** The plain and float64 kernels, the engine, and one fuzzer, with sanitizers that end the program at the first fault. */
function buildNative(name) {
  const out = path.join(root, 'build-fuzz');
  mkdirSync(out, { recursive: true });
  const flags = ['-std=c++20', '-O1', '-g', '-fno-omit-frame-pointer', '-Wno-psabi', '-Inative'];
  flags.push('-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-fno-sanitize=float-divide-by-zero');
  const sources = ['program', 'walk'].map((file) => [`native/engine/${file}.cc`, file, []]);
  for (const isa of ['baseline', 'ref64'])
    sources.push(['native/kernels/table.cc', isa, [`-DMACL_ISA=${isa}`, `-DMACL_ISA_${isa.toUpperCase()}`]]);
  sources.push([`native/fuzz/${name}.cc`, name, []]);
  const objects = [];
  for (const [source, stem, more] of sources) {
    const object = path.join(out, `${stem}.o`);
    const made = spawnSync('g++', [...flags, ...more, '-c', source, '-o', object], { cwd: root, stdio: 'inherit' });
    if (made.error || made.status !== 0 || !existsSync(object)) return null;
    objects.push(object);
  }
  const program = path.join(out, name);
  const linked = spawnSync('g++', [...flags, ...objects, '-lpthread', '-o', program], { cwd: root, stdio: 'inherit' });
  return linked.status === 0 ? program : null;
}
