"""The loops that Numba compiles against the plain one."""

import threading
from itertools import product

import numpy as np
import pytest

from tests.closeness import assert_close
from tests.time_loops import (
    COMPILED,
    EVERY,
    Problem,
    misaligned,
    read_only,
    reversed_in_memory,
    strided,
)
from xprnn.cells import GRU, LSTM, Elman, second_product
from xprnn.engine.loop import lowering
from xprnn.engine.loop.plain import PlainLoops
from xprnn.engine.loop.protocol import Trajectory, Work

pytestmark = pytest.mark.slow

pytest.importorskip("numba")

PEEPHOLES = LSTM(peepholes=True)
each_cell = pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, id=name, marks=[pytest.mark.full] * (name not in COMPILED))
        for name, cell in EVERY.items()
        if not second_product(cell)
    ],
)


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    monkeypatch.setenv("XPRNN_LOWERING", "numba")


def problem_of(cell, *shape, dtype="float64", **options):
    """Return a problem whose tolerance allows a few roundings per step."""
    tolerance = 1e-12 if dtype == "float64" else 8 * shape[0] * np.finfo(dtype).eps
    return Problem(cell, *shape, dtype=dtype, tolerance=tolerance, **options)


def loops_of(problem, name="numba"):
    found = lowering.lowerings_of(problem.backend, problem.cell)
    return next(loops for loops in found if loops.name == name)


def forward(problem, loops):
    return loops.forward(problem.u, problem.recurrent, problem.state, save=True)


def backward(problem, loops, there, dh):
    return loops.backward(problem.recurrent, there, dh, problem.d_state)


def compare(problem, dh=None, save=True):
    """Compare the compiled loops, whatever else may be chosen, with the plain one."""
    problem.compare_passes(problem.passes(loops_of(problem), dh, save), problem.plain(dh, save))


def test_it_is_what_the_library_chooses():
    problem = problem_of(Elman(), 4, 3, 5)
    for direction in ("forward", "backward"):
        work = problem.work(direction)
        assert lowering.lowering_for(problem.backend, problem.cell, work) is loops_of(problem)
    problem.compare(problem.dh)


