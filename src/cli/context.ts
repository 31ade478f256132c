/** What a command gets besides its flags: where results and progress go, and the signal that stops it. */
export interface CommandContext {
  readonly signal: AbortSignal;
  /** Results: stdout. */
  print(text: string): void;
  /** Progress, notes, warnings: stderr. */
  say(text: string): void;
  /** stderr is a terminal. */
  readonly interactive: boolean;
}

/** Prints one JSON document; JSON has no NaN or Infinity. */
export function printJson(context: CommandContext, value: unknown): void {
  const finite = (_key: string, v: unknown) => (typeof v === 'number' && !Number.isFinite(v) ? null : v);
  context.print(JSON.stringify(value, finite, 2));
}
