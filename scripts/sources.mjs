// Prints the C++ sources below the given folders, relative to the root, one a line: for binding.gyp.
import { filesUnder } from './stamp.mjs';

const sources = filesUnder(process.argv.slice(2)).filter((file) => file.endsWith('.cc'));
process.stdout.write(`${sources.join('\n')}\n`);
