/**
 * The command line without a process: arguments in, exit code out, so that tests run it as it is. Exit codes: 0 done,
 * 1 failed, 2 a flag that cannot be read; signals are `main.ts`'s.
 */
import { PRECISION_FIELD } from '../precision.js';
import yargs from 'yargs';
import { MaclError } from '../errors.js';
import { packageVersion } from '../paths.js';
import { messageOf } from '../realm.js';
import { command as cache } from './commands/cache.js';
import { command as config } from './commands/config.js';
import { command as evaluate } from './commands/evaluate.js';
import { command as finetune } from './commands/finetune.js';
import { command as inspect } from './commands/inspect.js';
import { command as predict } from './commands/predict.js';
import { command as prepare } from './commands/prepare.js';
import { command as pretrain } from './commands/pretrain.js';
import { command as quickstart } from './commands/quickstart.js';
import { command as step } from './commands/step.js';
import type { Command } from './commands/types.js';
import type { CommandContext } from './context.js';
import { usage } from './flags.js';
import { exampleOf, explained, withDefaults, withKinds } from './help.js';
import { printable } from './streams.js';

export const COMMANDS: readonly Command[] = [
  quickstart,
  inspect,
  prepare,
  pretrain,
  finetune,
  predict,
  evaluate,
  cache,
  config,
  step,
];

/** @param outside where text goes; what is printed and said is made printable here, once for all commands */
export async function runApp(args: readonly string[], outside: CommandContext): Promise<number> {
  const context: CommandContext = {
    ...outside,
    print: (text) => outside.print(printable(text)),
    say: (text) => outside.say(printable(text)),
  };
  try {
    await parse(args, context);
    return 0;
  } catch (error) {
    return report(error, context, args);
  }
}

async function parse(args: readonly string[], context: CommandContext): Promise<void> {
  let chosen: (() => Promise<void>) | undefined;
  const app = yargs([])
    .scriptName('macl')
    .usage('$0 <command>\n\nMulti-level asymmetric contrastive learning for medical image segmentation.')
    .locale('en')
    .version(packageVersion())
    .help()
    .alias('help', 'h')
    .wrap(100)
    .strict()
    .exitProcess(false)
    .fail(false)
    // Numbers are read by the flags themselves: a typo is an error, not NaN.
    .parserConfiguration({
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'boolean-negation': false,
      'dot-notation': false,
    });
  for (const command of COMMANDS) {
    app.command(
      command.name,
      command.describe,
      (y) => {
        const example = exampleOf(command.name);
        const described = y.options(withDefaults(command));
        return example === undefined ? described : described.epilogue(`Example: ${example}`);
      },
      (flags) => {
        chosen = () => command.run(flags, context);
      },
    );
  }
  let output = '';
  try {
    await app.parseAsync([...args], {}, (_error: unknown, _argv: unknown, text: string) => {
      output = text;
    });
  } catch (error) {
    throw error instanceof MaclError ? error : usage(explained(messageOf(error), args, COMMANDS));
  }
  const asked = COMMANDS.find(({ name }) => args.includes(name));
  if (output !== '') return context.print(withKinds(output, asked?.flags ?? {}));
  if (!chosen) throw usage(`expected a command: ${COMMANDS.map((c) => c.name).join(', ')}; macl --help says more`);
  try {
    await chosen();
  } catch (error) {
    // A word that the flag knows, and the device does not: not built there yet.
    const flag = args.some((arg) => /^--precision(=|$)/.test(arg));
    if (flag && error instanceof MaclError && error.details.field === PRECISION_FIELD && error.code === 'device')
      throw usage(error.message.replace(PRECISION_FIELD, '--precision'));
    throw error;
  }
}

/** How a run that was stopped says that it can go on. */
const RESUMES = /--resume goes on$/;

/** The same command with --resume, as it can be typed. */
function resumeCommand(args: readonly string[]): string {
  const quoted = args.map((arg) => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`));
  const program = process.env.npm_command === 'exec' ? 'npx macl' : 'macl';
  return [program, ...quoted, ...(args.includes('--resume') ? [] : ['--resume'])].join(' ');
}

/** One line for people; MACL_DEBUG adds where it came from. */
function report(error: unknown, context: CommandContext, args: readonly string[]): number {
  const known = error instanceof MaclError;
  const message = messageOf(error).replace(RESUMES, () => `go on with: ${resumeCommand(args)}`);
  const hint = known && error.code === 'usage' ? ' (macl --help)' : '';
  // What a signal stopped is no error.
  const label = known ? (error.code === 'aborted' ? '' : 'error: ') : 'internal error: ';
  context.say(`macl: ${label}${message}${hint}`);
  if (process.env.MACL_DEBUG) context.say((error as Error | undefined)?.stack ?? '');
  else if (!known) context.say('macl: MACL_DEBUG=1 shows where it happened');
  return known ? error.exitCode : 1;
}
