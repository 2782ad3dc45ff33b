#!/usr/bin/env bash
# Everything that must hold, in an environment of its own: style, types, imports, tests.
#
#   bash ci/test.sh              all of it
#   COVERAGE=1 bash ci/test.sh   and whether enough lines are covered
#   PYTHON=python3.13 VENV=.venv-313 bash ci/test.sh
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
venv=${VENV:-.venv-test}

"$python" -c 'import sys; sys.exit("xprnn needs Python 3.11 or newer, this is " + sys.version) if sys.version_info < (3, 11) else None'
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[dev]"

run() {
    printf '\n== %s\n' "$*"
    "$venv/bin/python" -m "$@"
}

run ruff check
run ruff format --check
run mypy
printf '\n== lint-imports\n'
"$venv/bin/lint-imports"
# As many processes as cores, one BLAS thread each: two pools of threads would wait for each other.
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# Counting lines takes half as long again as the tests themselves.
counting=()
[ "${COVERAGE:-0}" = 0 ] || counting=(--cov --cov-report=term)
run pytest --quiet --numprocesses auto "${counting[@]}"
printf '\nall checks passed\n'
