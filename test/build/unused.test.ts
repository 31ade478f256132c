/** Nothing is exported that no other file imports, and nothing is depended on that nothing uses. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, it } from 'vitest';
import { parse, resolved } from './imports.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const filesOf = (folder: string, ending: RegExp): string[] =>
  readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => ending.test(file))
    .map((file) => path.join(root, folder, file));
const sources = filesOf('src', /\.ts$/);
const all = [...sources, ...['test', 'bench', 'fuzz'].flatMap((folder) => filesOf(folder, /\.ts$/))];

/** What the package offers, and programs that are started by name: their exports are for others. */
const ENTRIES = new Set(['src/index.ts', 'src/cli/main.ts'].map((file) => path.join(root, file)));

const exported = (node: ts.Node): boolean =>
  ts.canHaveModifiers(node) && (ts.getModifiers(node) ?? []).some((m) => m.kind === ts.SyntaxKind.ExportKeyword);

/** Every identifier of a file, and how often it is there. */
function identifiersOf(file: string): Map<string, number> {
  const counts = new Map<string, number>();
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node)) counts.set(node.text, (counts.get(node.text) ?? 0) + 1);
    ts.forEachChild(node, visit);
  };
  visit(parse(file));
  return counts;
}

/**
 * Names that a file declares and exports itself. A type that its own file goes on to use is left out: it is what an exported
 * function takes or gives.
 */
function exportsOf(file: string): string[] {
  const names: string[] = [];
  const counts = identifiersOf(file);
  for (const node of parse(file).statements) {
    if (!exported(node)) continue;
    if (ts.isVariableStatement(node))
      for (const { name } of node.declarationList.declarations) {
        if (ts.isIdentifier(name)) names.push(name.text);
      }
    else if ('name' in node && node.name && ts.isIdentifier(node.name as ts.Node)) {
      const { text } = node.name as ts.Identifier;
      const type = ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node);
      if (!type || counts.get(text) === 1) names.push(text);
    }
  }
  return names;
}

/** `file name` of everything that is taken from another file; of a whole namespace what is called by name in this one. */
function usesIn(file: string): string[] {
  const found: string[] = [];
  const whole = (from: string) => found.push(...[...identifiersOf(file).keys()].map((name) => `${from} ${name}`));
  const target = (specifier: ts.Expression | undefined): string | undefined => {
    if (!specifier || !ts.isStringLiteralLike(specifier) || !specifier.text.startsWith('.')) return undefined;
    return /\.[cm]?js$/.test(specifier.text) && !specifier.text.endsWith('.mjs')
      ? resolved(file, specifier.text)
      : undefined;
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      const from = target(node.moduleSpecifier);
      const named = node.importClause?.namedBindings;
      if (from && named && ts.isNamedImports(named))
        for (const { propertyName, name } of named.elements) found.push(`${from} ${(propertyName ?? name).text}`);
      else if (from && named) whole(from);
    } else if (ts.isExportDeclaration(node)) {
      const from = target(node.moduleSpecifier);
      const named = node.exportClause;
      if (from && named && ts.isNamedExports(named))
        for (const { propertyName, name } of named.elements) found.push(`${from} ${(propertyName ?? name).text}`);
      // What `export *` hands on is used where it is taken from here.
      else if (from && named) whole(from);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const from = target(node.arguments[0]);
      if (from) whole(from);
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      const from = target(node.argument.literal as ts.Expression);
      if (from) whole(from);
    }
    ts.forEachChild(node, visit);
  };
  visit(parse(file));
  return found;
}

/** Files whose exports `file` hands on as its own. */
function handedOn(file: string): string[] {
  return parse(file).statements.flatMap((node) =>
    ts.isExportDeclaration(node) &&
    !node.exportClause &&
    node.moduleSpecifier &&
    ts.isStringLiteral(node.moduleSpecifier)
      ? [resolved(file, node.moduleSpecifier.text)]
      : [],
  );
}

it('every export of src is imported somewhere', () => {
  const used = new Set(all.flatMap(usesIn));
  const through = new Map<string, string[]>();
  for (const file of sources)
    for (const from of handedOn(file)) through.set(from, [...(through.get(from) ?? []), file]);
  const isUsed = (file: string, name: string): boolean =>
    ENTRIES.has(file) || used.has(`${file} ${name}`) || (through.get(file) ?? []).some((by) => isUsed(by, name));
  const unused = sources.flatMap((file) =>
    exportsOf(file)
      .filter((name) => !isUsed(file, name))
      .map((name) => `${path.relative(root, file)}: ${name}`),
  );
  expect(unused).toEqual([]);
});

it('every dependency is used: by src or the addon, those for development by anything here', () => {
  const { dependencies, devDependencies, scripts } = JSON.parse(
    readFileSync(path.join(root, 'package.json'), 'utf8'),
  ) as {
    dependencies: Record<string, string>;
    devDependencies: Record<string, string>;
    scripts: Record<string, string>;
  };
  const textOf = (files: readonly string[]) => files.map((file) => readFileSync(file, 'utf8')).join('\n');
  const shipped = textOf([...sources, path.join(root, 'binding.gyp')]);
  const here = [
    shipped,
    textOf(all),
    textOf([...filesOf('scripts', /\.mjs$/), ...filesOf('.', /^[^/]+\.(js|ts)$/)]),
    textOf([path.join(root, 'tsconfig.json'), path.join(root, '.ci/run')]),
    Object.values(scripts).join('\n'),
  ].join('\n');
  const binsOf = (name: string): string[] => {
    const file = path.join(root, 'node_modules', name, 'package.json');
    const { bin = {} } = (existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}) as { bin?: string | object };
    return typeof bin === 'string' ? [name] : Object.keys(bin);
  };
  const names = (text: string, name: string) =>
    [name, ...binsOf(name)].some((word) => new RegExp(`(^|[^\\w@/-])${word}([^\\w-]|$)`, 'm').test(text));
  expect(Object.keys(dependencies).filter((name) => !names(shipped, name))).toEqual([]);
  const typesOf = (name: string) => name.replace('@types/', '');
  expect(
    Object.keys(devDependencies).filter(
      (name) => !names(here, name) && !(name.startsWith('@types/') && names(here, typesOf(name))),
    ),
  ).toEqual([]);
});
