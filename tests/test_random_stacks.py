"""Random stacks, of random sizes from one up and with random lengths, against torch."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import CELLS, Case
from tests.closeness import AUTOGRAD, AUTOGRAD_FLOOR, assert_all_close, assert_close
from tests.judge import judge, masks_of
from tests.passes import all_of, on_numpy
from xprnn.testing import GradientError, check_gradients


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a case; a failing one is shrunk to the smallest that fails."""
    steps, batch = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    lengths = st.lists(st.integers(1, steps), min_size=batch, max_size=batch).map(tuple)
    shares = st.sampled_from([0.0, 0.3, 0.8])
    return draw(st.sampled_from(CELLS)).but(
        T=steps,
        B=batch,
        I=draw(st.integers(1, 6)),
        H=draw(st.integers(1, 7)),
        O=draw(st.none() | st.integers(1, 4)),
        bias=draw(st.booleans()),
        returns=draw(st.sampled_from(["sequence", "last"])),
        layers=draw(st.integers(1, 4)),
        bidirectional=draw(st.booleans()),
        dropout=draw(shares),
        recurrent_dropout=draw(shares),
        embedding_size=draw(st.none() | st.integers(1, 5)),
        lengths=draw(st.none() | lengths),
    )


EXAMPLES = 150 if os.environ.get("FULL", "0") == "0" else 2000


# Derandomized: every run draws the same examples, and the message shows the one that fails.
@settings(derandomize=True, database=None, deadline=None, max_examples=EXAMPLES)
@given(case=cases(), seed=st.integers(0, 1000))
def test_values_and_gradients(case: Case, seed: int):
    run, gradients = on_numpy(case, seed, rng=seed)
    verdict = judge(case, case.parameters(seed), case.problem(seed), masks=masks_of(run))
    assert_close(run.output, verdict.output, AUTOGRAD, "output", AUTOGRAD_FLOOR)
    assert_close(run.state, verdict.state, AUTOGRAD, "state", AUTOGRAD_FLOOR)
    assert_all_close(gradients, all_of(verdict, case.cell), AUTOGRAD, AUTOGRAD_FLOOR)


@settings(derandomize=True, database=None, deadline=None, max_examples=EXAMPLES // 6)
@given(case=cases(), seed=st.integers(0, 1000))
def test_right_gradients_are_not_called_wrong(case: Case, seed: int):
    net, problem = case.make(dtype="float64", rng=0), case.problem(seed)
    net.parameters = case.parameters(seed)
    try:
        report = check_gradients(net, problem.x, problem.state, lengths=case.lengths, rng=seed)
    except GradientError as error:
        report = error.report
    # It may be empty, because all units of relu may be off.
    assert not report.failures
    assert report.method.startswith("forward mode")
