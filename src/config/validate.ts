/**
 * A value held against a JSON schema: the keywords that `schema.ts` uses, with errors as ajv reports them (a test holds the
 * two together). Compiling the schema with ajv took a quarter of a second of every start, in which nothing else could run.
 */
import type { JsonSchema } from '../settings/json-schema.js';

export interface Violation {
  /** A JSON pointer. */
  readonly instancePath: string;
  readonly keyword: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly parentSchema: JsonSchema;
  readonly data: unknown;
}

const isObject = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v);

const TYPES: Readonly<Record<string, (value: unknown) => boolean>> = {
  object: isObject,
  array: Array.isArray,
  string: (v) => typeof v === 'string',
  boolean: (v) => typeof v === 'boolean',
  null: (v) => v === null,
  number: Number.isFinite,
  integer: Number.isInteger,
};

const LIMITS: Readonly<Record<string, (value: number, limit: number) => boolean>> = {
  maximum: (v, limit) => v <= limit,
  minimum: (v, limit) => v >= limit,
  exclusiveMaximum: (v, limit) => v < limit,
  exclusiveMinimum: (v, limit) => v > limit,
};

const step = (path: string, key: string | number): string =>
  `${path}/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`;

/** What is wrong; empty where nothing is. It ends with the first keyword that does not hold. */
export function violations(schema: JsonSchema, value: unknown, path = ''): Violation[] {
  const wrong = (keyword: string, params: Violation['params'] = {}): Violation[] => [
    { instancePath: path, keyword, params, parentSchema: schema, data: value },
  ];
  if (schema.type !== undefined && !TYPES[schema.type as string]!(value)) return wrong('type', { type: schema.type });
  if (typeof value === 'number')
    for (const [keyword, holds] of Object.entries(LIMITS)) {
      const limit = schema[keyword];
      if (limit !== undefined && !holds(value, limit as number)) return wrong(keyword, { limit });
    }
  if (schema.const !== undefined && value !== schema.const) return wrong('const', { allowedValue: schema.const });
  const allowed = schema.enum as readonly unknown[] | undefined;
  if (allowed && !allowed.includes(value)) return wrong('enum', { allowedValues: allowed });
  if (schema.anyOf !== undefined) {
    const branches = (schema.anyOf as readonly JsonSchema[]).map((branch) => violations(branch, value, path));
    if (branches.every((found) => found.length > 0)) return [...branches.flat(), ...wrong('anyOf')];
  }
  if (Array.isArray(value)) return inList(schema, value, path, wrong);
  return isObject(value) ? inObject(schema, value, path, wrong) : [];
}

type Wrong = (keyword: string, params?: Violation['params']) => Violation[];

function inList(schema: JsonSchema, value: readonly unknown[], path: string, wrong: Wrong): Violation[] {
  for (const [keyword, holds] of [
    ['maxItems', value.length <= Number(schema.maxItems ?? Infinity)],
    ['minItems', value.length >= Number(schema.minItems ?? 0)],
  ] as const)
    if (!holds) return wrong(keyword, { limit: schema[keyword] });
  if (schema.items === undefined) return [];
  for (const [n, item] of value.entries()) {
    const found = violations(schema.items as JsonSchema, item, step(path, n));
    if (found.length > 0) return found;
  }
  return [];
}

function inObject(schema: JsonSchema, value: Record<string, unknown>, path: string, wrong: Wrong): Violation[] {
  for (const missingProperty of (schema.required ?? []) as readonly string[])
    if (value[missingProperty] === undefined) return wrong('required', { missingProperty });
  const properties = (schema.properties ?? {}) as Readonly<Record<string, JsonSchema>>;
  if (schema.additionalProperties === false)
    for (const additionalProperty in value)
      if (!Object.hasOwn(properties, additionalProperty)) return wrong('additionalProperties', { additionalProperty });
  for (const [key, inner] of Object.entries(properties)) {
    if (value[key] === undefined) continue;
    const found = violations(inner, value[key], step(path, key));
    if (found.length > 0) return found;
  }
  return [];
}
