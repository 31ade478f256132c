// Before the tests: bring dist/ up to date, because worker threads and the command line run from there (Node 20 does not
// run TypeScript). Quick when nothing changed. MACL_TEST_NO_BUILD=1 leaves everything as it is.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export default function setup() {
  if (process.env.MACL_TEST_NO_BUILD) return;
  const script = fileURLToPath(new URL('./prepare.mjs', import.meta.url));
  const { status } = spawnSync(process.execPath, [script, '--quiet'], { stdio: 'inherit' });
  if (status !== 0)
    process.stderr.write('macl: dist/ could not be brought up to date; tests that need it will say so\n');
}
