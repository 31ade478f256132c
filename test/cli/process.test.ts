/**
 * The program as a process: exit codes, signals, closed pipes. It runs from dist, which the test run brings up to date;
 * where dist is not there these are counted skips.
 */
import { execFileSync, spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writeSyntheticDataset } from '../../src/data/synthetic-dataset.js';
import { compileSources, ended as endOf, firstOutput } from '../train/child.js';

const program = path.resolve(import.meta.dirname, '..', '..', 'dist', 'cli', 'main.js');
const test = existsSync(program) ? it : it.skip;

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'macl-process-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

function start(args: readonly string[]): {
  child: ChildProcessWithoutNullStreams;
  ended: Promise<Ended>;
  err: () => string;
} {
  const child = spawn(process.execPath, [program, ...args], { cwd: folder });
  let [out, err] = ['', ''];
  child.stdout.on('data', (data: Buffer) => (out += data.toString()));
  child.stderr.on('data', (data: Buffer) => (err += data.toString()));
  const ended = new Promise<Ended>((resolve) => child.on('close', (code) => resolve({ code, out, err })));
  return { child, ended, err: () => err };
}

async function until(what: () => boolean, ended: Promise<Ended>): Promise<void> {
  let over: Ended | undefined;
  void ended.then((e) => (over = e));
  while (!what()) {
    if (over) throw new Error(`ended too early (${over.code}): ${over.err}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A training that would go on for ever. */
function endless(out: string): ReturnType<typeof start> {
  const small = [
    '--set',
    'model.filters=2',
    '--set',
    'model.levels=1',
    '--patch',
    '8,8,8',
    '--batch',
    '2',
    '--threads',
    '1',
  ];
  const where = ['--data', 'data', '--out', out, '--cache', 'cache'];
  return start(['pretrain', ...where, ...small, '--steps', '1000000000', '--checkpoint-every', '1000000000']);
}

test('exit codes reach the shell', async () => {
  const [good, flag, wrong] = await Promise.all(
    [
      ['config', '--schema'],
      ['config', '--shema'],
      ['config', '--config', 'absent.json'],
    ].map((args) => start(args).ended),
  );
  expect([good!.code, flag!.code, wrong!.code]).toEqual([0, 2, 1]);
  expect(JSON.parse(good!.out)).toHaveProperty('definitions');
  expect(wrong!.out).toBe('');
  expect(wrong!.err).toMatch(/absent\.json/);
  expect(wrong!.err).not.toMatch(/\n\s+at /);
});

test('a closed pipe is no error', async () => {
  const { child, ended } = start(['config', '--schema']);
  child.stdout.destroy();
  const { code, err } = await ended;
  expect([code, err]).toEqual([0, '']);
});

test('SIGTERM saves the last finished step and exits 143, SIGINT 130, SIGHUP 129', async () => {
  await writeSyntheticDataset(path.join(folder, 'data'), { trainCases: 3, testCases: 0, seed: 1 });
  for (const [signal, code] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
    ['SIGHUP', 129],
  ] as const) {
    const run = endless(signal);
    await until(() => /^step \d/m.test(run.err()), run.ended);
    run.child.kill(signal);
    const over = await run.ended;
    expect(over.code, over.err).toBe(code);
    expect(over.err).toContain(`${signal}: stopping and saving`);
    const saved = readdirSync(path.join(folder, signal, 'checkpoints')).filter((name) =>
      /^step-\d+\.safetensors$/.test(name),
    );
    expect(saved).toHaveLength(1);
    expect(existsSync(path.join(folder, signal, 'model.safetensors'))).toBe(false);
  }
});

/** Runs a command on a terminal of its own, closes it once text matches, and prints the exit code. */
const ON_A_TERMINAL = `
import os, pty, re, sys
pid, terminal = pty.fork()
if pid == 0:
    if sys.argv[1] == 'detached':
        import signal
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if os.fork() > 0:
            os._exit(os.waitstatus_to_exitcode(os.wait()[1]) & 255)
        os.setsid()
    os.execv(sys.argv[3], sys.argv[3:])
seen = b''
while not re.search(sys.argv[2].encode(), seen):
    seen += os.read(terminal, 4096)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;
const python = (() => {
  try {
    return execFileSync('python3', ['-c', 'import os, pty; os.waitstatus_to_exitcode; print(1)'], { stdio: 'pipe' });
  } catch {
    return null;
  }
})();

(python ? test : it.skip)('a terminal that is closed: the run saves and exits 129, or goes on without it', async () => {
  await writeSyntheticDataset(path.join(folder, 'terminal-data'), { trainCases: 2, testCases: 0, seed: 1 });
  const args = ['pretrain', '--data', 'terminal-data', '--cache', 'cache', '--threads', '1', '--patch', '8,8,8'];
  args.push('--batch', '2', '--set', 'model.filters=2', '--set', 'model.levels=1');
  const onTerminal = (how: string, out: string, steps: number): string => {
    const command = [process.execPath, program, ...args, '--out', out, '--steps', String(steps)];
    const options = { cwd: folder, encoding: 'utf8', timeout: 120_000 } as const;
    return execFileSync('python3', ['-c', ON_A_TERMINAL, how, 'step \\d', ...command], options).trim();
  };
  expect(onTerminal('attached', 'hung-up', 1_000_000)).toBe('129');
  expect(readdirSync(path.join(folder, 'hung-up', 'checkpoints'))).not.toEqual([]);
  expect(onTerminal('detached', 'detached', 1500)).toBe('0');
  expect(existsSync(path.join(folder, 'detached', 'model.safetensors'))).toBe(true);
});

test('a second signal exits at once', async () => {
  const run = endless('twice');
  await until(() => /^step \d/m.test(run.err()), run.ended);
  // Both are on their way before the process turns to the first: it has not saved when the second comes.
  run.child.kill('SIGINT');
  run.child.kill('SIGTERM');
  const { code, err } = await run.ended;
  const first = /(SIG\w+): stopping and saving/.exec(err)?.[1] ?? err;
  // The code is that of the other one, whichever came through first.
  expect({ first, code }).toEqual({ first, code: { SIGINT: 143, SIGTERM: 130 }[first] });
  expect(readdirSync(path.join(folder, 'twice', 'checkpoints'))).toEqual([]);
});

test('two signals end a process that waits for a file for ever', async () => {
  const children = compileSources(path.join(folder, 'sources'));
  const pipe = path.join(folder, 'nobody-writes');
  execFileSync('mkfifo', [pipe]);
  const child = children.start(`
    import { open } from 'node:fs/promises';
    import { endBySignal, watchSignals } from '${children.url('cli/signals')}';
    watchSignals(() => {}, endBySignal);
    open(${JSON.stringify(pipe)}, 'r');
    setInterval(() => {}, 1000);
    process.stdout.write('.');`);
  await firstOutput(child);
  child.kill('SIGTERM');
  await new Promise((wait) => setTimeout(wait, 100));
  expect([child.exitCode, child.signalCode]).toEqual([null, null]);
  child.kill('SIGTERM');
  await endOf(child);
  // By the signal itself: an exit would have waited for the file.
  expect(child.signalCode).toBe('SIGTERM');
});

test('a stderr that takes nothing any more silences the progress and stops nothing', async () => {
  await writeSyntheticDataset(path.join(folder, 'quiet-data'), { trainCases: 2, testCases: 0, seed: 1 });
  const args = ['pretrain', '--data', 'quiet-data', '--cache', 'cache', '--steps', '3', '--threads', '1'];
  args.push('--set', 'model.filters=2', '--set', 'model.levels=1', '--patch', '8,8,8', '--batch', '2');
  const full = openSync('/dev/full', 'w');
  const onFull = spawn(process.execPath, [program, ...args, '--out', 'full'], {
    cwd: folder,
    stdio: ['ignore', 'pipe', full],
  });
  closeSync(full);
  expect(await new Promise((resolve) => onFull.on('close', resolve))).toBe(0);
  const closed = start([...args, '--out', 'closed']);
  closed.child.stderr.destroy();
  expect((await closed.ended).code).toBe(0);
  for (const out of ['full', 'closed']) expect(existsSync(path.join(folder, out, 'model.safetensors')), out).toBe(true);
});

test('results that cannot be written are an error, and said', async () => {
  const full = openSync('/dev/full', 'w');
  const child = spawn(process.execPath, [program, 'config', '--schema'], { stdio: ['ignore', full, 'pipe'] });
  closeSync(full);
  let said = '';
  child.stderr!.on('data', (data: Buffer) => (said += data.toString()));
  expect(await new Promise((resolve) => child.on('close', resolve))).toBe(1);
  expect(said).toMatch(/stdout: the results could not be written: ENOSPC/);
});
