/**
 * A strict JSON reader for files that come from elsewhere: it refuses a doubled key, which `JSON.parse` takes in
 * silence, and gives Maps, so that `__proto__` is a key like any other. It is for small documents (headers).
 */
export type JsonValue = string | number | boolean | null | JsonValue[] | Map<string, JsonValue>;

/** Nesting that any of our documents stays far below. */
const MAX_DEPTH = 64;

const SCALAR = /(?:-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null)/y;
// eslint-disable-next-line no-control-regex -- what JSON takes only as an escape
const NOT_PLAIN = /[\\\u0000-\u001f]/;

/** `JSON.parse` for documents of any size that come from elsewhere: nesting is looked at before anything is built. */
export function parseJson(text: string): unknown {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const c = text.charCodeAt(at);
    if (c === 0x22) {
      for (at++; at < text.length && text.charCodeAt(at) !== 0x22; at++) if (text.charCodeAt(at) === 0x5c) at++;
    } else if (c === 0x5b || c === 0x7b) {
      if (++depth > MAX_DEPTH) throw new SyntaxError(`nested deeper than ${MAX_DEPTH} levels at character ${at}`);
    } else if (c === 0x5d || c === 0x7d) depth--;
  }
  return JSON.parse(text) as unknown;
}

/** Parses `text`. Throws Error with the position; the caller names file and field. */
export function parseStrictJson(text: string): JsonValue {
  let at = 0;
  const fail = (what: string): never => {
    throw new Error(`${what} at character ${at}`);
  };
  const space = (): void => {
    while (at < text.length && ' \t\r\n'.includes(text[at]!)) at++;
  };
  const string = (): string => {
    const start = at;
    at++;
    // Nearly every string has no escape: found and taken in one go.
    const end = text.indexOf('"', at);
    const plain = end < 0 ? '' : text.slice(at, end);
    if (end >= 0 && !NOT_PLAIN.test(plain)) {
      at = end + 1;
      return plain;
    }
    for (; at < text.length; at++) {
      const c = text[at];
      if (c === '\\') at++;
      else if (c === '"') {
        at++;
        return JSON.parse(text.slice(start, at)) as string;
      }
    }
    return fail('unterminated string');
  };
  const value = (depth: number): JsonValue => {
    if (depth > MAX_DEPTH) fail('nesting too deep');
    space();
    const c = text[at];
    if (c === '"') return string();
    if (c === '{') return object(depth);
    if (c === '[') return array(depth);
    SCALAR.lastIndex = at;
    const found = SCALAR.exec(text);
    if (!found) return fail('not JSON');
    const result = JSON.parse(found[0]) as number | boolean | null;
    at += found[0].length;
    return result;
  };
  const array = (depth: number): JsonValue[] => {
    const out: JsonValue[] = [];
    at++;
    space();
    if (text[at] === ']') {
      at++;
      return out;
    }
    for (;;) {
      out.push(value(depth + 1));
      space();
      const c = text[at++];
      if (c === ']') return out;
      if (c !== ',') fail('expected , or ]');
    }
  };
  const object = (depth: number): Map<string, JsonValue> => {
    const out = new Map<string, JsonValue>();
    at++;
    space();
    if (text[at] === '}') {
      at++;
      return out;
    }
    for (;;) {
      space();
      if (text[at] !== '"') fail('expected a key');
      const key = string();
      if (out.has(key)) fail(`key ${JSON.stringify(key)} is there twice,`);
      space();
      if (text[at++] !== ':') fail('expected :');
      out.set(key, value(depth + 1));
      space();
      const c = text[at++];
      if (c === '}') return out;
      if (c !== ',') fail('expected , or }');
    }
  };
  const result = value(0);
  space();
  if (at !== text.length) fail('something follows the value');
  return result;
}
