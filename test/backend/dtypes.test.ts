/**
 * A tensor in a dtype that a kernel does not take is refused when the program is loaded, so that no kernel writes four bytes
 * where two are: every kernel with every one of its tensors said to be bf16, float16 and int16, on each backend.
 */
import { afterAll, describe, expect, test } from 'vitest';
import type { Session } from '../../src/backend/types.js';
import type { CompiledProgram } from '../../src/graph/compile.js';
import { kernelDef } from '../../src/graph/kernel.js';
import { encodeProgram } from '../../src/graph/program.js';
import type { DType, Node, Tensor } from '../../src/graph/types.js';
import { OPS } from '../cases/index.js';
import { openDevices } from '../golden/devices.js';
import { randomInputs } from '../golden/random.js';
import { Rig } from '../golden/rig.js';

const devices = await openDevices();
afterAll(async () => {
  for (const d of devices) await d.backend?.close();
});

/** The program with one tensor of one node in another dtype, at the same place: what a wrong graph would say. */
function lied(program: CompiledProgram, at: Node, tensor: Tensor, dtype: DType): Uint8Array {
  const { graph, plan, sizes } = program;
  const liar: Tensor = { ...tensor, dtype };
  const offsets = new Map(plan.offsets);
  if (!tensor.view) offsets.set(liar, plan.offsets.get(tensor) as number);
  const swap = (t: Tensor | null) => (t === tensor ? liar : t);
  const nodes = graph.nodes.map((n) =>
    n === at ? { ...n, inputs: n.inputs.map(swap), outputs: n.outputs.map(swap) } : n,
  );
  return encodeProgram({ ...graph, nodes }, { ...plan, offsets }, sizes);
}

describe.each(devices)('$label', ({ backend }) => {
  const run = backend ? test : test.skip;
  run('no kernel takes a tensor of two bytes but an activation, beside others of them', async () => {
    if (!backend) return;
    const seen = new Set<string>();
    const taken: string[] = [];
    for (const list of OPS) {
      if (list.lacks?.[backend.info.name]) continue;
      const [c] = list.cases;
      if (!c) continue;
      const rig = new Rig(backend);
      list.build(rig, c, randomInputs(1, list, c), { dloss: 1 });
      const program = rig.compiled();
      const session: Session = await backend.createSession({ ...program.sizes, store: 1 << 16 });
      try {
        for (const node of program.graph.nodes)
          for (const t of [...node.inputs, ...node.outputs]) {
            if (!t || t.opaque) continue;
            const def = kernelDef(node.kernel);
            const index = [...node.inputs, ...node.outputs].indexOf(t);
            const key = `${node.kernel} ${[...def.inputs, ...def.outputs][index]?.name}`;
            if (seen.has(key)) continue;
            seen.add(key);
            // The control: what is said of the tensor is all that is wrong.
            session.load(lied(program, node, t, t.dtype));
            for (const dtype of ['bf16', 'f16', 'i16'] as const) {
              try {
                session.load(lied(program, node, t, dtype));
                taken.push(`${key} ${dtype}`);
              } catch (error) {
                expect(error).toMatchObject({ code: 'program' });
              }
            }
          }
      } finally {
        await session.close();
      }
    }
    // Whose one activation is all that there is: nothing else says what it is held in.
    const alone = ['fill_fwd y bf16', 'normact_stats x bf16', 'warp3d_fwd y bf16'];
    const { precisions, real } = backend.info;
    expect(taken.sort()).toEqual(real === 'f32' && precisions.includes('bf16') ? alone : []);
    expect(seen.size).toBeGreaterThan(100);
  });
});
