/** The end of the process. Node only. */
import { closeSync, openSync } from 'node:fs';
import { isatty } from 'node:tty';

/** The standard streams that were terminals when the process began. */
const TERMINALS = [0, 1, 2].filter((fd) => isatty(fd));

/**
 * Exits. On its way out Node puts each terminal back into the state that it found it in, and crashes where one has gone away
 * (SIGSEGV or SIGABRT in place of the exit code); a stream that is another file by then it leaves alone.
 */
export function exit(code: number): never {
  for (const fd of TERMINALS) {
    if (isatty(fd)) continue;
    closeSync(fd);
    openSync('/dev/null', 'r+'); // takes the lowest number that is free: this one
  }
  process.exit(code);
}
