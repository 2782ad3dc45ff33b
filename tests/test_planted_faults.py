"""Five faults that people plant in recurrent networks: each is caught, and its message leads there.

Every one stands where a user's own code can have it, in a cell or in an array library, and where
the library's own can, in the engine.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.cases import each_cell
from xprnn import RNN, get_backend, layer, recurrence
from xprnn.formula import disable_lowering
from xprnn.losses import SquaredError
from xprnn.testing import (
    ContractError,
    GradientError,
    ParityError,
    assert_parity,
    check_cell,
    check_gradients,
)
from xprnn.testing.contract import draw
from xprnn.testing.precision import NarrowError, Watched, watch

X = np.random.default_rng(0).normal(size=(5, 3, 2))
MODES = ("central", "complex", "directions")
every_mode = pytest.mark.parametrize("mode", MODES)
BETWEEN = "look between the steps: dh(t-1) = Uᵀ dv(t) + d_previous"
RIGHT = "check_cell finds nothing wrong with "


@dataclass(frozen=True)
class Carried:
    """h(t) = tanh(u + v) + 0.3 h(t-1), right as it is."""

    gates = 1
    state = ("h",)

    def forward(self, xp, u, v, state):
        a = xp.tanh(u[0] + v[0])
        return (a + 0.3 * state[0],), (a,)

    def backward(self, xp, saved, previous, d_state):
        (a,), (dh,) = saved, d_state
        dz = dh * (1 - a * a)
        return (dz,), (dz,), (0.3 * dh,)


def network(cell=None, backend="numpy", **options):
    return RNN(2, 4, 2, cell=cell or Carried(), backend=backend, rng=0, **options)


def caught(kind=GradientError, cell=None, **options) -> str:
    """Return the message of a check of gradients that has to fail, without the table."""
    with pytest.raises(kind) as info:
        check_gradients(network(cell), X, **options)
    return str(info.value).partition("\n\n")[0]


def disagreement(cell=None, backend="torch") -> str:
    with pytest.raises(AssertionError) as info:
        assert_parity(lambda backend: network(cell, backend), X, [backend], steps=2)
    return str(info.value)


def after(monkeypatch, module, name, change):
    """Have what a function of the engine returns changed."""
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: change(right(*a, **k)))


@every_mode
def test_nothing_is_wrong_with_what_the_faults_are_planted_in(mode):
    assert check_gradients(network(), X, mode=mode).passed
    assert assert_parity(lambda b: network(backend=b), X, ["array_api_strict"], steps=2).agrees


# One sign flipped.


class Flipped(Carried):
    def backward(self, xp, saved, previous, d_state):
        du, dv, d_previous = super().backward(xp, saved, previous, d_state)
        return du, (-dv[0],), d_previous


@every_mode
def test_a_flipped_sign_in_a_cell(mode):
    message = caught(cell=Flipped(), mode=mode)
    assert "check_cell fails, too; look there first: the gradient of v[0][" in message
    with pytest.raises(GradientError, match=r"look at the lines of .* that make it: v\[0\]"):
        check_cell(Flipped())


@every_mode
def test_a_flipped_sign_in_the_engine(mode, monkeypatch):
    after(monkeypatch, layer, "project_backward", lambda p: p._replace(b=-p.b))
    first, second, *_ = caught(mode=mode).splitlines()
    assert first.startswith("the gradient of bias_l0")
    assert second == "the gradient of b is Σ du(t); look at the cell's du"
    assert RIGHT in caught(mode=mode)


# One transposed product.


@every_mode
def test_a_transposed_product_in_the_loop(mode, monkeypatch):
    right = recurrence._product
    monkeypatch.setattr(recurrence, "_product", lambda xp, a, U: right(xp, a, U.T))
    with disable_lowering():
        message = caught(mode=mode)
    assert RIGHT in message
    assert BETWEEN in message


@every_mode
def test_a_transposed_product_after_the_loop(mode, monkeypatch):
    def transposed(gradient):
        return gradient._replace(weights=gradient.weights._replace(U=gradient.weights.U.T))

    after(monkeypatch, layer, "_layer_gradient", transposed)
    message = caught(mode=mode)
    assert message.startswith("the gradient of weight_hh_l0")
    assert "the gradient of U is Σ dv(t) h(t-1)ᵀ" in message
    assert BETWEEN not in message


def test_a_transposed_product_in_a_library():
    assert "functions: operator @[" in disagreement(backend="tests.namespaces:careless")


# One missing time step.


@every_mode
def test_a_missing_step_in_a_sum(mode, monkeypatch):
    """The first step's, where U multiplies the initial state, which many take for zero."""

    def forgetful(back):
        da = back.da.copy()
        da[0] = 0
        return back._replace(da=da)

    after(monkeypatch, layer, "run_backward", forgetful)
    message = caught(mode=mode)
    assert message.startswith("the gradient of weight_hh_l0")
    assert "the gradient of U is Σ dv(t) h(t-1)ᵀ" in message
    assert "not right, too: " not in message.replace("not right, too: all\n", "")


