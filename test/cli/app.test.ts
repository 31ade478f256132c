/** The command line in this process: flags, exit codes, where output goes. */
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Ajv } from 'ajv';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { COMMANDS, runApp } from '../../src/cli/app.js';
import { configOf } from '../../src/cli/config-flags.js';
import { writeSyntheticDataset } from '../../src/data/synthetic-dataset.js';

async function macl(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const { signal } = new AbortController();
  const context = { signal, print: (t: string) => out.push(t), say: (t: string) => err.push(t), interactive: false };
  const code = await runApp(args, context);
  return { code, out: out.join('\n'), err: err.join('\n') };
}

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'macl-cli-'));
});
const file = async (name: string, text: string): Promise<string> => {
  const at = path.join(folder, name);
  await writeFile(at, text);
  return at;
};

describe('help', () => {
  it('names every command, on stdout', async () => {
    const { code, out, err } = await macl('--help');
    expect(code).toBe(0);
    for (const name of [
      'quickstart',
      'inspect',
      'prepare',
      'pretrain',
      'finetune',
      'predict',
      'evaluate',
      'step',
      'cache',
      'config',
    ]) {
      expect(out).toContain(`macl ${name}`);
    }
    expect(err).toBe('');
  });
  it('of a command names its flags', async () => {
    const { out } = await macl('pretrain', '--help');
    const flags =
      'data out config preset dims device threads resume steps seed precision arithmetic batch patch checkpoint-every foreground';
    for (const flag of `${flags} slice-axis cache skip-bad follow-links method cases json`.split(' '))
      expect(out).toContain(`--${flag} `);
    expect(out).toMatch(/--val .*no validation/);
    expect((await macl('prepare', '--help')).out).toMatch(/--cache .*the same as --out/);
    const fine = (await macl('finetune', '-h')).out;
    for (const flag of ['init', 'labels', 'val']) expect(fine).toContain(`--${flag} `);
  });
  it('of every command ends with an example that reads as one; values have a kind, and what is taken without them', async () => {
    for (const { name } of COMMANDS) {
      const { out } = await macl(name, '--help');
      const example = /\nExample: macl (.*)$/.exec(out.trimEnd())?.[1];
      expect(example, name).toMatch(new RegExp(`^${name}\\b`));
      expect(out).not.toMatch(/\[string\]|\[boolean\]/);
    }
    const { out } = await macl('finetune', '--help');
    const flat = out.replace(/\s+/g, ' ');
    expect(flat).toContain('--steps training steps [whole number] [default: planned]');
    expect(flat).toMatch(/--patch size of a patch in voxels: D,H,W \[D,H,W\]/);
    expect(flat).toMatch(/--val [^[]*\[text\] \[default: none below 40 labelled cases, a fifth from there on\]/);
    expect((await macl('pretrain', '--help')).out.replace(/\s+/g, ' ')).toMatch(
      /--val [^[]*\[text\] \[default: none\]/,
    );
  });
  it('prints the version', async () => {
    const { version } = JSON.parse(
      await readFile(path.join(import.meta.dirname, '..', '..', 'package.json'), 'utf8'),
    ) as { version: string };
    expect((await macl('--version')).out).toBe(version);
  });
});

describe('flags that cannot be read: exit code 2', () => {
  const train = ['finetune', '--data', 'd', '--out', 'o'];
  const cases: [string, string[], RegExp][] = [
    ['no command', [], /expected a command/],
    ['an unknown command', ['fintune', '--data', 'd'], /Unknown command: fintune; did you mean finetune\?/],
    ['a command like no other', ['xyzzy'], /Unknown command: xyzzy( \(macl --help\))?$/],
    ['an unknown flag', [...train, '--epochs', '3'], /Unknown argument: epochs/],
    ['a flag with a slip', [...train, '--lables', '3'], /Unknown argument: lables; did you mean --labels\?/],
    [
      'a long flag with a slip',
      [...train, '--chekpoint-every', '3'],
      /: chekpoint-every; did you mean --checkpoint-every\?/,
    ],
    ['a word too many', [...train, 'more'], /Unknown (command|argument): more/],
    ['no value', [...train, '--steps'], /steps/],
    ['not a number', [...train, '--steps', 'many'], /--steps: expected a number, found many/],
    ['NaN', [...train, '--foreground', 'NaN'], /--foreground: expected a number, found NaN/],
    ['infinity', [...train, '--foreground', '1e999'], /--foreground: expected a number/],
    ['half a step', [...train, '--steps', '1.5'], /--steps: expected a whole number, found 1.5/],
    ['a negative count', [...train, '--batch', '-2'], /--batch: expected a whole number, found -2/],
    [
      'another arithmetic',
      [...train, '--arithmetic', 'quick'],
      /--arithmetic: expected direct or precise or fast, found quick/,
    ],
    ['another precision', [...train, '--precision', 'fp16'], /--precision: expected fp32 or bf16 or auto, found fp16/],
    [
      'another device',
      [...train, '--device', 'tpu'],
      /--device: expected auto or cuda or cpu or wasm or reference, found tpu/,
    ],
    ['another preset', [...train, '--preset', 'paper'], /--preset: expected default or paper-2d or code-2d/],
    ['four dimensions', [...train, '--dims', '4'], /--dims: expected 2 or 3/],
    ['a patch of one number', [...train, '--patch', '32'], /--patch: expected D,H,W/],
    ['a patch of words', [...train, '--patch', 'a,b,c'], /--patch: expected D,H,W/],
    ['twice', [...train, '--seed', '1', '--seed', '2'], /--seed is given twice/],
    [
      'a flag of another command',
      ['evaluate', '--pred', 'p', '--labels', 'l', '--model', 'm'],
      /Unknown argument: model \(a flag of predict\)/,
    ],
    ['a missing flag', ['pretrain', '--out', 'o'], /Missing required argument: data/],
    [
      'a required flag with a slip',
      ['pretrain', '--dtaa', 'd', '--out=o'],
      /Unknown argument: dtaa; did you mean --data\?/,
    ],
    ['--set without a value', [...train, '--set', 'optimizer.lr'], /--set: expected KEY\.KEY=VALUE/],
    ['config and nothing', ['config'], /--schema/],
  ];
  it.each(cases)('%s', async (_name, args, message) => {
    const { code, out, err } = await macl(...args);
    expect(err).toMatch(message);
    expect(code).toBe(2);
    expect(out).toBe('');
    expect(err).not.toContain('    at ');
  });
  it('a precision that the device lacks', async () => {
    vi.stubEnv('MACL_ISA', 'plain');
    const { code, err } = await macl(...train, '--precision', 'bf16', '--device', 'wasm');
    vi.unstubAllEnvs();
    expect(err).toMatch(/--precision: expected fp32 on wasm with the instruction set plain, found bf16/);
    expect(code).toBe(2);
  });
});

describe('everything else that is wrong: exit code 1', () => {
  const train = ['pretrain', '--data', 'd', '--out', 'o'];
  it('an unknown key, with the file and the path', async () => {
    const config = await file('unknown.json', '{"task":"pretrain","optimizer":{"lrr":1}}');
    const { code, err } = await macl(...train, '--config', config);
    expect(code).toBe(1);
    expect(err).toContain(`${config}: optimizer.lrr: unknown key; did you mean lr?; known here: name, lr`);
  });
  it('NaN in a file, and __proto__', async () => {
    const nan = await file('nan.json', '{"task":"pretrain","optimizer":{"lr":NaN}}');
    expect(await macl(...train, '--config', nan)).toMatchObject({
      code: 1,
      err: expect.stringContaining(`${nan}: not JSON`) as string,
    });
    const proto = await file('proto.json', '{"task":"pretrain","__proto__":{"polluted":1}}');
    const { code, err } = await macl(...train, '--config', proto);
    expect(code).toBe(1);
    expect(err).toContain('__proto__: unknown key');
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });
  it('a configuration of the other task, a missing file', async () => {
    const config = await file('fine.json', '{"task":"finetune"}');
    expect(await macl(...train, '--config', config)).toMatchObject({
      code: 1,
      err: expect.stringContaining('task: expected pretrain') as string,
    });
    expect((await macl(...train, '--config', path.join(folder, 'absent.json'))).code).toBe(1);
  });
  it('a validation of pre-training, two folders for prepared cases', async () => {
    const { code, err } = await macl(...train, '--val', '0.2');
    expect([code, err]).toEqual([1, expect.stringContaining('--val 0.2: pre-training has no validation')]);
    const none = await macl(...train, '--val', 'none');
    expect(none.err).not.toContain('--val');
    const prepare = ['prepare', '--data', path.join(folder, 'absent'), '--cache', path.join(folder, 'c')];
    const both = await macl(...prepare, '--out', path.join(folder, 'o'));
    expect([both.code, both.err]).toEqual([1, expect.stringMatching(/--out .* and --cache .*give one/)]);
  });
  it('a value out of range', async () => {
    expect(await macl(...train, '--foreground', '1.5')).toMatchObject({
      code: 1,
      err: expect.stringContaining('data.foreground: expected at most 1') as string,
    });
    expect((await macl(...train, '--batch', '0')).code).toBe(1);
  });
  it('a dataset that is not there', async () => {
    const { code, err } = await macl(
      'finetune',
      '--data',
      path.join(folder, 'no-data'),
      '--out',
      path.join(folder, 'run'),
      '--device',
      'reference',
    );
    expect(code).toBe(1);
    expect(err).toContain('macl: error:');
    expect(err).not.toContain('internal error');
  });
});

describe('config', () => {
  it('--schema prints the published schema', async () => {
    const { code, out, err } = await macl('config', '--schema');
    expect([code, err]).toEqual([0, '']);
    const validate = new Ajv({ strict: true, allowUnionTypes: true }).compile(JSON.parse(out) as object);
    expect(validate({ task: 'pretrain', train: { steps: 3 } })).toBe(true);
    expect(validate({ task: 'pretrain', train: { stepps: 3 } })).toBe(false);
  });
  it('fills a file in, and says what a preset lacks', async () => {
    const at = await file('small.json', '{"task":"finetune","model":{"classes":3},"optimizer":{"lr":0.001}}');
    const { out } = await macl('config', '--config', at);
    expect(JSON.parse(out)).toMatchObject({ optimizer: { name: 'adam', lr: 0.001 }, loss: { name: 'ce+dice' } });
    const preset = await macl('config', '--preset', 'code-2d');
    expect(preset.err).toMatch(/still lacks: elastic/);
    expect(JSON.parse(preset.out)).toMatchObject({ optimizer: { schedule: 'cosine-floor' } });
  });
});

describe('flags into a configuration', () => {
  it('lie above the file; --set reaches everything', async () => {
    const at = await file('base.json', '{"task":"pretrain","train":{"steps":9,"seed":4},"optimizer":{"lr":0.5}}');
    const input = await configOf(
      {
        config: at,
        steps: 3,
        batch: 6,
        patch: [16, 16, 16],
        dims: '3',
        set: ['optimizer.lr=0.25', 'optimizer.schedule=constant', 'loss.weights.er=0.1'],
      },
      'pretrain',
    );
    expect(input).toEqual({
      task: 'pretrain',
      model: { dims: 3 },
      data: { patch: [16, 16, 16] },
      train: { steps: 3, seed: 4, batch: 6 },
      optimizer: { lr: 0.25, schedule: 'constant' },
      loss: { weights: { er: 0.1 } },
    });
  });
  it('nothing given, nothing there', async () => {
    expect(await configOf({}, 'finetune')).toEqual({ task: 'finetune' });
  });
  it('--set cannot reach a prototype', async () => {
    for (const [set, message] of [
      ['constructor.prototype.x=1', /constructor/],
      ['loss.constructor.prototype.x=1', /loss\.constructor/],
      ['__proto__.x=1', /--set: expected KEY\.KEY=VALUE, found __proto__/],
      ['loss.__proto__.x=1', /--set: expected KEY\.KEY=VALUE, found loss\.__proto__/],
    ] as const)
      await expect(configOf({ set }, 'pretrain'), set).rejects.toThrow(message);
    expect(({} as Record<string, unknown>)['x']).toBeUndefined();
  });
});

it('a run that was stopped says the whole command that goes on with it', async () => {
  const controller = new AbortController();
  const data = path.join(folder, "a patient's data");
  await writeSyntheticDataset(data, { trainCases: 2, testCases: 0, seed: 1 });
  const said: string[] = [];
  const args = [
    'pretrain',
    '--data',
    data,
    '--out',
    path.join(folder, 'stopped'),
    '--cache',
    path.join(folder, 'cache'),
  ];
  args.push('--set', 'model.filters=2', '--set', 'model.levels=1', '--patch', '8,8,8', '--batch', '2', '--steps', '90');
  const code = await runApp(args, {
    signal: controller.signal,
    print: () => undefined,
    say: (text) => {
      said.push(text);
      if (text.startsWith('step ')) controller.abort();
    },
    interactive: false,
  });
  expect(code).toBe(1);
  const quoted = data.replace("'", `'\\''`);
  expect(said.at(-1)).toMatch(/stopped after step \d+, which is saved: go on with: (npx )?macl pretrain --data '/);
  expect(said.at(-1)).toContain(`--data '${quoted}' --out `);
  expect(said.at(-1)).toMatch(/--steps 90 --resume$/);
});

it('every command has a description, and every flag', () => {
  for (const command of COMMANDS) {
    expect(command.describe.length).toBeGreaterThan(10);
    for (const [name, flag] of Object.entries(command.flags))
      expect(flag.describe, `${command.name} --${name}`).toBeTruthy();
  }
});
