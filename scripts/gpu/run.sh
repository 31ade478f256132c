#!/usr/bin/env bash
# On a machine with a card and its driver, from this folder:
#   ./run.sh correctness   every operation, fusions, whole steps, the backend's own tests: on cuda, beside the reference
#   ./run.sh rehearse      the same on cuda-host, without a card: minutes
#   ./run.sh bench         step and inference times on cuda, JSON and a table
#   ./run.sh macl …        the command line
# Results lie in $OUT (this folder without it). MACL_RESUME=1 goes on where an earlier `correctness` stopped.
set -uo pipefail
cd "$(dirname "$0")"
export OUT=${OUT:-$PWD}
export MACL_COMMIT=$(cat commit 2> /dev/null)
node=$PWD/node
if [[ ! -x $node ]]; then
  if [[ -f node.xz ]] && xz -dkc node.xz > node.part 2> /dev/null && chmod +x node.part && ./node.part -e 0; then
    mv node.part node
  elif command -v node > /dev/null; then
    node=$(command -v node)
  else
    echo "no Node here, and none in the bundle that runs" >&2
    exit 1
  fi
fi
case ${1:-} in
  correctness)
    export MACL_TEST_DEVICES=${MACL_TEST_DEVICES:-reference,cuda}
    "$node" test/golden/macl.js inspect
    "$node" test/golden/run.js test/golden/{ops,optim,edges,warp3d,fused,step,threads,cuda}.test.js
    ;;
  rehearse)
    MACL_TEST_DEVICES=reference,cuda-host exec ./run.sh correctness
    ;;
  bench)
    shift
    mkdir -p bench/results
    "$node" test/golden/step.bench.js --device "${MACL_BENCH_DEVICE:-cuda}" --save "$@" && cp bench/results/*.json "$OUT"/
    ;;
  macl)
    shift
    "$node" test/golden/macl.js "$@"
    ;;
  *)
    sed -n '2,7p' "$0"
    exit 2
    ;;
esac
