/**
 * What a source file pulls in when it runs: the closure of its imports, static and dynamic, through files of src and into
 * packages by name. Imports of types alone vanish when TypeScript is compiled, and are left out.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';

/** Whether nothing of an import clause is left at run time. */
function typesAlone(clause: ts.ImportClause | undefined): boolean {
  if (!clause) return false;
  if (clause.isTypeOnly) return true;
  const named = clause.namedBindings;
  return (
    !clause.name &&
    !!named &&
    ts.isNamedImports(named) &&
    named.elements.length > 0 &&
    named.elements.every((e) => e.isTypeOnly)
  );
}

const parsed = new Map<string, ts.SourceFile>();
export function parse(file: string): ts.SourceFile {
  const known = parsed.get(file);
  if (known) return known;
  const tree = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, true);
  parsed.set(file, tree);
  return tree;
}

/** Specifiers of everything that a file imports at run time. */
export function importsOf(file: string): string[] {
  const found: string[] = [];
  const add = (specifier: ts.Node | undefined) => {
    if (specifier && ts.isStringLiteralLike(specifier)) found.push(specifier.text);
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      if (!typesAlone(node.importClause)) add(node.moduleSpecifier);
    } else if (ts.isExportDeclaration(node)) {
      const { exportClause } = node;
      const types =
        node.isTypeOnly ||
        (exportClause && ts.isNamedExports(exportClause) && exportClause.elements.every((e) => e.isTypeOnly));
      if (!types) add(node.moduleSpecifier);
    } else if (ts.isCallExpression(node)) {
      const { expression } = node;
      const required = ts.isIdentifier(expression) && expression.text === 'require';
      if (expression.kind === ts.SyntaxKind.ImportKeyword || required) add(node.arguments[0]);
    }
    ts.forEachChild(node, visit);
  };
  visit(parse(file));
  return found;
}

/** Names that Node alone has as globals. */
const NODE_GLOBALS = new Set(['process', 'Buffer', '__dirname', '__filename', 'setImmediate', 'require']);

/** Node's globals that a file reads at run time without ever asking (`typeof process`) whether they are there. */
export function nodeGlobalsOf(file: string): string[] {
  const found = new Set<string>();
  const asked = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isTypeNode(node)) return;
    const { parent } = node;
    if (ts.isIdentifier(node) && NODE_GLOBALS.has(node.text)) {
      const named = 'name' in parent && parent.name === node;
      if (ts.isTypeOfExpression(parent)) asked.add(node.text);
      else if (!named) found.add(node.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(parse(file));
  return [...found].filter((name) => !asked.has(name));
}

/** The source file that a relative specifier names. */
export function resolved(from: string, specifier: string): string {
  const file = path.resolve(path.dirname(from), specifier).replace(/\.([cm]?)js$/, '.$1ts');
  if (!existsSync(file)) throw new Error(`${from} imports ${specifier}, which is no file`);
  return file;
}

export interface Closure {
  /** Every module outside the sources (`node:fs`, a package's name) that is reached, with the first chain to it. */
  readonly outside: ReadonlyMap<string, readonly string[]>;
  /** Every file of the sources, with the first chain to it. */
  readonly files: ReadonlyMap<string, readonly string[]>;
}

export function closureOf(entries: readonly string[]): Closure {
  const outside = new Map<string, readonly string[]>();
  const files = new Map<string, readonly string[]>();
  const queue = entries.map((file) => ({ file, chain: [file] }));
  for (let next = queue.shift(); next; next = queue.shift()) {
    const { file, chain } = next;
    if (files.has(file)) continue;
    files.set(file, chain);
    for (const specifier of importsOf(file)) {
      if (specifier.startsWith('.')) {
        const target = resolved(file, specifier);
        queue.push({ file: target, chain: [...chain, target] });
      } else if (!outside.has(specifier)) outside.set(specifier, [...chain, specifier]);
    }
  }
  return { outside, files };
}
