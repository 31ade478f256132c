/** What reaches a terminal, and what a stream that fails does to the rest. */
import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { runApp } from '../../src/cli/app.js';
import { measure } from '../../src/cli/progress.js';
import { outputTo, printable, printableLine } from '../../src/cli/streams.js';

const hostile = '\u001b]0;owned\u0007 a\u009b2J\u202eb';

describe('names of files', () => {
  it('reach the terminal with control characters escaped, line ends and tabs kept', () => {
    expect(printable(`${hostile}\n\tnext é 日`)).toBe('\\x1b]0;owned\\x07 a\\x9b2J\\u202eb\n\tnext é 日');
    expect(printableLine('a\nb\tc')).toBe('a\\nb\\tc');
    expect(measure({ kind: 'cases', what: 'inspect', done: 1, total: 2, id: 'a\n\u001b[2J' })?.text).toBe(
      'a\\n\\x1b[2J',
    );
  });

  it('so do errors of every command', async () => {
    const said: string[] = [];
    const context = {
      signal: new AbortController().signal,
      print: () => undefined,
      say: (text: string) => said.push(text),
      interactive: false,
    };
    expect(await runApp(['config', '--config', hostile], context)).toBe(1);
    expect(said.join()).toContain('\\x1b]0;owned');
    // eslint-disable-next-line no-control-regex -- what must not be there
    expect(said.join()).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/);
  });
});

describe('a stream that fails', () => {
  const failing = (code: string) =>
    new Writable({
      write: (_chunk, _encoding, done) => done(Object.assign(new Error(code), { code })),
    });
  it('is silent from there on; only what nobody reads is no fault', async () => {
    for (const code of ['EPIPE', 'EIO', 'ENOSPC']) {
      const output = outputTo(failing(code));
      output.write('a');
      output.write('b');
      await output.flushed();
      output.write('c');
      expect(output.fault()?.code).toBe(code === 'ENOSPC' ? 'ENOSPC' : undefined);
    }
  });
});
