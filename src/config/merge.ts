/** Laying partial configurations over each other. Lists replace lists, objects are merged; `undefined` is absent. */

type Plain = { readonly [key: string]: unknown };

const isPlain = (v: unknown): v is Plain => typeof v === 'object' && v !== null && !Array.isArray(v);

function merge2(below: unknown, above: unknown): unknown {
  if (above === undefined) return below;
  if (!isPlain(above)) return above;
  const out: Record<string, unknown> = isPlain(below) ? { ...below } : {};
  for (const [key, value] of Object.entries(above)) {
    if (value !== undefined) out[key] = merge2(out[key], value);
  }
  return out;
}

/** Later layers win. Keys have been checked by the schema before. */
export function mergeConfig<T extends object>(...layers: readonly (object | undefined)[]): T {
  return layers.reduce<unknown>((below, layer) => merge2(below, layer), {}) as T;
}
