/** What the plan says of device and time, and that measuring leaves no trace in the result. */
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { resolveConfig } from '../../src/config/resolve.js';
import { describePace, roughly, tilesOf } from '../../src/train/pace.js';
import { pretrain, type PretrainOptions } from '../../src/train/pretrain.js';
import { device, listen, runFiles, scratchFolder, tinyPretrain, toyDataset } from './toy.js';

const root = scratchFolder();
let data: string;
beforeAll(async () => {
  data = await toyDataset(join(root, 'data'), { cases: 3 });
});

const run = (out: string, more: Partial<PretrainOptions> = {}) =>
  pretrain({
    data,
    out: join(root, out),
    cacheDir: join(root, 'cache'),
    device,
    threads: 1,
    config: tinyPretrain({ train: { steps: 110, checkpointEvery: 1000 } }),
    ...more,
  });

describe('before the first step', () => {
  it('device and time are said; two measured steps change nothing of the result', async () => {
    const { events, onEvent } = listen();
    await run('whole', { onEvent });
    const plans = events.flatMap((e, n) => (e.kind === 'plan' ? [{ n, text: e.lines.join('\n') }] : []));
    expect(plans).toHaveLength(2);
    expect(plans[1]!.n).toBeLessThan(events.findIndex((e) => e.kind === 'step'));
    expect(plans[1]!.text).toMatch(
      new RegExp(
        `^device: ${device} \\([\\w-]+\\), 1 thread, arithmetic fast: all convolutions are direct here\ntime: .* for 110 steps \\(.* a step, measured\\)$`,
      ),
    );
    // The rest of a run is too short to be measured: what was not measured has the same bits.
    const stop = new AbortController();
    const first = listen((e) => e.kind === 'step' && e.step === 30 && stop.abort());
    await expect(run('stopped', { signal: stop.signal, onEvent: first.onEvent })).rejects.toMatchObject({
      code: 'aborted',
    });
    const second = listen();
    await run('stopped', { resume: true, onEvent: second.onEvent });
    const [said] = second.events.flatMap((e) => (e.kind === 'plan' ? [e.lines.join('\n')] : []));
    expect(said).toMatch(/for 80 steps \(.* a step, reckoned from the network's arithmetic/);
    const model = (out: string) => runFiles(join(root, out))['model.safetensors'];
    expect(model('stopped')).toBe(model('whole'));
  });
});

describe('the time', () => {
  const config = resolveConfig({ task: 'finetune', model: { classes: 2 }, train: { steps: 1000, valEvery: 300 } });
  const info = { name: 'cpu', isa: 'avx2', threads: 2 } as const;
  it('counts steps and validations that are left', () => {
    const pace = { stepSeconds: 2, tileSeconds: 0.5, measured: true };
    const said = (startStep: number, tiles: number) => describePace(info, { config, startStep }, tiles, pace)[1];
    expect(said(0, 0)).toBe('time: about 33 min for 1000 steps (2.0 s a step, measured)');
    // After steps 300, 600, 900 and 1000, of 120 tiles each.
    expect(said(0, 120)).toBe('time: about 37 min for 1000 steps and 4 validations (2.0 s a step, measured)');
    expect(said(900, 120)).toBe('time: about 4 min for 100 steps and 1 validation (2.0 s a step, measured)');
    expect(describePace(info, { config, startStep: 0 }, 0, pace)[0]).toBe('device: cpu (avx2), 2 threads');
  });
  it('has no more digits than it knows', () => {
    expect([2, 42, 150, 9000, 400000].map(roughly)).toEqual([
      'a few seconds',
      'about 40 s',
      'about 3 min',
      'about 2.5 h',
      'about 5 days',
    ]);
  });
  it('of a validation goes by its tiles', () => {
    expect(tilesOf([[8, 8, 8]], [8, 8, 8])).toBe(1);
    expect(tilesOf([[12, 8, 8]], [8, 8, 8])).toBe(2);
    expect(
      tilesOf(
        [
          [16, 16, 8],
          [4, 4, 4],
        ],
        [8, 8, 8],
      ),
    ).toBe(3 * 3 * 1 + 1);
  });
});