@every_mode
def test_a_missing_step_in_the_loop(mode, monkeypatch):
    """The last one's output puts nothing on the state."""
    right = layer.run_backward

    def early(backend, cell, recurrent, trajectory, dh, d_state):
        dh = dh.copy()
        dh[-1] = 0
        return right(backend, cell, recurrent, trajectory, dh, d_state)

    monkeypatch.setattr(layer, "run_backward", early)
    message = caught(mode=mode)
    assert RIGHT in message
    assert f"{BETWEEN}, and what reaches h(t-1) from outside" in message


# One shared buffer.


@dataclass(frozen=True)
class Buffered(Carried):
    """One array for what all steps save."""

    held: dict = field(default_factory=dict, compare=False, repr=False)

    def buffer(self, name, a):
        held = self.held.setdefault((name, a.shape, a.dtype), np.empty_like(a))
        held[...] = a
        return held

    def forward(self, xp, u, v, state):
        new, (a,) = super().forward(xp, u, v, state)
        return new, (self.buffer("a", a),)


class BufferedState(Buffered):
    def forward(self, xp, u, v, state):
        (h,), saved = Carried.forward(self, xp, u, v, state)
        return (self.buffer("h", h),), saved


class BufferedGradient(Buffered):
    forward = Carried.forward

    def backward(self, xp, saved, previous, d_state):
        (dz,), _, d_previous = super().backward(xp, saved, previous, d_state)
        dz = self.buffer("dz", dz)
        return (dz,), (dz,), d_previous


class OverwritingBackward(Buffered):
    """Forward's result is where backward computes."""

    def forward(self, xp, u, v, state):
        (h,), saved = Carried.forward(self, xp, u, v, state)
        return (self.buffer("h", h),), saved

    def backward(self, xp, saved, previous, d_state):
        self.buffer("h", d_state[0])
        return super().backward(xp, saved, previous, d_state)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Buffered, "forward's saved[0] of one step is overwritten by the next step: expected new"),
        (BufferedState, "forward's state[0] of one step is overwritten by the next step"),
        (BufferedGradient, "backward's du[0] of one step is overwritten by the next step"),
        (OverwritingBackward, "backward writes into state[0]: expected it to leave"),
    ],
)
def test_a_shared_buffer_in_a_cell(kind, words):
    assert words in caught(ContractError, kind())
    assert words in disagreement(kind())
    with pytest.raises(ContractError) as info:
        check_cell(kind())
    assert words in str(info.value)


def test_a_shared_buffer_of_outputs(monkeypatch):
    held = np.empty((5, 3, 2))

    def buffered(run):
        held[...] = run.output
        return run._replace(output=held)

    after(monkeypatch, RNN, "forward", buffered)
    assert caught(ContractError) == (
        "the output of one pass is overwritten by the next: passes share an array"
    )


def test_a_shared_buffer_of_tapes(monkeypatch):
    held = np.empty((5, 3, 4))

    def buffered(trajectory):
        held[...] = trajectory.saved[0]
        return trajectory._replace(saved=(held,))

    after(monkeypatch, layer, "run_forward", buffered)
    message = caught(ContractError)
    assert message.startswith(
        "the gradient of weight_ih_l0 is another when there is a pass between"
    )
    assert message.endswith("passes share an array, which the second overwrites")
    tokens = np.array([[0, 1, 1], [1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]])
    with pytest.raises(ContractError, match="is another when there is a pass between"):
        check_gradients(network(), tokens)


def test_a_backward_that_writes_into_the_tape(monkeypatch):
    right = layer.run_backward

    def writing(backend, cell, recurrent, trajectory, *rest):
        back = right(backend, cell, recurrent, trajectory, *rest)
        trajectory.saved[0][...] = 0
        return back

    monkeypatch.setattr(layer, "run_backward", writing)
    assert caught(ContractError).startswith(
        "the gradient of weight_ih_l0 is another when backward goes through the same run again"
    )


class WritingError(SquaredError):
    def value_and_grad(self, output, target, valid=None, *, overwrite=False):
        value, gradient = super().value_and_grad(output, target)
        output[...] = gradient
        return value, gradient


