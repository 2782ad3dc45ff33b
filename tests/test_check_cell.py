"""`check_cell` and `check_contract`: right cells pass everywhere, wrong ones are named."""

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from tests.cases import each_cell
from tests.gated import Gated
from tests.odd_cells import ODD_CELLS
from tests.spoiled import SPOILS, Spoiled
from xprnn.backend import get_backend
from xprnn.cells import CELLS, GRU, LSTM, Elman, recurrent_blocks
from xprnn.engine.loop.lowering import disable_lowering, lowerings_of
from xprnn.testing import ContractError, GradientError, check_cell, check_contract


@each_cell
def test_a_right_cell_passes(case):
    report = check_cell(case.cell)
    blocks = {"u": case.cell.gates, "v": recurrent_blocks(case.cell)}
    wanted = [f"{word}[{k}]" for word, count in blocks.items() for k in range(count)]
    wanted += [f"previous {name}" for name in case.cell.state]
    found = [finding.name for finding in report.findings]
    assert [name for name in found if name in wanted] == wanted
    assert report.passed
    assert report.method == "forward mode of every entry"


@pytest.mark.parametrize(
    "cell", [*CELLS, LSTM(peepholes=True), LSTM(layer_norm=True), Elman("relu")], ids=str
)
@pytest.mark.parametrize("seed", range(3))
def test_the_library_s_cells_pass_by_central_differences_too(cell, seed):
    report = check_cell(cell, mode="central", rng=seed)
    assert report.method == "central differences of every entry"
    assert all(finding.error < 1e-6 for finding in report.findings)


@pytest.mark.parametrize("cell", ODD_CELLS, ids=lambda cell: type(cell).__name__)
def test_odd_cells_pass(cell):
    assert check_cell(cell).passed
    assert check_cell(cell, mode="central").passed


def test_per_unit_parameters_are_checked():
    report = check_cell(LSTM(peepholes=True))
    assert [report[name].shape for name in LSTM(peepholes=True).units] == [(4,)] * 3
    assert report["peephole_o"].verdict == "right"


@pytest.mark.parametrize("mode", ["complex", "forward"])
def test_the_exact_modes_are_right_to_rounding(mode):
    report = check_cell(GRU(), mode=mode)
    assert max(finding.error for finding in report.findings) < 1e-13


@pytest.mark.parametrize("mode", ["central", "complex", "forward"])
@pytest.mark.parametrize("name", SPOILS)
def test_a_spoiled_gradient_is_named(name, mode):
    spoil, wanted = SPOILS[name]
    with disable_lowering(), pytest.raises(GradientError) as caught:
        check_cell(Spoiled(spoil), mode=mode)
    report = caught.value.report
    assert {finding.name for finding in report.failures} == wanted
    worst = report.failures[0]
    assert worst.index is not None
    methods = {"complex": "complex step", "forward": "forward mode"}
    numeric = methods.get(mode, "central differences")
    assert str(caught.value).startswith(
        f"the gradient of {worst.where} is {worst.backward:.10g} by backward"
    )
    assert f"but {worst.numeric:.10g} by {numeric}\nlook at the lines" in str(caught.value)


@dataclass(frozen=True)
class WrongPeephole(LSTM):
    def backward(self, xp, saved, previous, d_state):
        du, dv, ds = super().backward(xp, saved, previous, d_state)
        return du, (*dv[:6], dv[6] * 2), ds


def test_a_wrong_per_unit_gradient_is_named():
    with pytest.raises(GradientError) as caught:
        check_cell(WrongPeephole(peepholes=True))
    assert [finding.name for finding in caught.value.report.failures] == ["peephole_o"]


def wrong(words, **methods):
    """Return a test parameter: a cell like `Gated` except for some methods, and its message."""
    methods = {"__repr__": lambda self: "Wrong", **methods}
    return pytest.param(type("Wrong", (Gated,), methods)(), words, id=words[:40])


def returning(change):
    """Return a backward that changes what `Gated` returns."""

    def backward(self, xp, saved, previous, d_state):
        return change(xp, *Gated.backward(self, xp, saved, previous, d_state))

    return backward


def saving(change):
    """Return a forward that changes what `Gated` returns."""

    def forward(self, xp, u, v, state):
        return change(xp, *Gated.forward(self, xp, u, v, state))

    return forward


def writing_forward(self, xp, u, v, state):
    out = Gated.forward(self, xp, u, v, state)
    state[1][...] = 0
    return out


