"""Any sizes, from one up, against torch: every cell, with and without biases and readout."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import Case, each_cell
from tests.closeness import AUTOGRAD, AUTOGRAD_FLOOR, assert_all_close, assert_close
from tests.judge import judge

CHANGES = st.fixed_dictionaries(
    {
        "T": st.integers(1, 9),
        "B": st.integers(1, 5),
        "I": st.integers(1, 6),
        "H": st.integers(1, 7),
        "O": st.none() | st.integers(1, 4),
        "bias": st.booleans(),
        "returns": st.sampled_from(["sequence", "last"]),
    }
)


# Derandomized: the seed is kept by the test itself, so every run draws the same examples, and what
# fails here fails everywhere; the message holds the example.
@each_cell
@settings(derandomize=True, database=None, deadline=None, max_examples=40)
@given(changes=CHANGES, seed=st.integers(0, 1000))
def test_values_and_gradients(case: Case, changes: dict, seed: int):
    case = case.but(**changes)
    net, problem = case.make(dtype="float64"), case.problem(seed)
    net.parameters = case.parameters(seed)
    run = net.forward(problem.x, problem.state)
    gradient = net.backward(run, problem.d_output, problem.d_state)
    verdict = judge(case, net.parameters, problem)
    assert_close(run.output, verdict.output, AUTOGRAD, "output")
    assert_close(run.state, verdict.state, AUTOGRAD, "state")
    assert_all_close(gradient.parameters, verdict.d_parameters, AUTOGRAD, AUTOGRAD_FLOOR)
    assert_close(gradient.input, verdict.d_input, AUTOGRAD, "input", AUTOGRAD_FLOOR)
    assert_close(gradient.state, verdict.d_state, AUTOGRAD, "state gradient", AUTOGRAD_FLOOR)
