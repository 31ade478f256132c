// A local eslint rule: dependencies point one way. A file under src/<folder> may import its own folder and those below
// it. One exception: backend reads src/graph/types.ts, the vocabulary that programs are written in. Folders that must run
// in a browser import no Node module.
import { builtinModules } from 'node:module';
import path from 'node:path';

/** Lower may not import higher; equal ranks in different folders stand beside each other and do not meet. */
const RANK = {
  errors: 0,
  volume: 0,
  breathe: 0,
  philox: 0,
  half: 0,
  'program-record': 0,
  arithmetic: 0,
  precision: 0,
  options: 0,
  realm: 0,
  suggest: 0,
  words: 0,
  settings: 0,
  paths: 0,
  backend: 1,
  graph: 2,
  ops: 3,
  nn: 4,
  losses: 4,
  data: 4,
  backbones: 4.5,
  methods: 5,
  config: 5.5,
  model: 6,
  segment: 5,
  report: 6,
  predict: 7,
  step: 7,
  train: 8,
  quickstart: 9,
  api: 10,
  index: 11,
  cli: 12,
  server: 12,
};
const BROWSER = new Set([
  'errors',
  'volume',
  'breathe',
  'philox',
  'half',
  'program-record',
  'arithmetic',
  'precision',
  'options',
  'realm',
  'suggest',
  'words',
  'settings',
  'config',
  'backbones',
  'graph',
  'ops',
  'nn',
  'losses',
  'methods',
  'segment',
]);
const VOCABULARY = path.join('src', 'graph', 'types.js');
const builtins = new Set(builtinModules);

function layerOf(file, root) {
  const parts = path.relative(path.join(root, 'src'), file).split(path.sep);
  return parts[0] === '..' ? undefined : parts[0].replace(/\.[cm]?[jt]s$/, '');
}

export const direction = {
  meta: {
    type: 'problem',
    schema: [],
    messages: {
      direction: '{{from}} must not import {{to}}: dependencies point from cli down to backend',
      unknown: 'src/{{layer}} has no place in the order of folders (scripts/eslint-direction.mjs)',
      node: '{{from}} runs in a browser too and must not import {{what}}',
      outside: 'src must not import {{what}}, which is outside it',
    },
  },
  create(context) {
    const root = context.cwd;
    const from = layerOf(context.filename, root);
    if (from === undefined) return {};
    const check = (node) => {
      const specifier = node.source?.value;
      if (typeof specifier !== 'string') return;
      if (!specifier.startsWith('.')) {
        const isNode = specifier.startsWith('node:') || builtins.has(specifier);
        if (isNode && BROWSER.has(from)) context.report({ node, messageId: 'node', data: { from, what: specifier } });
        return;
      }
      const target = path.resolve(path.dirname(context.filename), specifier);
      const to = layerOf(target, root);
      if (to === undefined) return context.report({ node, messageId: 'outside', data: { what: specifier } });
      for (const layer of [from, to]) {
        if (RANK[layer] === undefined) return context.report({ node, messageId: 'unknown', data: { layer } });
      }
      if (from === to || RANK[to] < RANK[from]) return;
      if (from === 'backend' && target === path.join(root, VOCABULARY)) return;
      if (RANK[from] === 0 && RANK[to] === 0) return;
      context.report({ node, messageId: 'direction', data: { from, to } });
    };
    return {
      ImportDeclaration: check,
      ImportExpression: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
    };
  },
};
