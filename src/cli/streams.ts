/**
 * stdout and stderr as a command sees them: text goes out, and nothing that happens to a stream stops the work. A full
 * disk, a closed pipe or a terminal that has gone away make a stream silent from there on. What is written is printable:
 * names of files may hold anything. No process in here, so that tests run it as it is.
 */

export interface Output {
  write(text: string): void;
  /** Resolves once everything is written, or cannot be. */
  flushed(): Promise<void>;
  /** What was lost: the error that made the stream silent, unless it was only that nobody reads any more. */
  fault(): NodeJS.ErrnoException | undefined;
}

/** Nobody is there to read: `| head`, or a terminal that was closed. */
const GONE = new Set(['EPIPE', 'EIO', 'ECONNRESET', 'ERR_STREAM_DESTROYED']);

export function outputTo(stream: NodeJS.WritableStream): Output {
  let silent = false;
  let fault: NodeJS.ErrnoException | undefined;
  const failed = (error: NodeJS.ErrnoException): void => {
    if (!silent && !GONE.has(error.code ?? '')) fault = error;
    silent = true;
  };
  stream.on('error', failed);
  return {
    write(text) {
      if (silent) return;
      try {
        stream.write(`${text}\n`);
      } catch (error) {
        // A file is written at once, and some versions of Node throw what is wrong with it.
        failed(error as NodeJS.ErrnoException);
      }
    },
    flushed: () =>
      new Promise((resolve) => {
        // What went wrong is told after the write that it happened to.
        const done = () => setImmediate(resolve);
        if (silent || !stream.writable) return done();
        stream.on('error', done);
        stream.write('', done);
      }),
    fault: () => fault,
  };
}

// eslint-disable-next-line no-control-regex -- these are what a terminal must not get
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;
const escaped = (c: string): string =>
  c.charCodeAt(0) < 0x100
    ? `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`
    : `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** Control characters (and those that turn the direction of text) as escapes; tabs and line ends stay. */
export function printable(text: string): string {
  return text.replace(CONTROLS, escaped);
}

/** The same on one line. */
export function printableLine(text: string): string {
  return printable(text).replace(/[\t\n]/g, (c) => (c === '\n' ? '\\n' : '\\t'));
}
