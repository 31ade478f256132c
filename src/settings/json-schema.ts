/**
 * The words that the schema of a configuration is written in, wherever a part of it stands (a method's loss stands with the
 * method). Plain JSON schema; what holds a value against it is `config/validate.ts`.
 */

/** A JSON schema: plain data. */
export type JsonSchema = { readonly [key: string]: unknown };

export const object = (
  description: string,
  properties: Record<string, JsonSchema>,
  required: string[] = [],
): JsonSchema => ({
  type: 'object',
  description,
  additionalProperties: false,
  ...(required.length > 0 ? { required } : {}),
  properties,
});
export const oneOf = (description: string, ...values: (string | number | boolean)[]): JsonSchema => ({
  enum: values,
  description,
});
export const integer = (minimum: number, maximum: number, description: string): JsonSchema => ({
  type: 'integer',
  minimum,
  maximum,
  description,
});
export const number = (minimum: number, maximum: number, description: string): JsonSchema => ({
  type: 'number',
  minimum,
  maximum,
  description,
});
export const positive = (description: string): JsonSchema => ({
  type: 'number',
  exclusiveMinimum: 0,
  maximum: 1e6,
  description,
});
export const list = (items: JsonSchema, minItems: number, maxItems: number, description: string): JsonSchema => ({
  type: 'array',
  items,
  minItems,
  maxItems,
  description,
});
export const either = (description: string, ...anyOf: JsonSchema[]): JsonSchema => ({ description, anyOf });
export const orNull = (schema: JsonSchema): JsonSchema =>
  either(`${String(schema.description)}, or null`, schema, { type: 'null' });
