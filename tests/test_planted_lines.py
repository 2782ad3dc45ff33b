"""Seven faults in a cell of two gates and two states: each is found, and its line is named.

On every kind of backend, because nothing about the check depends on one.
"""

import importlib.util
import itertools

import pytest

from tests.harness import flavour
from xprnn.testing import GradientError, check_cell

RIGHT = '''
class Planted:
    """f = tanh(u0 + v0 + p c), g = tanh(u1 + v1), c = f c + g, h = tanh(c)"""

    gates, state, units = 2, ("h", "c"), ("p",)

    def forward(self, xp, u, v, state):
        (_, c), (v0, v1, p) = state, v
        f = xp.tanh(u[0] + v0 + p * c)
        g = xp.tanh(u[1] + v1)
        c = f * c + g
        h = xp.tanh(c)
        return (h, c), (f, g, h)

    def backward(self, xp, saved, previous, d_state):
        (f, g, h, p), (_, c), (dh, dc) = saved, previous, d_state
        dc_new = dc + dh * (1 - h * h)
        df = dc_new * c * (1 - f * f)
        dg = dc_new * (1 - g * g)
        dp = df * c
        dc_previous = dc_new * f + df * p
        return (df, dg), (df, dg, dp), (None, dc_previous)
'''
FAULTS = {
    "a factor": ("df = dc_new * c", "df = 1.3 * dc_new * c", "are off by the same factor 1.3"),
    "a sign": ("dg = dc_new", "dg = -dc_new", "all of u[1], v[1] have the wrong sign"),
    "a path": ("dc_new * f + df * p", "dc_new * f", "the gradient of previous c["),
    "a derivative": ("dg = dc_new * (1 - g * g)", "dg = dc_new * (1 - g)", "u[1]"),
    "a gate": ("dc_new * c * (1 - f * f)", "dc_new * c * (1 - g * g)", "u[0]"),
    "a state": ("dc + dh * (1 - h * h)", "dc + dh * (1 - h)", "previous c"),
    "the eleventh digit": (
        "dp = df * c",
        "dp = df * c * (1 + 2e-11)",
        "by the factor 1.00000000002\n",
    ),
}
BACKENDS = [
    flavour("numpy"),
    *map(flavour, ("torch", "array_api_strict", "numpy:", "tests.namespaces:vault")),
    flavour("jax", full=True),
]
number = itertools.count()


def cell(source, folder):
    """Return the cell of a source, in a file of its own."""
    path = folder / f"planted_{next(number)}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Planted(), path


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_wrong_with_the_cell(backend, tmp_path):
    report = check_cell(cell(RIGHT, tmp_path)[0], backend=backend)
    assert report.method == "forward mode of every entry"
    assert report.passed


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_its_line_named(name, backend, tmp_path):
    right, wrong, words = FAULTS[name]
    assert RIGHT.count(right) == 1
    source = RIGHT.replace(right, wrong)
    planted, path = cell(source, tmp_path)
    with pytest.raises(GradientError) as caught:
        check_cell(planted, backend=backend)
    message = str(caught.value).partition("\n\n")[0]
    assert words in message + "\n"
    lines = source.splitlines()
    (at,) = (k for k, line in enumerate(lines, start=1) if wrong in line)
    assert f"    {path.name}:{at}: {lines[at - 1].strip()}\n" in message + "\n"


def test_the_variable_that_wrong_gradients_share_is_named_first(tmp_path):
    planted, _ = cell(RIGHT.replace("df = dc_new", "df = 1.3 * dc_new"), tmp_path)
    with pytest.raises(GradientError) as caught:
        check_cell(planted)
    assert str(caught.value).startswith(
        "all of u[0], v[0], p are off by the same factor 1.3: look at what they share: df\n"
    )
    assert "\nright: u[1], v[1]\n" in str(caught.value)