def writing_backward(self, xp, saved, previous, d_state):
    saved[0][...] = 0
    return Gated.backward(self, xp, saved, previous, d_state)


def first_step_only(self, xp, saved, previous, d_state):
    du, dv, ds = Gated.backward(self, xp, saved, previous, d_state)
    # Right for (B, H), and twice too large for (T, B, H).
    return (du[0] * (du[0].ndim - 1), du[1]), dv, ds


class Counting(Gated):
    calls: ClassVar[list[int]] = [0]

    def __repr__(self):
        return "Counting"

    def backward(self, xp, saved, previous, d_state):
        self.calls[0] += 1
        du, dv, ds = Gated.backward(self, xp, saved, previous, d_state)
        return (du[0] * self.calls[0], du[1]), dv, ds


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        wrong(
            "backward's du has 1 array: expected 2, G = 2",
            backward=returning(lambda xp, du, dv, ds: (du[:1], dv, ds)),
        ),
        wrong(
            "backward's dv has 3 arrays: expected 2, G = 2",
            backward=returning(lambda xp, du, dv, ds: (du, (*dv, dv[0]), ds)),
        ),
        wrong(
            "backward's d_previous has 1 array: expected 2, (h, c)",
            backward=returning(lambda xp, du, dv, ds: (du, dv, ds[:1])),
        ),
        wrong(
            "backward returned a tuple of 2: expected (du, dv, d_previous)",
            backward=returning(lambda xp, du, dv, ds: (du, dv)),
        ),
        wrong(
            "backward's du is numpy.ndarray of shape (3, 4) and dtype float32: "
            "expected a tuple of arrays",
            backward=returning(lambda xp, du, dv, ds: (du[0], dv, ds)),
        ),
        wrong(
            "backward's dv[1] has shape (4,): expected (3, 4)",
            backward=returning(lambda xp, du, dv, ds: (du, (dv[0], xp.sum(dv[1], axis=0)), ds)),
        ),
        wrong(
            "backward's d_previous[0] has dtype float64: expected float32, as given",
            backward=returning(
                lambda xp, du, dv, ds: (du, dv, (xp.astype(ds[0], xp.float64), ds[1]))
            ),
        ),
        wrong(
            "backward's du[1] is NoneType: expected an array of numpy",
            backward=returning(lambda xp, du, dv, ds: ((du[0], None), dv, ds)),
        ),
        wrong(
            "forward returned a tuple of 1: expected (state, saved)",
            forward=saving(lambda xp, state, saved: (state,)),
        ),
        wrong(
            "forward's state has 1 array: expected 2, (h, c)",
            forward=saving(lambda xp, state, saved: (state[:1], saved)),
        ),
        wrong(
            "forward's saved[2] has shape (4,): expected (3, 4)",
            forward=saving(lambda xp, state, saved: (state, (*saved[:2], saved[2][0]))),
        ),
        wrong(
            "forward writes into state[1]: expected it to leave its arguments alone",
            forward=writing_forward,
        ),
        wrong(
            "backward writes into saved[0]: expected it to leave its arguments alone",
            backward=writing_backward,
        ),
        wrong(
            "backward's du, of all steps at once, differs from that of single steps in block 0",
            backward=first_step_only,
        ),
        wrong(
            "backward can't be called as backward(xp, saved, previous, d_state): "
            "too many positional arguments",
            backward=lambda self, xp, saved, d_state: None,
        ),
        wrong(
            "forward can't be called as forward(xp, u, v, state): missing a required argument: 'x'",
            forward=lambda self, xp, u, v, state, x: None,
        ),
        pytest.param(Counting(), "du[0] differs when the same step is taken again", id="count"),
    ],
)
def test_a_broken_contract_is_said(cell, words):
    for checking in (check_cell, check_contract):
        with pytest.raises(ContractError) as caught:
            checking(cell)
        assert str(caught.value).endswith(f": {words}")


def test_every_backend_passes(harness):
    for cell in (Gated(), LSTM(peepholes=True)):
        assert check_cell(cell, backend=harness.backend).method == "forward mode of every entry"


def test_the_contract_holds_on_every_backend(harness):
    check_contract(Gated(), backend=harness.backend)
    with pytest.raises(ContractError, match=r"dv has 1 array: expected 2, G = 2"):
        check_contract(Spoiled(lambda du, dv, ds: (du, dv[:1], ds)), backend=harness.backend)


