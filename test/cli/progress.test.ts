import { describe, expect, it } from 'vitest';
import { openProgress, type ProgressEvent } from '../../src/cli/progress.js';

async function lines(events: readonly (ProgressEvent | number)[]): Promise<string[]> {
  const said: string[] = [];
  let now = 0;
  const { signal } = new AbortController();
  const context = {
    signal,
    print: () => expect.unreachable(),
    say: (t: string) => void said.push(t),
    interactive: false,
  };
  const progress = await openProgress(context, () => now);
  for (const event of events) {
    if (typeof event === 'number') now += event;
    else progress.onEvent(event);
  }
  progress.done();
  return said;
}

const step = (at: number, committed = true): ProgressEvent => ({
  kind: 'step',
  step: at,
  steps: 100,
  lr: 0.01,
  results: { loss: 1.5, 'loss.er': 0.25, cosine: 0.9 },
  committed,
  samplesPerSecond: 12.34,
  etaSeconds: 65,
});

describe('progress in lines', () => {
  it('counts tiles where it segments', async () => {
    const at = { kind: 'predict', id: 'liver_7', index: 1, total: 3, tiles: 24 } as const;
    const said = await lines([{ ...at, done: 1 }, 6000, { ...at, done: 9 }, { ...at, done: 24 }]);
    expect(said).toEqual([
      'case 2 of 3 1/24 tiles  liver_7',
      'case 2 of 3 9/24 tiles  liver_7',
      'case 2 of 3 24/24 tiles  liver_7',
    ]);
  });
  it('has step, loss parts, learning rate, samples a second and the time that is left', async () => {
    const [line] = await lines([step(1)]);
    expect(line).toBe('step 1/100  loss 1.5000  loss.er 0.2500  lr 1.00e-2  12.3 samples/s  1 min 5 s left');
  });
  it('comes every few seconds, and at the end', async () => {
    const said = await lines([step(1), 100, step(2), 6000, step(3), 10, step(4), 10, step(100)]);
    expect(said.map((l) => l.split('  ')[0])).toEqual(['step 1/100', 'step 3/100', 'step 100/100']);
  });
  it('of cases is one line where they are quick', async () => {
    const at = (done: number): ProgressEvent => ({ kind: 'cases', what: 'prepare', done, total: 3, id: `c${done}` });
    expect(await lines([at(1), at(2), at(3)])).toEqual(['preparing cases 1/3  c1', 'preparing cases 3/3  c3']);
  });
  it('says plan, notes, warnings, validation and files', async () => {
    const said = await lines([
      { kind: 'plan', lines: ['a', 'b'] },
      { kind: 'note', message: 'n' },
      { kind: 'warning', message: 'w' },
      { kind: 'validation', step: 5, meanDice: 0.8567, perClass: { ball: 0.9, box: 0.8134 }, best: true },
      { kind: 'validation', step: 6, meanDice: null, perClass: { ball: null }, best: false },
      { kind: 'saved', file: 'f' },
    ]);
    expect(said).toEqual([
      'a',
      'b',
      'n',
      'warning: w',
      'validation at step 5: mean Dice 0.8567 (ball 0.9000, box 0.8134), the best so far',
      'validation at step 6: mean Dice not defined',
      'saved f',
    ]);
  });
  it('says when a step was skipped', async () => {
    expect((await lines([step(7, false)]))[0]).toMatch(/skipped: not finite$/);
  });
});
