/** Small words around numbers, for people. */

/** `1 case`, `2 cases`. */
export const counted = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`;
