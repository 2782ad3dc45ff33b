#!/usr/bin/env bash
# Everything that needs a CUDA device, the most important first, in at most eight minutes: one step
# against NumPy, the time loops against each other, two devices, ranks over NCCL, parity, one layer
# and whole training steps against torch with cuDNN, where a device pays, the tests.  Each part
# writes its record, with date, device and versions, while it runs, so whatever ends a part leaves
# what was found until then.
#
#   bash ci/gpu.sh [FOLDER]               the records go to FOLDER (default docs/records)
#   BUDGET=240 bash ci/gpu.sh             seconds in all (default 480): a part that no longer fits is
#                                         cut or left out, and that is said
#   PARTS="smoke layer" bash ci/gpu.sh    these parts alone: smoke loops devices ranks parity layer
#                                         train crossover tests
#   SKIP="tests" bash ci/gpu.sh           all but these
#   TRIAL=1 bash ci/gpu.sh                with tiny sizes: does the script itself work?
#
# It needs Python 3.11, NumPy, array-api-compat and CuPy; torch for the comparisons and pytest for
# the tests, which are left out without them.  A part that fails does not stop the others.
set -uo pipefail
cd "$(dirname "$0")/.."
# So that the library is found, installed or not.
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m ci.gpu.run "$@"
