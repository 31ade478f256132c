/**
 * Numbers stay: runs of fixed seeds give the bits that they gave at commit 55be0bf, by compiler and instruction set, and a
 * run that was stopped then goes on to the same bits. A compiler without hashes here is a skip that is counted: make them
 * with MACL_BITS=print, at a commit whose bits are known to be good.
 */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadAddon } from '../../src/backend/addon.js';
import { readNifti } from '../../src/data/nifti/index.js';
import { finetune, predict, pretrain } from '../../src/index.js';
import { packageRoot } from '../../src/paths.js';
import { listen, scratchFolder, tinyFinetune, tinyPretrain, toyDataset } from '../train/toy.js';
import { bitsOf, hashOfModel, type Hashes, type Machine } from './runs.js';

const here = import.meta.dirname;
const known = JSON.parse(readFileSync(join(here, 'hashes.json'), 'utf8')) as Record<string, Record<string, Hashes>>;

/** Name and first number of a compiler's version: later numbers change no arithmetic. */
function compilerOf(machine: Machine): string {
  if (machine.device === 'wasm') {
    const file = join(packageRoot(), 'node_modules/@yowasp/clang/package.json');
    const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
    return `clang ${version.split('.')[0]}`;
  }
  const addon = loadAddon();
  if (typeof addon === 'string') return 'no addon';
  const { compiler } = addon.describe();
  const [, clang] = /clang (\d+)/i.exec(compiler) ?? [];
  return clang === undefined ? `gcc ${compiler.split('.')[0]}` : `clang ${clang}`;
}

const MACHINES: readonly (Machine & { readonly isa: string })[] = [
  ...(['avx512bf16', 'avx512', 'avx2', 'baseline', 'plain'] as const).map((isa) => ({ device: 'cpu', isa }) as const),
  { device: 'wasm', isa: 'simd128' },
  { device: 'reference', isa: 'ref64' },
];

function isHere({ device, isa }: Machine): boolean {
  const addon = loadAddon();
  if (device === 'wasm') return true;
  return typeof addon !== 'string' && addon.describe().tables.some((t) => t.isa === isa && t.supported);
}

const root = scratchFolder();
let data: string;
beforeAll(async () => {
  data = await toyDataset(join(root, 'data'));
});

describe.each(MACHINES)('$device $isa', (machine) => {
  const compiler = compilerOf(machine);
  // In fp32 there is no difference.
  const isa = machine.isa === 'avx512bf16' ? 'avx512' : machine.isa;
  const expected = known[compiler]?.[`${machine.device} ${isa}`];
  const run = isHere(machine) && (expected || process.env.MACL_BITS === 'print') ? it : it.skip;
  run(`gives the bits of before (${compiler})`, async () => {
    const folder = join(root, `${machine.device}-${machine.isa}`);
    mkdirSync(folder);
    const { device, isa } = machine;
    const found = await bitsOf(device === 'reference' ? { device } : { device, isa }, data, folder);
    if (process.env.MACL_BITS === 'print')
      process.stdout.write(`${compiler} ${device} ${isa} ${JSON.stringify(found)}\n`);
    if (expected) expect(found).toEqual(expected);
  });
});

/** The instruction set that the stopped runs of before were computed with. */
const BEGAN = { device: 'cpu', isa: 'baseline' } as const;

describe('what was written before', () => {
  const run = isHere(BEGAN) && compilerOf(BEGAN) === 'gcc 12' ? it : it.skip;

  /** The folder of a run that was stopped after step 6 of 12, as if it had always been here. */
  function stopped(name: string): string {
    const out = join(root, `before-${name}`);
    cpSync(join(here, 'before', name), out, { recursive: true });
    const file = join(out, 'config.json');
    writeFileSync(file, readFileSync(file, 'utf8').replace('"DATA"', JSON.stringify(data)));
    return out;
  }

  const cacheDir = join(root, 'cache');
  const train = {
    pretrain: (out: string, how: object) =>
      pretrain({ data, out, cacheDir, ...BEGAN, config: tinyPretrain({ train: { arithmetic: 'direct' } }), ...how }),
    finetune: (out: string, how: object) => {
      const cases = { labels: 'toy_1,toy_2,toy_3,toy_4', val: 'toy_2,toy_3' };
      return finetune({
        data,
        out,
        cacheDir,
        ...BEGAN,
        ...cases,
        config: tinyFinetune({ train: { valEvery: 4, arithmetic: 'direct' } }),
        ...how,
      });
    },
  };

  run.each(['pretrain', 'finetune'] as const)(
    'a stopped %s goes on to the bits of a run without a stop',
    async (task) => {
      const out = stopped(task);
      const { onEvent, events, messages } = listen();
      await train[task](out, { resume: true, onEvent });
      expect(events.find((e) => e.kind === 'step')).toMatchObject({ step: 7 });
      expect([...messages('warning')].filter((m) => !/BatchNorm/.test(m))).toEqual([]);
      await train[task](join(root, `whole-${task}`), {});
      expect(hashOfModel(out)).toBe(hashOfModel(join(root, `whole-${task}`)));
    },
  );

  run('a model segments as it did', async () => {
    const out = join(root, 'as-before.nii.gz');
    const input = join(data, 'imagesTr', 'toy_1.nii.gz');
    await predict({ model: join(here, 'before', 'model.safetensors'), input, out, arithmetic: 'direct', ...BEGAN });
    const [now, then] = await Promise.all([readNifti(out), readNifti(join(here, 'before', 'predicted.nii.gz'))]);
    expect(now.voxels).toEqual(then.voxels);
    expect(new Set(now.voxels as unknown as number[]).size).toBeGreaterThan(1);
  });
});
