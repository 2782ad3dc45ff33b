#!/usr/bin/env bash
# The documentation as a site, in build/site; a warning ends it.
#
#   bash ci/docs.sh              all of it: the examples are run (about a minute), their results kept
#   EXAMPLES=0 bash ci/docs.sh   without running the examples
#   VENV=.venv-docs bash ci/docs.sh
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
venv=${VENV:-.venv-docs}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
stamp=$venv/installed-docs-pyproject.toml
if ! cmp -s pyproject.toml "$stamp"; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
    cp pyproject.toml "$stamp"
fi

# Pages of objects that are gone would be read again.
rm -rf docs/generated/api/objects
"$venv/bin/python" -m sphinx --quiet --fail-on-warning --keep-going --builder html \
    --doctree-dir build/site-doctrees docs build/site
printf 'the site: build/site/index.html\n'