# Less than a vector, one, several; panels of 4, 2 and 1; tiles of 6, 4, 2 and 1 rows; two passes.
SHAPES = [(3, 1, 1), (4, 5, 3), (3, 2, 16), (3, 7, 17), (3, 13, 70), (4, 1, 100), (3, 5, 300)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@each_cell
def test_shapes(cell, shape):
    problem = problem_of(cell, *shape)
    compare(problem, problem.dh)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("cell", [Elman(), LSTM()], ids=lambda cell: type(cell).__name__)
def test_single_precision(cell, shape):
    for masked in (False, True):
        problem = problem_of(cell, *shape, dtype="float32", masked=masked)
        compare(problem, problem.dh)


LENGTHS = {"whole": None, "several": (5, 1, 0, 3), "full": (5,) * 4}


@pytest.mark.parametrize(
    ("lengths", "masked", "outer"),
    [case for case in product(LENGTHS, (False, True), (True, False)) if case[0] != "full"]
    + [("full", True, True)],
)
@each_cell
def test_masks_lengths_and_gradients_from_outside(cell, lengths, masked, outer):
    problem = problem_of(cell, 5, 4, 19, masked=masked, lengths=LENGTHS[lengths])
    compare(problem, problem.dh if outer else None)


@pytest.mark.parametrize(
    ("lengths", "masked", "outer"),
    [("whole", False, True), ("whole", True, False), ("several", True, True)],
)
@each_cell
def test_what_the_loop_carries_is_kept(cell, lengths, masked, outer):
    """dh(t) is r(t), and what the loop over the steps after t leaves of it."""
    problem = problem_of(cell, 5, 4, 19, masked=masked, lengths=LENGTHS[lengths])
    dh, recurrent = problem.dh if outer else None, problem.recurrent
    (there, expected), loops = problem.plain(dh), loops_of(problem)
    gradient, kept = loops.backward_keeping(recurrent, there, dh, problem.d_state)
    problem.compare_passes((there, gradient), (there, expected))
    plain = PlainLoops(problem.backend.xp, cell)
    for t in range(5):
        after = problem.d_state
        if t < 4:
            states, saved = ([a[t + 1 :] for a in part] for part in there[:2])
            rest = recurrent
            if problem.valid is not None:
                rest = recurrent._replace(valid=problem.valid[t + 1 :])
            later = None if dh is None else dh[t + 1 :]
            after = plain.backward(rest, Trajectory(states, saved), later, problem.d_state).state
        assert_close(kept[t], after[0] + (0 if dh is None else dh[t]), problem.tolerance)


@pytest.mark.parametrize("lengths", ["whole", "several"])
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@each_cell
def test_without_a_tape(cell, masked, lengths):
    problem = problem_of(cell, 5, 4, 6, masked=masked, lengths=LENGTHS[lengths])
    compare(problem, save=False)


def test_what_is_beyond_a_sequence_s_end_is_not_looked_at():
    lengths = LENGTHS["several"]
    problem = problem_of(PEEPHOLES, 5, 4, 6, lengths=lengths)
    want, loops = problem.plain(problem.dh), loops_of(problem)
    problem.u[~problem.valid[:, :, 0]] = np.nan
    there = forward(problem, loops)
    problem.compare_passes((there, backward(problem, loops, there, problem.dh)), want)


LAYOUTS = [np.array, read_only, strided, reversed_in_memory, misaligned]


@pytest.mark.parametrize("prepare", LAYOUTS)
@each_cell
def test_arguments_of_any_layout_and_none_is_written_to(cell, prepare):
    problem = problem_of(cell, 4, 3, 9, prepare=prepare, masked=True, lengths=(4, 2, 3))
    U, units, _, mask, valid = problem.recurrent
    given = (problem.u, problem.dh, U, mask, valid, *units, *problem.state, *problem.d_state)
    kept = [a.copy() for a in given]
    compare(problem, problem.dh)
    for a, b in zip(given, kept, strict=True):
        np.testing.assert_array_equal(a, b)


@each_cell
def test_a_tape_of_any_layout_is_read_and_not_written_to(cell):
    problem = problem_of(cell, 4, 3, 9)
    loops = loops_of(problem)
    there = forward(problem, loops)
    want = backward(problem, loops, there, problem.dh)
    for layout in (read_only, strided, reversed_in_memory):
        tape = Trajectory(*(tuple(map(layout, arrays)) for arrays in there[:2]))
        for got in (backward(problem, loops, tape, problem.dh) for _ in range(2)):
            np.testing.assert_array_equal(got.du, want.du)
            np.testing.assert_array_equal(got.da, want.da)
            for a, b in zip((*got.units, *got.state), (*want.units, *want.state), strict=True):
                np.testing.assert_array_equal(a, b)


@each_cell
def test_a_tape_goes_from_one_lowering_to_another(cell, monkeypatch):
    problem = problem_of(cell, 5, 3, 10, masked=True)
    want_there, want = problem.plain(problem.dh)
    numba, numpy = (loops_of(problem, name) for name in ("numba", "numpy"))
    for first, second in ((numba, numpy), (numpy, numba)):
        back = backward(problem, second, forward(problem, first), problem.dh)
        problem.compare_passes((want_there, back), (want_there, want))
    with lowering.disable_lowering():
        plain_back = problem.chosen(problem.dh)[1]
    problem.compare_passes((want_there, plain_back), (want_there, want))
    # A tape of the plain loop, with lengths: past the end it has other numbers saved.
    problem = problem_of(cell, 5, 3, 10, lengths=(3, 0, 5))
    want_there, want = problem.plain(problem.dh)
    back = backward(problem, numba, want_there, problem.dh)
    problem.compare_passes((want_there, back), (want_there, want))


@pytest.mark.parametrize("cell", [Elman(), GRU(), PEEPHOLES], ids=lambda cell: type(cell).__name__)
def test_a_tape_is_as_large_as_what_is_saved(cell):
    there = forward(problem := problem_of(cell, 4, 3, 5), loops_of(problem))
    kept = {id(a if a.base is None else a.base) for a in (*there.states, *there.saved)}
    assert len(kept) == {"Elman": 1, "GRU": 5, "LSTM": 7}[type(cell).__name__]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("cell", [Elman("relu"), Elman(), GRU(), PEEPHOLES], ids=str)
def test_what_is_not_finite_passes_as_it_does_in_the_plain_loop(cell, value):
    problem = problem_of(cell, 4, 3, 9, prepare=np.array)
    problem.u[1, 1, 2] = problem.dh[2, 0, 3] = value
    loops = loops_of(problem)
    with np.errstate(all="ignore"):
        want_there, want = problem.plain(problem.dh)
        there = forward(problem, loops)
        back = backward(problem, loops, want_there, problem.dh)
    got = (*there.states, *there.saved, back.du, back.da, *back.state)
    wanted = (*want_there.states, *want_there.saved, want.du, want.da, *want.state)
    assert not all(np.isfinite(b).all() for b in wanted)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_nothing_to_do_and_half_precision_are_left_to_others():
    cell, backend = Elman(), problem_of(Elman(), 3, 2, 4).backend
    for steps, batch, dtype in ((0, 3, "float64"), (3, 0, "float64"), (3, 3, "float16")):
        work = Work("forward", dtype, steps, batch, lengths=False)
        assert lowering.lowering_for(backend, cell, work).name == "numpy"


def test_two_python_threads_at_once():
    problems = [
        problem_of(cell, 60, 3, 16, seed=seed, lengths=(60, 7, 31))
        for seed, cell in enumerate([GRU(), PEEPHOLES])
    ]
    wanted = [problem.chosen(problem.dh)[1].du for problem in problems]
    faults = []

    def work(problem, want):
        results = [problem.chosen(problem.dh)[1].du for _ in range(30)]
        faults.extend(problem.cell for du in results if not np.array_equal(du, want))

    threads = [
        threading.Thread(target=work, args=pair)
        for pair in [*zip(problems, wanted, strict=True)] * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_the_same_bits_again():
    problem = problem_of(PEEPHOLES, 7, 5, 33)
    first, second = (problem.chosen(problem.dh) for _ in range(2))
    np.testing.assert_array_equal(first[0].states, second[0].states)
    np.testing.assert_array_equal(first[1].du, second[1].du)
    assert_close(first[1].du, problem.plain(problem.dh)[1].du, 1e-12)
