/** The fusion `loss-grad`: a loss and its gradient in one kernel, for every loss that names the two (`lossGrad`). */
import { defineFusion } from '../graph/fuse.js';
import { kernelDef, port } from '../graph/kernel.js';
import { joinNodes, type Join } from '../graph/rewrite.js';
import type { Node, Tensor } from '../graph/types.js';

/** A loss and the backward node that was made for it → one node, where the backward one stood. */
defineFusion('loss-grad', (nodes) => {
  const joins = nodes.flatMap((earlier): Join[] => {
    const { lossGrad } = kernelDef(earlier.kernel);
    if (!lossGrad) return [];
    const later = nodes.filter((n) => n.kernel === lossGrad.bwd && n.forward?.id === earlier.id);
    const [only] = later;
    return only && later.length === 1 ? [{ earlier, later: only, joined: join(earlier, only, lossGrad.fused) }] : [];
  });
  return joinNodes(nodes, joins);
});

function join(fwd: Node, bwd: Node, kernel: string): Node {
  const def = kernelDef(kernel);
  const find = (name: string): Tensor | null => {
    for (const n of [bwd, fwd]) {
      const d = kernelDef(n.kernel);
      if ([...d.inputs, ...d.outputs].some((p) => p.name === name)) return port(n, name);
    }
    return null;
  };
  return {
    ...bwd,
    kernel,
    inputs: def.inputs.map((p) => find(p.name)),
    outputs: def.outputs.map((p) => (p.name === 'ws' ? port(fwd, 'ws') : find(p.name))),
  };
}
