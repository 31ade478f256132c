#!/usr/bin/env bash
# The experiment of docs/hippocampus.md: 21 labelled cases, from scratch and after pre-training on all volumes without
# labels, measured on the cases that no fine-tuning saw. Usage: run.sh DATASET OUT [flags for every training command]
set -euo pipefail
data=$1 out=$2
shift 2
list=$data/splits.json#labeled10
macl=(node "$(dirname "$0")/../../dist/cli/main.js")
mkdir -p "$out/unseen"

# The unseen cases: all of imagesTr that the list does not name.
node -e '
  const fs = require("fs"), path = require("path");
  const [data, out] = process.argv.slice(1);
  const seen = new Set(JSON.parse(fs.readFileSync(path.join(data, "splits.json"))).labeled10);
  for (const f of fs.readdirSync(path.join(data, "imagesTr"))) {
    if (f.startsWith(".") || !/\.nii(\.gz)?$/.test(f) || seen.has(f.replace(/\.nii(\.gz)?$/, ""))) continue;
    const to = path.join(out, "unseen", f);
    if (!fs.existsSync(to)) fs.symlinkSync(path.resolve(data, "imagesTr", f), to);
  }' "$data" "$out"

resume() { [[ -e $1/config.json ]] && echo --resume || true; }
step() { echo "== $*" >&2; local start=$SECONDS; "$@"; echo "== $((SECONDS - start)) s" >&2; }

step "${macl[@]}" finetune --data "$data" --labels "$list" --out "$out/scratch" $(resume "$out/scratch") "$@"
step "${macl[@]}" pretrain --data "$data" --out "$out/pretrain" $(resume "$out/pretrain") "$@"
step "${macl[@]}" finetune --data "$data" --labels "$list" --init "$out/pretrain" --out "$out/pretrained" $(resume "$out/pretrained") "$@"
for run in scratch pretrained; do
  step "${macl[@]}" predict --model "$out/$run" --input "$out/unseen" --out "$out/pred-$run"
done
"${macl[@]}" evaluate --pred "$out/pred-scratch" --labels "$data/labelsTr" --json > "$out/scratch.json"
"${macl[@]}" evaluate --pred "$out/pred-pretrained" --labels "$data/labelsTr" --against "$out/pred-scratch" --json > "$out/pretrained.json"
"${macl[@]}" evaluate --pred "$out/pred-pretrained" --labels "$data/labelsTr" --against "$out/pred-scratch"
