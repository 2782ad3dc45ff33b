#!/usr/bin/env bash
# What needs a CUDA device: the tests on CuPy, its parity with NumPy, and records of what ran where.
#
#   bash ci/gpu.sh [FOLDER]      on a machine with CuPy, pytest and the library's dependencies;
#                                the records go to FOLDER (default docs/records)
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-docs/records}
python=${PYTHON:-python3}
mkdir -p "$folder"

"$python" -m xprnn info --backend cupy
"$python" -m pytest --quiet -p no:cacheprovider -k cupy --junitxml "$folder/cuda-tests.xml" tests
"$python" - "$folder" <<'PYTHON'
import datetime
import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cupy
import xprnn

folder = Path(sys.argv[1])
suite = ElementTree.parse(folder / "cuda-tests.xml").getroot().find("testsuite")
counts = {k: int(suite.get(k)) for k in ("tests", "failures", "errors", "skipped")}
properties = cupy.cuda.runtime.getDeviceProperties(0)
today = datetime.date.today().isoformat()
record = {
    "date": today,
    "device": properties["name"].decode(),
    "versions": {
        "xprnn": xprnn.__version__,
        "cupy": cupy.__version__,
        "cuda": cupy.cuda.runtime.runtimeGetVersion(),
        "python": sys.version.split()[0],
    },
    "tests": counts,
}
path = folder / f"cuda-tests-{today}.json"
path.write_text(json.dumps(record, indent=2) + "\n")
(folder / "cuda-tests.xml").unlink()
print(f"written: {path}")
if counts["skipped"] == counts["tests"]:
    sys.exit("every test was skipped: no CUDA device was used")
PYTHON

# Date, versions, device and every error; written whatever they are.
parity="$folder/parity-$(date +%F).json"
status=0
"$python" -m xprnn parity --backends numpy,cupy --json >"$parity" || status=$?
printf 'written: %s\n' "$parity"
[ "$status" -eq 0 ] || printf 'no parity of CuPy and NumPy: see there\n' >&2
exit "$status"
