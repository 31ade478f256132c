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
  // JSON escapes most of what a terminal must not get; the rest is escaped here, so that the text stays the same value.
  const text = JSON.stringify(value, finite, 2).replace(
    /[\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  context.print(text);
}
