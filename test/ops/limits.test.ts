/** What the kernels hold at most is refused by the operations themselves, with a name for it. */
import { describe, expect, it } from 'vitest';
import { readFileSync } from 'node:fs';
import { CLASSES, CONTRASTED } from '../../src/settings/limits.js';
import { MaclError } from '../../src/errors.js';
import { GraphBuilder } from '../../src/graph/builder.js';
import { densesupcon, dice, softmaxce, supcon } from '../../src/ops/index.js';

const refused = (build: (b: GraphBuilder) => unknown): MaclError | null => {
  try {
    build(new GraphBuilder('f32'));
  } catch (error) {
    if (error instanceof MaclError) return error;
    throw error;
  }
  return null;
};
const contrast = (op: typeof supcon, batch: number) => (b: GraphBuilder) => {
  const z = (name: string) => b.input(name, [batch, 1, 1, 1, 4]);
  const pos = b.input('pos', [batch, 1, 1, 1, 1], 'f64');
  return op(b, z('z1'), z('z2'), pos, { temperature: 0.1, threshold: 0.1 });
};
const segment = (op: typeof softmaxce | typeof dice, classes: number) => (b: GraphBuilder) =>
  op(b, b.input('x', [1, 1, 2, 2, classes]), b.input('y', [1, 1, 2, 2, 1], 'i32'));

describe('limits', () => {
  it.each([
    ['supcon', supcon],
    ['densesupcon', densesupcon],
  ])('%s: samples', (_name, op) => {
    expect(refused(contrast(op, 256))).toBeNull();
    const error = refused(contrast(op, 257));
    expect(error).toMatchObject({ code: 'config', details: { field: 'train.batch', found: 257 } });
    expect(error?.message).toMatch(/supcon: train\.batch: expected at most 256 .*found 257/);
  });
  it.each([
    ['softmaxce', softmaxce],
    ['dice', dice],
  ])('%s: classes', (name, op) => {
    expect(refused(segment(op, 128))).toBeNull();
    const error = refused(segment(op, 129));
    expect(error).toMatchObject({ code: 'config', details: { field: 'model.classes', found: 129 } });
    expect(error?.message).toMatch(new RegExp(`${name}: model\\.classes: expected at most 128 .*found 129`));
  });
  it("are the kernels'", () => {
    const source = (name: string) => readFileSync(new URL(`../../native/kernels/${name}`, import.meta.url), 'utf8');
    expect(source('supcon.h')).toContain(`kMaxVectors = ${2 * CONTRASTED.most};`);
    expect(source('losses_softmax.h')).toContain(`kMaxClasses = ${CLASSES.most};`);
  });
});
