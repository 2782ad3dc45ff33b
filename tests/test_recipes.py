"""Rules' formulas as programs for kernels: traced once, with the numbers of each update."""

import numpy as np
import pytest

from tests.optimizers import RULES
from xprnn import get_backend
from xprnn.engine.loop.program import CONSTANT, INPUT
from xprnn.engine.loop.tracer import Untraceable
from xprnn.optim import recipes
from xprnn.optim.descent import Context
from xprnn.optim.recipes import recipe

DTYPES = ("float16", "float32", "float64")
XP = get_backend("numpy").xp


@pytest.fixture
def traces(monkeypatch):
    """Return what was traced, from a fresh start."""
    found, real = [], recipes._traced

    def traced(formula, *arguments, **options):
        found.append(formula)
        return real(formula, *arguments, **options)

    monkeypatch.setattr(recipes, "_kept", {})
    monkeypatch.setattr(recipes, "_traced", traced)
    return found


def computed(made, arrays, dtype):
    """Return what a kernel would compute."""
    values, numbers = [], iter(made.numbers)
    for node in made.nodes:
        if node.op == INPUT:
            values.append(arrays[node.value])
        elif node.op == CONSTANT:
            values.append(np.asarray(next(numbers) if node.value is None else node.value, dtype))
        else:
            args = [values[a] for a in node.args]
            values.append(
                args[0].astype(dtype) if node.op == "astype" else getattr(np, node.op)(*args)
            )
    assert not list(numbers)
    return [values[k] for k in made.results]


def updates(rule, count, dtype):
    """Yield the formula of each of some updates, and which arrays there are."""
    be = get_backend("numpy", dtype=dtype)
    p = {"w": be.asarray([[1.0, 2.0]])}
    state = rule.init(p)
    for t in range(count):
        if hasattr(rule, "formula"):
            decay = rule.weight_decay
            formula = rule.formula(state._replace(iteration=t), Context(decay, in_place=False))
            memories = [getattr(state, name).get("w") for name in rule.memories]
        else:
            formula, memories = rule._formula, [state.step["w"], state.sign["w"]]
        yield formula, tuple(a is not None for a in (p, *memories))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", RULES, ids=lambda row: row.id)
def test_the_bits_are_those_of_a_formula_that_is_traced_anew(row, dtype, traces, monkeypatch):
    rng = np.random.default_rng(0)
    arrays = {name: rng.uniform(0.1, 1, 40).astype(dtype) for name in ("g", "a0", "a1", "a2", "a3")}
    arrays["g"][:20] *= -1
    known = recipes._key
    for t, (formula, present) in enumerate(updates(row.ours, 4, dtype)):
        monkeypatch.setattr(recipes, "_key", known)
        made = recipe(formula, present, XP, dtype)
        assert len(traces) == 1 + t
        monkeypatch.setattr(recipes, "_key", lambda formula: None)
        want = recipe(formula, present, XP, dtype)
        with np.errstate(all="ignore"):
            pairs = zip(computed(made, arrays, dtype), computed(want, arrays, dtype), strict=True)
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)
            assert np.isfinite(a).all()


def rule_of(rate, *held):
    def formula(g, p):
        assert held is not None
        return (p - (1 - rate) * g,)

    return formula


def test_another_number_is_another_argument_of_the_same_program(traces):
    first, second = (recipe(rule_of(rate), (True,), XP, "float32") for rate in (0.25, 0.5))
    assert (first.numbers, second.numbers) == ((0.75,), (0.5,))
    assert first.nodes is second.nodes
    assert len(traces) == 1


def test_what_may_change_is_traced_anew(traces):
    for held in ([], {}, np.ones(1), object()):
        traces.clear()
        for _ in range(2):
            assert recipe(rule_of(0.25, held), (True,), XP, "float32").numbers == (0.75,)
        assert len(traces) == 2


def test_other_things_than_numbers_are_other_programs(traces):
    def formula_of(sign, rate):
        return lambda g, p: (p + g * rate if sign else p - g * rate,)

    ops = [
        recipe(formula_of(sign, 0.5), (True,), XP, "float32").nodes[-1].op
        for sign in (True, False, True)
    ]
    assert ops == ["add", "subtract", "add"]
    assert len(traces) == 2


def test_a_formula_that_looks_at_its_numbers(traces):
    def formula_of(rate):
        return lambda g, p: (p - rate * g if rate > 0.3 else p,)

    sizes = [len(recipe(formula_of(r), (True,), XP, "float32").nodes) for r in (0.5, 0.1, 0.5)]
    assert sizes == [5, 1, 5]
    # Once with symbols, in vain, and then each time.
    assert len(traces) == 4


def test_what_can_not_be_traced_says_so_each_time():
    for _ in range(2):
        with pytest.raises(Untraceable, match="product"):
            recipe(lambda g, p: (p @ g,), (True,), XP, "float32")


def test_no_more_programs_than_a_bound_are_kept(traces, monkeypatch):
    monkeypatch.setattr(recipes, "KEPT", 3)
    for k in range(10):
        recipe(rule_of(0.25, k), (True,), XP, "float32")
        assert len(recipes._kept) <= 3
