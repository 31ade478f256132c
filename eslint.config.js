// Lint rules: the recommended sets, and the direction of imports (scripts/eslint-direction.mjs).
import js from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';
import { direction } from './scripts/eslint-direction.mjs';

const nodeGlobals = Object.fromEntries(
  [
    'process',
    'console',
    'Buffer',
    'URL',
    'WebAssembly',
    'setTimeout',
    'clearTimeout',
    'setImmediate',
    'performance',
    'AbortController',
    'structuredClone',
    'TextEncoder',
    'TextDecoder',
  ].map((name) => [name, 'readonly']),
);

export default defineConfig(
  {
    ignores: ['.cache/', 'dist/', 'dist-bench/', 'build/', 'build-cmake/', 'build-fuzz/', 'coverage/', 'node_modules/'],
  },
  js.configs.recommended,
  {
    files: ['**/*.{js,mjs,cjs}'],
    languageOptions: {
      globals: {
        ...nodeGlobals,
        require: 'readonly',
        module: 'readonly',
        __dirname: 'readonly',
        __filename: 'readonly',
      },
    },
  },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommended],
    rules: {
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  {
    files: ['src/**/*.ts'],
    plugins: { macl: { rules: { direction } } },
    rules: {
      'macl/direction': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      'no-restricted-syntax': [
        'error',
        {
          selector: "BinaryExpression[operator='instanceof'][right.name!='MaclError']",
          message: 'A value of another realm (Jest, vm, Electron) is no instance: src/realm.ts asks what it is.',
        },
      ],
    },
  },
  // The fast path of prediction and training in other threads stays out of tests' way; tests may use any.
  { files: ['test/**/*.ts', 'bench/**/*.ts'], rules: { '@typescript-eslint/no-explicit-any': 'off' } },
);
