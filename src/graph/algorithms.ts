/**
 * The choice of an algorithm for each kernel that has several. A pass stands in the file of its operation (`defineAlgorithms`); it
 * goes by shapes and the instruction set alone, never by a clock, so that equal programs have equal bits on every machine.
 */
import type { Arithmetic } from '../arithmetic.js';
import type { Graph } from './types.js';

export interface Choosing {
  readonly arithmetic: Arithmetic;
  /** Of the backend that the graph is compiled for (`BackendInfo.isa`). */
  readonly isa: string;
}

/** Gets the compiler's own copy of a graph, and gives one with the same results within rounding. */
export type AlgorithmPass = (graph: Graph, choosing: Choosing) => Graph;

const passes: AlgorithmPass[] = [];

export function defineAlgorithms(pass: AlgorithmPass): void {
  passes.push(pass);
}

export function chooseAlgorithms(graph: Graph, choosing: Choosing): Graph {
  return passes.reduce((g, pass) => pass(g, choosing), graph);
}
