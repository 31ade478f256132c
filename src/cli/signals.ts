/**
 * SIGINT and SIGTERM: the first asks the command to stop (it saves what it has), the second ends the process at once.
 * Node only.
 */
import { MaclError } from '../errors.js';

const CODES = { SIGINT: 130, SIGTERM: 143 } as const;
type Name = keyof typeof CODES;

export interface SignalWatch {
  readonly signal: AbortSignal;
  /** The exit code of the signal that came, if one did. */
  code(): number | undefined;
  stop(): void;
}

export function watchSignals(say: (text: string) => void): SignalWatch {
  const controller = new AbortController();
  let code: number | undefined;
  const handlers = (['SIGINT', 'SIGTERM'] as const).map((name: Name) => {
    const handler = () => {
      if (code !== undefined) process.exit(CODES[name]);
      code = CODES[name];
      say(`${name}: stopping and saving; a second signal stops at once`);
      controller.abort(new MaclError('aborted', `stopped by ${name}`));
    };
    process.on(name, handler);
    return () => process.off(name, handler);
  });
  return { signal: controller.signal, code: () => code, stop: () => handlers.forEach((off) => off()) };
}
