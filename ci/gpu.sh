#!/usr/bin/env bash
# What needs a CUDA device, in one call: the tests on CuPy, its parity with NumPy, benchmarks against
# torch with cuDNN; and records of what ran where.
#
#   bash ci/gpu.sh [FOLDER]      on a machine with CuPy, torch for CUDA, pytest and the library's
#                                dependencies; the records go to FOLDER (default docs/records)
#
# A part that fails is named at the end, and the others run nevertheless.  QUICK=1 times one case.
set -uo pipefail
cd "$(dirname "$0")/.."

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

# The kernels first: if they are wrong, little else is worth a look.  What stands in for a device is
# no proof here.
"$python" -m pytest --quiet -p no:cacheprovider -k "cupy or test_determinism" --continue-on-collection-errors \
    --junitxml "$work/tests.xml" \
    --ignore tests/test_cupy_lowering.py tests/test_cupy_device.py tests || failed+=(tests)
record tests "$work/tests.xml"

# Date, versions, device and every error; written whatever they are.
parity="$folder/parity-$today.json"
"$python" -m xprnn parity --backends numpy,cupy --json >"$work/parity.json" || failed+=(parity)
if [ -s "$work/parity.json" ]; then
    mv "$work/parity.json" "$parity"
    printf 'written: %s\n' "$parity"
fi

# With the lowered loops, and without: what they change on the device.
bench() {
    local name=$1
    shift
    if ! "$python" -m xprnn bench "$1" --help >/dev/null 2>&1; then
        printf 'xprnn bench %s: not there yet\n' "$1"
    elif "$python" -m xprnn bench "$@" --backend cupy --json >"$work/$name.json"; then
        record "$name" "$work/$name.json"
    else
        failed+=("$name")
    fi
}
quick=()
[ -z "${QUICK:-}" ] || quick=(--cases medium)
bench bench-layer layer --against torch "${quick[@]}"
XPRNN_LOWERING=off bench bench-layer-plain layer --against torch --cases medium
bench bench-train train --against torch

if [ "${#failed[@]}" -gt 0 ]; then
    printf 'failed: %s\n' "${failed[*]}" >&2
    exit 1
fi
