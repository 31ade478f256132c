/** The sources as JavaScript that a child process can run, because Node 20 does not run TypeScript; the addon is copied. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';

const project = resolve(import.meta.dirname, '../..');

export interface Children {
  /** URL of a source file as a child imports it: `url('train/pretrain')`. */
  url(name: string): string;
  /** Starts a program (an ES module's text). Its first line on stdout is awaited by `firstLine`. */
  start(body: string, args?: readonly string[]): ChildProcess;
  /** Runs a program to its end. */
  run(body: string, shell?: string): { status: number | null; stdout: string; stderr: string };
}

export function compileSources(folder: string): Children {
  const out = join(folder, 'js');
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, 'package.json'), '{"name":"macl","version":"0.0.0","type":"module"}');
  for (const name of ['node_modules', 'dist']) symlinkSync(join(project, name), join(out, name));
  const addon = join('build', 'Release', 'macl.node');
  if (existsSync(join(project, addon))) cpSync(join(project, addon), join(out, addon));
  const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ES2022, verbatimModuleSyntax: false };
  for (const name of readdirSync(join(project, 'src'), { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.ts')) continue;
    const text = readFileSync(join(project, 'src', name), 'utf8');
    const target = join(out, 'src', name.replace(/\.ts$/, '.js'));
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, ts.transpileModule(text, { compilerOptions }).outputText);
  }
  let programs = 0;
  const write = (body: string): string => {
    const path = join(out, `program-${++programs}.mjs`);
    writeFileSync(path, body);
    return path;
  };
  return {
    url: (name) => pathToFileURL(join(out, 'src', `${name}.js`)).href,
    start: (body, args = []) =>
      spawn(process.execPath, [...args, write(body)], { stdio: ['ignore', 'pipe', 'inherit'] }),
    run(body, shell) {
      const path = write(body);
      const command = `exec "${process.execPath}" --expose-gc "${path}"`;
      return spawnSync('bash', ['-c', shell ? `${shell}; ${command}` : command], { encoding: 'utf8' });
    },
  };
}

export const firstOutput = (child: ChildProcess): Promise<string> =>
  new Promise((done, failed) => {
    child.stdout!.once('data', (chunk: Buffer) => done(chunk.toString()));
    child.once('exit', (code) => failed(new Error(`the child ended before it said anything: ${code}`)));
  });

export const ended = (child: ChildProcess): Promise<number | null> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve(child.exitCode)
    : new Promise((done) => child.once('exit', (code) => done(code)));
