// As much of vitest as the tests of the bundle use, for a machine that has Node and nothing else: the same assertions
// (@vitest/expect), a runner of a few lines. Test files import it as 'vitest'; run.mjs runs what they declared.
import { JestAsymmetricMatchers, JestChaiExpect, JestExtend, getState, setState, GLOBAL_EXPECT } from '@vitest/expect';
import * as chai from 'chai';

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);

export const expect = Object.assign((value, message) => chai.expect(value, message), chai.expect, {
  getState: () => getState(expect),
  setState: (state) => setState(state, expect),
});
globalThis[GLOBAL_EXPECT] ??= expect;
setState({ assertionCalls: 0, isExpectingAssertions: false, testPath: '', currentTestName: '' }, expect);

const newSuite = (title, parent, skipped) => ({
  title,
  parent,
  skipped,
  items: [],
  before: [],
  after: [],
  eachAfter: [],
});
let current = newSuite('', null, false);

/** What was declared since the last call. */
export function takeSuite() {
  const suite = current;
  current = newSuite('', null, false);
  return suite;
}

function declare(title, body, skipped) {
  const suite = newSuite(title, current, skipped);
  current.items.push({ suite });
  current = suite;
  try {
    body();
  } finally {
    current = suite.parent;
  }
}
const declareTest = (title, body, skipped) => current.items.push({ title, body, skipped });

/** `%s`, `%i` in order, `$name` of an object. */
function titleOf(title, values) {
  const [first] = values;
  let i = 0;
  const filled = title.replace(/%[sid]/g, () => String(values[i++]));
  return filled.replace(/\$(\w+)/g, (all, name) =>
    Object(first) === first && name in first ? String(first[name]) : all,
  );
}

function withVariants(make) {
  const declared = (title, body) => make(title, body, false);
  declared.skip = (title, body) => make(title, body, true);
  declared.skipIf = (condition) => (condition ? declared.skip : declared);
  const each = (skipped) => (list) => (title, body) => {
    for (const one of list) {
      const values = Array.isArray(one) ? one : [one];
      make(titleOf(title, values), (context) => body(...values, context), skipped);
    }
  };
  declared.each = each(false);
  declared.skip.each = each(true);
  return declared;
}

export const describe = withVariants(declare);
export const test = withVariants(declareTest);
export const it = test;
export const beforeAll = (hook) => void current.before.push(hook);
export const afterAll = (hook) => void current.after.push(hook);
export const afterEach = (hook) => void current.eachAfter.push(hook);
