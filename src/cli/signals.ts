/**
 * SIGINT, SIGTERM and SIGHUP: the first asks the command to stop (it saves what it has), the second ends the process at
 * once. Node only.
 */
import { MaclError } from '../errors.js';
import { exit } from './exit.js';

const CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
type Name = keyof typeof CODES;

export interface SignalWatch {
  readonly signal: AbortSignal;
  /** The signal that came, if one did, and its exit code. */
  came(): { readonly name: Name; readonly code: number } | undefined;
  stop(): void;
}

/** @param end ends the process: see `endBySignal` */
export function watchSignals(say: (text: string) => void, end: (code: number, name: Name) => void): SignalWatch {
  const controller = new AbortController();
  let first: Name | undefined;
  const handlers = (Object.keys(CODES) as Name[]).map((name) => {
    const handler = () => {
      if (first !== undefined) return end(CODES[name], name);
      first = name;
      say(`${name}: stopping and saving; a second signal stops at once`);
      controller.abort(new MaclError('aborted', `stopped by ${name}`));
    };
    process.on(name, handler);
    return () => process.off(name, handler);
  });
  return {
    signal: controller.signal,
    came: () => first && { name: first, code: CODES[first] },
    stop: () => handlers.forEach((off) => off()),
  };
}

/** What a file operation under way gets before the process ends without it. */
const GRACE_MS = 100;

/**
 * Ends the process now. `process.exit` waits for file operations that are under way, which may be for ever (a named pipe
 * that nobody writes to, a server that does not answer): then the signal ends it, by its default action.
 */
export function endBySignal(code: number, name: NodeJS.Signals, sinceMs = performance.now()): void {
  if (!process.getActiveResourcesInfo().some((kind) => kind.startsWith('FSReq'))) exit(code);
  if (performance.now() - sinceMs < GRACE_MS) {
    setTimeout(() => endBySignal(code, name, sinceMs), 5);
    return;
  }
  process.removeAllListeners(name);
  process.kill(process.pid, name);
  // The first process of a container takes no default action; nothing but this ends it.
  setTimeout(() => process.abort(), GRACE_MS);
}
