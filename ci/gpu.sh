#!/usr/bin/env bash
# Everything that needs a CUDA device: the tests on CuPy, its parity with NumPy, and benchmarks
# against torch with cuDNN.  Each part writes a record of its results, with date, device and versions.
#
#   bash ci/gpu.sh [FOLDER]      on a machine with CuPy, torch for CUDA, pytest and the library's
#                                dependencies; the records go to FOLDER (default docs/records)
#   QUICK=1 bash ci/gpu.sh       the layer benchmark times one case only
#
# If a part fails, the others still run, and the failed ones are named at the end.
set -uo pipefail
cd "$(dirname "$0")/.."
# So that ci/gpu_record.py finds the library, installed or not.
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

folder=${1:-docs/records}
python=${PYTHON:-python3}
today=$(date +%F)
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()

"$python" -m xprnn info --backend cupy || exit 1

record() {
    "$python" ci/gpu_record.py "$1" "$2" "$folder/cuda-$1-$today.json" || failed+=("$1")
}

# test_cupy_device.py runs first: if the kernels are wrong, little else matters.  test_cupy_lowering.py
# is left out, because it imitates a device on the host.
"$python" -m pytest --quiet -p no:cacheprovider -k "cupy or test_determinism" --continue-on-collection-errors \
    --junitxml "$work/tests.xml" \
    --ignore tests/test_cupy_lowering.py tests/test_cupy_device.py tests || failed+=(tests)
record tests "$work/tests.xml"

# Written even if the backends disagree.
parity="$folder/parity-$today.json"
"$python" -m xprnn parity --backends numpy,cupy --json >"$work/parity.json" || failed+=(parity)
if [ -s "$work/parity.json" ]; then
    mv "$work/parity.json" "$parity"
    printf 'written: %s\n' "$parity"
fi

bench() {
    local name=$1
    shift
    if "$python" -m xprnn bench "$@" --backend cupy --json >"$work/$name.json"; then
        record "$name" "$work/$name.json"
    else
        failed+=("$name")
    fi
}
quick=()
[ -z "${QUICK:-}" ] || quick=(--cases medium)
# With the lowered loops, and without them.
bench bench-layer layer --against torch "${quick[@]}"
XPRNN_LOWERING=off bench bench-layer-plain layer --against torch --cases medium
bench bench-train train --against torch

if [ "${#failed[@]}" -gt 0 ]; then
    printf 'failed: %s\n' "${failed[*]}" >&2
    exit 1
fi
