#!/usr/bin/env bash
# What must hold, in an environment of its own: style, types, imports, tests.
#
#   bash ci/test.sh              all of it
#   bash ci/test.sh quick        while you work: of the tests, those on plain NumPy that neither
#                                compile anything nor start processes
#   FULL=1 bash ci/test.sh       the long ones as well: whole trainings of examples and commands,
#                                every cell on JAX, every formula through Numba, the site, and
#                                inspect.html in a browser where there is one (see BROWSER)
#   GUESTS=1 bash ci/test.sh     only the tests with array libraries that xprnn doesn't know (dpnp,
#                                marray, Dask, array-api-compat's torch), in .venv-guests; dpnp
#                                brings a runtime for the CPU (1 GB)
#   BROWSER=1 bash ci/test.sh    only the tests of inspect.html in a browser, Chromium: the system's
#                                (apt-get install chromium), or one that playwright fetches (180 MB)
#   COVERAGE=1 bash ci/test.sh   and whether enough lines are covered
#   PYTHON=python3.13 VENV=.venv-313 bash ci/test.sh
set -euo pipefail
cd "$(dirname "$0")/.."

quick=
case $* in
    "") ;;
    quick) quick=yes ;;
    *) echo "ci/test.sh: unknown argument '$*': expected nothing or 'quick'" >&2 && exit 2 ;;
esac

python=${PYTHON:-python3}
venv=${VENV:-.venv-test}

"$python" -c 'import sys; sys.exit("xprnn needs Python 3.11 or newer, this is " + sys.version) if sys.version_info < (3, 11) else None'
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# Installing takes seconds even where everything is there.
stamp=$venv/installed-pyproject.toml
if [ -z "$quick" ] || ! cmp -s pyproject.toml "$stamp"; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
    cp pyproject.toml "$stamp"
fi

run() {
    printf '\n== %s\n' "$*"
    "$venv/bin/python" -m "$@"
}

if [ "${GUESTS:-0}" != 0 ]; then
    guests=${GUESTS_VENV:-.venv-guests}
    [ -x "$guests/bin/python" ] || "$python" -m venv "$guests"
    "$guests/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[cli]" \
        pytest array-api-strict mpmath "dpnp>=0.20" "marray>=0.0.12" dask
    # torch is in the other environment: its wheels for a GPU are large.
    for one in "$guests" "$venv"; do
        printf '\n== guests in %s\n' "$one"
        # The OpenCL runtime of dpnp is where no loader looks for it.
        GUESTS=1 OCL_ICD_FILENAMES=$PWD/$guests/lib/libintelocl.so OMP_NUM_THREADS=1 \
            "$one/bin/python" -m pytest --quiet tests/guests
    done
    exit
fi

if [ "${BROWSER:-0}" != 0 ]; then
    venv=${BROWSER_VENV:-.venv-browser}
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[cli]" \
        pytest hypothesis array-api-strict "playwright>=1.50"
    command -v chromium chromium-browser google-chrome > /dev/null || run playwright install chromium
    BROWSER=1 run pytest --quiet tests/test_inspection_browser.py
    exit
fi

run ruff check
run ruff format --check
run mypy
printf '\n== lint-imports\n'
"$venv/bin/lint-imports"
# As many processes as cores, one BLAS thread each: two pools of threads would wait for each other.
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
options=()
[ -z "$quick" ] || options+=(-m "not slow and not another_flavour")
# Counting lines takes half as long again as the tests themselves.
[ "${COVERAGE:-0}" = 0 ] || options+=(--cov --cov-report=term)
run pytest --quiet --numprocesses auto "${options[@]}"
if [ "${FULL:-0}" != 0 ]; then
    printf '\n== the site\n'
    PYTHON=$python bash ci/docs.sh
fi
not_run="inspect.html in a browser (BROWSER=1 bash ci/test.sh)"
if [ "${FULL:-0}" != 0 ]; then
    if command -v chromium chromium-browser google-chrome > /dev/null ||
        compgen -G "$HOME/.cache/ms-playwright/chromium*" > /dev/null; then
        printf '\n== inspect.html in a browser\n'
        FULL=0 BROWSER=1 PYTHON=$python bash ci/test.sh
        not_run=
    else
        not_run+=", for want of Chromium"
    fi
fi
printf '\nall checks passed\n'
[ -z "$not_run" ] || printf 'not run: %s\n' "$not_run"