class Switched:
    """The NumPy loops of a cell, with their results changed."""

    name = "switched"

    def __init__(self, cell, **changes):
        self.loops = lowerings_of(get_backend("numpy", dtype="float64"), cell)[-1]
        self.changes = changes

    def forward(self, u, recurrent, state, *, save):
        return self.loops.forward(u, recurrent, state, save=save)

    def backward(self, *arguments):
        back = self.loops.backward(*arguments)
        return back._replace(**{k: change(getattr(back, k)) for k, change in self.changes.items()})


def test_a_lowering_is_found_and_compared():
    report = check_cell(LSTM(peepholes=True))
    lowered = [f for f in report.findings if f.name.startswith("lowered")]
    assert len(lowered) == 2 * (2 + 2 + 3 + 2)
    assert all(f.verdict == "right" and f.error < 1e-14 for f in lowered)
    with disable_lowering():
        findings = check_cell(LSTM(peepholes=True)).findings
    assert not any(f.name.startswith("lowered") for f in findings)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, set()),
        ({"du": lambda du: du * (1 + 1e-9)}, {"du"}),
        ({"state": lambda state: state[::-1]}, {"d_h(0)", "d_c(0)"}),
        ({"da": lambda da: np.nan * da}, {"dv"}),
    ],
)
def test_a_lowering_that_computes_something_else_is_named(changes, wanted):
    lowering = Switched(LSTM(), **changes)
    if not wanted:
        assert check_cell(LSTM(), lowering=lowering).passed
        return
    with pytest.raises(GradientError, match="the lowering computes something other") as caught:
        check_cell(LSTM(), lowering=lowering)
    assert re.match(r"lowered .*\] is \S+, but \S+ by plain array code\n", str(caught.value))
    named = {finding.name for finding in caught.value.report.failures}
    assert named == {f"lowered{m} {name}" for m in ("", " masked") for name in wanted}
    assert "also failed: " in str(caught.value)


def test_a_lowering_that_forgets_the_mask_is_named():
    class Forgetful(Switched):
        def forward(self, u, recurrent, state, *, save):
            return super().forward(u, recurrent._replace(mask=None), state, save=save)

    with pytest.raises(GradientError) as caught:
        check_cell(LSTM(), lowering=Forgetful(LSTM()))
    assert all("masked" in finding.name for finding in caught.value.report.failures)


@pytest.mark.parametrize(
    "cell",
    [Spoiled(SPOILS["wrong sign"][0]), WrongPeephole(peepholes=True)],
    ids=lambda cell: type(cell).__name__,
)
def test_a_wrong_cell_is_not_lowered(cell, monkeypatch):
    def refuse(loops, work):
        raise RuntimeError(f"{loops.name} is asked to run the cell")

    for loops in lowerings_of(get_backend("numpy", dtype="float64"), LSTM()):
        monkeypatch.setattr(type(loops), "suits", refuse)
    with pytest.raises(RuntimeError, match="is asked to run the cell"):
        check_cell(LSTM())
    with pytest.raises(GradientError, match="look at the lines of the cell's backward"):
        check_cell(cell)


def test_after_one_wrong_lowering_no_other_is_made(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setenv("XPRNN_LOWERING", "numba")
    by_numba, by_numpy = lowerings_of(get_backend("numpy", dtype="float64"), Elman())
    right = by_numpy.backward

    def wrong(*arguments):
        back = right(*arguments)
        return back._replace(du=2 * back.du)

    def refuse(work):
        raise RuntimeError("it would be compiled now")

    monkeypatch.setattr(by_numba, "suits", refuse)
    with pytest.raises(RuntimeError, match="it would be compiled now"):
        check_cell(Elman())
    monkeypatch.setattr(by_numpy, "backward", wrong)
    with pytest.raises(GradientError, match="the lowering computes something other"):
        check_cell(Elman())


def test_a_lowering_of_another_shape_is_said():
    lowering = Switched(LSTM(), du=lambda du: du[1:])
    with pytest.raises(ContractError, match=r"du has shape \(3, 3, 20\): expected \(4, 3, 20\)"):
        check_cell(LSTM(), lowering=lowering)


def test_what_can_not_be_checked():
    with pytest.raises(ValueError, match="mode is 'directions': expected 'auto' or 'central' or"):
        check_cell("gru", mode="directions")
    with pytest.raises(ValueError, match="unknown cell 'grü'"):
        check_cell("grü")
    with pytest.raises(TypeError, match="expected a name or a cell instance"):
        check_cell(GRU)
    with pytest.raises(ValueError, match=r"can't be used \(NotAnalyticError: xp.maximum is for"):
        check_cell(Elman("relu"), mode="complex")
