#!/usr/bin/env bash
# A release, built and tried as its users will have it: nothing is uploaded.
#
#   bash ci/release.sh           build wheel and sdist into build/dist, check them, and install the
#                                wheel into empty environments: each Python that is found, with the
#                                lowest and the newest versions that pyproject.toml allows
#   PYTHONS="3.11 3.13" bash ci/release.sh
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD

python=${PYTHON:-python3}
venv=${VENV:-.venv-release}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check build twine uv "pyright[nodejs]"
bin=$PWD/$venv/bin

rm -rf build/dist
"$bin/python" -m build --outdir build/dist > /dev/null
"$bin/python" -m twine check --strict build/dist/*
wheel=$(echo "$PWD"/build/dist/*.whl)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# What a new user does: the README's command, and its Python from top to bottom.
cat > readme.py <<'PYTHON'
import re
import sys
from pathlib import Path

text = Path(sys.argv[1]).read_text("utf-8")
names = {"__name__": "readme"}
for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
    exec(code, names)
PYTHON

# Print what a command says only if it fails.
quiet() {
    "$@" > log 2>&1 || { cat log >&2 && exit 1; }
}

uv() {
    VIRTUAL_ENV=$work/env "$bin/uv" "$@"
}

for version in ${PYTHONS:-3.11 3.12 3.13 3.14}; do
    found=
    for one in "python$version" "$HOME/.pyenv/versions/$version".*/bin/python; do
        if "$one" -c "import sys; assert '%d.%d' % sys.version_info[:2] == '$version'" 2> /dev/null; then
            found=$one
        fi
    done
    if [ -z "$found" ]; then
        printf 'Python %s: not on this machine, not tried\n' "$version"
        continue
    fi
    for resolution in lowest-direct highest; do
        quiet uv venv --clear --python "$found" env
        for extras in cli jit; do
            rm -f needs.txt  # whose versions would be kept
            quiet uv pip compile --only-binary :all: --resolution "$resolution" --python env/bin/python \
                --output-file needs.txt --extra cli --extra "$extras" "$top/pyproject.toml"
            quiet uv pip install --only-binary :all: -r needs.txt
            quiet uv pip install --no-deps --reinstall "$wheel"
            quiet env XPRNN_CACHE="$work/cache" env/bin/xprnn train sine --epochs 20 --out run
            quiet env XPRNN_CACHE="$work/cache" env/bin/python -W error readme.py "$top/README.md"
            quiet env/bin/python -m xprnn info
        done
        printf 'Python %s, %s versions: %s\n' "$version" "${resolution%-direct}" \
            "$(grep -oE '^(numpy|numba|matplotlib|safetensors|array-api-compat)==[0-9.]+' needs.txt | xargs)"
    done
done

cat > user.py <<'PYTHON'
import numpy as np
import xprnn

net = xprnn.RNN(3, 8, 2, cell="gru", rng=0)
value, gradient = net.value_and_grad(np.zeros((5, 4, 3)), np.zeros((5, 4, 2)))
names: list[str] = list(gradient.parameters)
history = xprnn.fit(net, (np.zeros((5, 4, 3)), np.zeros((5, 4, 2))), optimizer="adam", epochs=1)
losses: list[float] = history.loss
PYTHON
"$bin/pyright" --pythonpath env/bin/python user.py
echo 'xprnn.RNN("three", 8)' >> user.py
if "$bin/pyright" --pythonpath env/bin/python user.py > log; then
    echo "pyright takes a word for a size: the types don't reach it" >&2
    exit 1
fi
