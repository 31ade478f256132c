/** Cases of linear: x [N, I], w [O, I]. */
export interface LinearCase {
  readonly name: string;
  readonly n: number;
  readonly inputs: number;
  readonly out: number;
  readonly bias: boolean;
  readonly golden: boolean;
  readonly gradcheck: boolean;
}

export const cases: readonly LinearCase[] = [
  { name: 'odd', n: 3, inputs: 13, out: 7, bias: true, golden: true, gradcheck: true },
  { name: 'projector', n: 2, inputs: 20, out: 128, bias: true, golden: true, gradcheck: false },
  { name: 'wide', n: 5, inputs: 33, out: 18, bias: false, golden: true, gradcheck: true },
  { name: 'large', n: 16, inputs: 256, out: 128, bias: true, golden: false, gradcheck: false },
];
