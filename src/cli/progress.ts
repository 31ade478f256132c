/**
 * Events as progress on stderr: a bar where that is a terminal, lines where it is a file or a pipe (the first, the last,
 * and one every few seconds between). Results never pass here.
 */
import type { CaseEvent, TrainEvent } from '../train/events.js';
import type { CommandContext } from './context.js';
import { printableLine } from './streams.js';

export type ProgressEvent = TrainEvent | CaseEvent;

const LINE_EVERY_MS = 5000;

interface Bar {
  start(total: number, value: number, payload: object): void;
  update(value: number, payload: object): void;
  setTotal(total: number): void;
  stop(): void;
}

const seconds = (s: number): string => {
  if (!Number.isFinite(s)) return '?';
  const whole = Math.max(0, Math.round(s));
  const [h, m] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return h > 0 ? `${h} h ${m} min` : m > 0 ? `${m} min ${whole % 60} s` : `${whole} s`;
};

export interface Progress {
  readonly onEvent: (event: ProgressEvent) => void;
  /** Takes the bar away; before results are printed, and on every error. */
  done(): void;
}

export async function openProgress(
  context: CommandContext,
  now: () => number = () => performance.now(),
): Promise<Progress> {
  return context.interactive ? new BarProgress(context, await makeBar()) : new LineProgress(context, now);
}

async function makeBar(): Promise<() => Bar> {
  const { default: cliProgress } = await import('cli-progress');
  return () =>
    new cliProgress.SingleBar({
      format: '{what} [{bar}] {value}/{total}{unit} {text}',
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
      barsize: 24,
      fps: 8,
      gracefulExit: false,
      emptyOnZero: true,
    });
}

interface Measure {
  readonly what: string;
  readonly value: number;
  readonly total: number;
  /** What is counted, where `what` does not say it. */
  readonly unit?: string;
  readonly text: string;
}

const unitOf = ({ unit }: Measure): string => (unit === undefined ? '' : ` ${unit}`);

/** The counted part of an event: what, how far, of how much, and what is beside it (on one line, whatever a case is called). */
export function measure(event: ProgressEvent): Measure | null {
  const found = measured(event);
  return found && { ...found, text: printableLine(found.text) };
}

function measured(event: ProgressEvent): Measure | null {
  switch (event.kind) {
    case 'step': {
      const losses = Object.entries(event.results).filter(([name]) => name === 'loss' || name.startsWith('loss.'));
      const parts = losses.map(([name, value]) => `${name} ${value.toFixed(4)}`);
      parts.push(
        `lr ${event.lr.toExponential(2)}`,
        `${event.samplesPerSecond.toFixed(1)} samples/s`,
        `${seconds(event.etaSeconds)} left`,
      );
      if (!event.committed) parts.push('skipped: not finite');
      return { what: 'step', value: event.step, total: event.steps, text: parts.join('  ') };
    }
    case 'cases':
      return {
        what: event.what === 'inspect' ? 'looking at cases' : 'preparing cases',
        value: event.done,
        total: event.total,
        text: event.id,
      };
    case 'predict':
      return {
        what: `case ${event.index + 1} of ${event.total}`,
        value: event.done,
        total: event.tiles,
        unit: 'tiles',
        text: event.id,
      };
    case 'evaluate':
      return { what: 'evaluating', value: event.done, total: event.total, text: event.id };
    default:
      return null;
  }
}

/** What an event says once, in a line or several. */
function sentence(event: ProgressEvent): string[] {
  switch (event.kind) {
    case 'plan':
      return [...event.lines];
    case 'note':
      return [event.message];
    case 'warning':
      return [`warning: ${event.message}`];
    case 'validation': {
      const shown = (dice: number | null): string => (dice === null ? 'not defined' : dice.toFixed(4));
      const classes = Object.entries(event.perClass).map(([name, dice]) => `${name} ${shown(dice)}`);
      // A single class is the mean.
      const each = classes.length > 1 ? ` (${classes.join(', ')})` : '';
      const best = event.best ? ', the best so far' : '';
      return [`validation at step ${event.step}: mean Dice ${shown(event.meanDice)}${each}${best}`];
    }
    case 'saved':
      return [`saved ${event.file}`];
    default:
      return [];
  }
}

class LineProgress implements Progress {
  private lastWhat = '';
  private lastAt = -Infinity;
  constructor(
    private readonly context: CommandContext,
    private readonly now: () => number,
  ) {}

  readonly onEvent = (event: ProgressEvent): void => {
    for (const line of sentence(event)) this.context.say(line);
    const at = measure(event);
    if (!at) return;
    const due = at.what !== this.lastWhat || at.value === at.total || this.now() - this.lastAt >= LINE_EVERY_MS;
    // Cases that come from the cache pass in no time: only their end is worth a line.
    if (!due || (event.kind !== 'step' && at.value < at.total && this.now() - this.lastAt < LINE_EVERY_MS)) return;
    this.lastWhat = at.what;
    this.lastAt = this.now();
    this.context.say(`${at.what} ${at.value}/${at.total}${unitOf(at)}${at.text === '' ? '' : `  ${at.text}`}`);
  };

  done(): void {}
}

class BarProgress implements Progress {
  private bar: Bar | null = null;
  private what = '';
  constructor(
    private readonly context: CommandContext,
    private readonly make: () => Bar,
  ) {}

  readonly onEvent = (event: ProgressEvent): void => {
    const lines = sentence(event);
    if (lines.length > 0) {
      // A line under a running bar would be overwritten: the bar goes, and comes back with its next event.
      this.done();
      for (const line of lines) this.context.say(line);
    }
    const at = measure(event);
    if (!at) return;
    const payload = { what: at.what, unit: unitOf(at), text: at.text };
    if (!this.bar || at.what !== this.what) {
      this.done();
      this.bar = this.make();
      this.what = at.what;
      this.bar.start(at.total, at.value, payload);
    } else {
      this.bar.setTotal(at.total);
      this.bar.update(at.value, payload);
    }
    if (at.value >= at.total) {
      this.done();
      if (event.kind === 'step') this.context.say(`${at.what} ${at.value}/${at.total}  ${at.text}`);
    }
  };

  done(): void {
    this.bar?.stop();
    this.bar = null;
  }
}