def test_a_loss_that_writes_into_the_output():
    message = caught(ContractError, target=np.zeros((5, 3, 2)), loss=WritingError())
    assert message.endswith(" writes into the output: expected it to leave its arguments alone")


class InPlace(Carried):
    """A product in the array that is also the gradient of u."""

    def backward(self, xp, saved, previous, d_state):
        (a,), (dh,) = saved, d_state
        dz = dh * (1 - a * a)
        d_h = dz
        d_h *= 0.3
        return (dz,), (dz,), (d_h,)


def test_a_shared_array_of_two_results():
    """What the loops made of it compute differs, too, and is not what to look at."""
    with pytest.raises(GradientError, match=r"\Athe gradient of previous h\[.*\n.*: previous h\n"):
        check_cell(InPlace())
    assert "check_cell fails, too; look there first: the gradient of previous h[" in caught(
        cell=InPlace()
    )


# One constant of float32 in a path of float64.


class NarrowBackward(Carried):
    def backward(self, xp, saved, previous, d_state):
        du, dv, _ = super().backward(xp, saved, previous, d_state)
        return du, dv, (xp.asarray(0.3, dtype=xp.float32) * d_state[0],)


class Narrow(NarrowBackward):
    """In both, so that the gradient is right: of the wrong formula."""

    def forward(self, xp, u, v, state):
        a = xp.tanh(u[0] + v[0])
        return (a + np.float32(0.3) * state[0],), (a,)


class NarrowWhere(Carried):
    def forward(self, xp, u, v, state):
        (h,), saved = super().forward(xp, u, v, state)
        return (xp.where(h > 5, xp.full_like(h, 5.1, dtype=xp.float32), h),), saved


class NarrowDetour(Carried):
    """There and back."""

    def forward(self, xp, u, v, state):
        a = xp.astype(xp.tanh(xp.astype(u[0] + v[0], xp.float32)), u[0].dtype)
        return (a + 0.3 * state[0],), (a,)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (NarrowBackward, "backward takes a number of float32 into multiply, where all else is"),
        (Narrow, "forward takes a number of float32 into multiply, where all else is float64"),
        (NarrowWhere, "forward takes an array of float32, shape (3, 4) into where, where all else"),
        (NarrowDetour, "forward takes an array of float32, shape (3, 4) into tanh, where all else"),
    ],
)
def test_a_constant_of_float32_in_a_cell(kind, words):
    for message in (caught(ContractError, kind()), disagreement(kind())):
        assert words in message
        assert message.endswith(
            "expected constants that are Python numbers, or have the dtype of the arguments"
        )
    with pytest.raises(ContractError):
        check_cell(kind(), backend="torch")


class NarrowConstantError(SquaredError):
    def __call__(self, output, target, valid=None):
        return super().__call__(output, target) * np.float32(0.1)

    def value_and_grad(self, output, target, valid=None, *, overwrite=False):
        value, gradient = super().value_and_grad(output, target)
        return value * np.float32(0.1), gradient * np.float32(0.1)


def test_a_constant_of_float32_in_a_loss():
    message = caught(ContractError, target=np.zeros((5, 3, 2)), loss=NarrowConstantError())
    assert "takes a number of float32 into multiply, where all else is float64" in message


@pytest.mark.parametrize("mode", ["complex", "directions"])
def test_a_constant_of_float32_in_the_engine(mode, monkeypatch):
    third = np.float32(1 / 3)
    after(monkeypatch, layer, "project_backward", lambda p: p._replace(b=3 * (third * p.b)))
    message = caught(mode=mode)
    assert message.startswith("the gradient of bias_l0")
    assert "the gradient of b is Σ du(t)" in message


@each_cell
def test_cells_are_really_watched(case):
    """That is, they run on watched arrays, and hand them on."""
    backend = get_backend("numpy", dtype="float64")
    u, v, units, state, d_state = map(watch, draw(case.cell, backend, np.random.default_rng(0)))
    new, saved = case.cell.forward(backend.xp, u, (*v, *units), state)
    found = case.cell.backward(backend.xp, (*saved, *units), state, d_state)
    arrays = [*new, *saved, *(a for part in found for a in part if a is not None)]
    assert {type(a) for a in arrays} == {Watched}
    with pytest.raises(NarrowError, match="a number of float32 into add"):
        new[0] + np.float32(1)


def test_a_constant_of_float32_in_a_library():
    message = disagreement(backend="tests.namespaces:narrow_tanh")
    assert "functions: tanh[" in message
    assert "in float32" not in message


def test_all_of_it_is_an_assertion_error():
    assert all(issubclass(k, AssertionError) for k in (ContractError, GradientError, ParityError))
