/** Command lines: flags of all commands with values that do not fit, over paths that lead nowhere. Nothing is trained. */
import { COMMANDS, runApp } from '../src/cli/app.js';
import { EDGES, Random } from './random.js';
import type { Target } from './target.js';

const VALUES = [
  '',
  '-1',
  '0',
  '1e9',
  'NaN',
  'auto',
  'cpu',
  'wasm',
  '/nowhere',
  '../..',
  '\u001b[2J',
  'a,b',
  '{}',
  '5%',
];

let folder = '';
export const commandLine: Target = {
  name: 'command-line',
  describe: 'macl with random flags and values: ends with a code of its own, and prints no escape codes of its input',
  setUp(f) {
    folder = f;
  },
  async run(number) {
    const random = new Random(number);
    const command = random.pick(COMMANDS.filter((c) => !/quickstart|inspect/.test(c.name)));
    const flags = Object.keys(command.flags);
    const args = [command.name.split(' ')[0] as string];
    for (let n = random.below(6); n > 0; n--) {
      let flag = random.pick(flags);
      if (random.chance(0.1)) flag = flag.slice(0, -1);
      args.push(`--${flag}`);
      if (random.chance(0.9)) args.push(random.chance(0.2) ? String(random.pick(EDGES)) : random.pick(VALUES));
    }
    // Whatever is written goes into the target's own folder, and what is read is not there.
    args.push('--out', `${folder}/out-${number}`, '--data', `${folder}/nothing`);
    let said = '';
    const write = (text: string): void => {
      said += text;
    };
    const signal = AbortSignal.timeout(10_000);
    const code = await runApp(args, { signal, print: write, say: write, interactive: false });
    if (code !== 0 && code !== 1 && code !== 2) throw new Error(`${args.join(' ')}: exit code ${code}`);
    if (/TypeError|RangeError|ReferenceError|Maximum call stack/.test(said))
      throw new Error(`${args.join(' ')}: ${said}`);
  },
};
