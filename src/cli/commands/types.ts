/** What a command's file exports. Flags are data; what runs is imported when it runs, so that --help is quick. */
import type { Options } from 'yargs';
import type { CommandContext } from '../context.js';
import type { Given } from '../config-flags.js';

export interface Command {
  readonly name: string;
  readonly describe: string;
  readonly flags: Readonly<Record<string, Options>>;
  run(flags: Given, context: CommandContext): Promise<void>;
}

/** A flag's text, where it was given. */
export function word(flags: Given, name: string): string | undefined {
  const value = flags[name];
  return value === undefined ? undefined : String(value);
}

export const isSet = (flags: Given, name: string): boolean => [flags[name]].flat().at(-1) === true;

/** The options of `dataFlags`. */
export function dataOptions(flags: Given) {
  return {
    data: String(flags['data']),
    imageGlob: flags['imageGlob'] as readonly string[] | undefined,
    labelGlob: word(flags, 'labelGlob'),
    cases: word(flags, 'cases'),
    followLinks: isSet(flags, 'followLinks'),
  };
}
