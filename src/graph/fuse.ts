/**
 * Fusion as the backend asks for it. Each pass stands in the file of its operation (`defineFusion`), takes a list of nodes
 * and gives one with the same results; here they are only applied, in a fixed order. The unfused graph always runs, so
 * tests hold one against the other.
 */
import { FUSIONS, type Fusion } from '../backend/types.js';
import { MaclError } from '../errors.js';
import type { Graph, Node } from './types.js';

/** May set views on the graph's tensors, which are the compiler's own copy. */
export type FusionPass = (nodes: readonly Node[], graph: Graph) => readonly Node[];

const passes = new Map<Fusion, FusionPass>();

export function defineFusion(name: Fusion, pass: FusionPass): void {
  if (passes.has(name)) throw new MaclError('program', `fusion ${name} is defined twice`);
  passes.set(name, pass);
}

export function fuse(graph: Graph, wanted: ReadonlySet<Fusion>): Graph {
  let { nodes } = graph;
  for (const name of FUSIONS) {
    if (!wanted.has(name)) continue;
    const pass = passes.get(name);
    if (!pass) throw new MaclError('program', `no operation defines the fusion ${name}`);
    nodes = pass(nodes, graph);
  }
  return { ...graph, nodes };
}
