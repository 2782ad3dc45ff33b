"""The networks of torch, with packed sequences: the same outputs, states and gradients.

Two biases there are one here, so theirs of the recurrent product is zero; but for the GRU's
candidate, whose second bias stands inside of what the reset gate multiplies.
"""

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.cases import CELLS, Case
from tests.closeness import AUTOGRAD, assert_all_close, assert_close
from tests.passes import on_numpy
from tests.stacks import LENGTHS, SIZES
from xprnn import RNN
from xprnn.cells import GRU

MODULES = {
    "elman-tanh": (torch.nn.RNN, {"nonlinearity": "tanh"}),
    "elman-relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
    "gru": (torch.nn.GRU, {}),
    "lstm": (torch.nn.LSTM, {}),
}

CASES = [
    row.but(**SIZES | {"O": None}, layers=layers, bidirectional=bidirectional, bias=bias)
    for row in CELLS
    for layers, bidirectional, bias in [
        *product((1, 2, 3), (False, True), (True,)),
        (2, True, False),
    ]
    if row.id in MODULES
]


def module(case: Case, parameters) -> torch.nn.RNNBase:
    """Return torch's network with our weights."""
    kind, options = MODULES[case.id]
    theirs = kind(
        case.I,
        case.H,
        num_layers=case.layers,
        bidirectional=case.bidirectional,
        bias=case.bias,
        dtype=torch.float64,
        **options,
    )
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            kind, ending = name.split("_l")
            if kind in ("weight_ih", "weight_hh"):
                p.copy_(torch.tensor(parameters[name]))
            elif kind == "bias_ih":
                p.copy_(torch.tensor(parameters[f"bias_l{ending}"]))
            else:
                p.zero_()
                if isinstance(case.cell, GRU):
                    p[2 * case.H :] = torch.tensor(parameters[f"bias_hn_l{ending}"])
    return theirs


def gradients_of(case: Case, theirs: torch.nn.RNNBase) -> dict[str, np.ndarray]:
    """Return the gradients by our names."""
    found = {}
    for name, p in theirs.named_parameters():
        g = p.grad.numpy()
        if name.startswith("bias_hh"):
            if isinstance(case.cell, GRU):
                found[name.replace("bias_hh", "bias_hn")] = g[2 * case.H :]
        else:
            found[name.replace("bias_ih", "bias")] = g
    return found


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "packed"])
@pytest.mark.parametrize(
    "case",
    CASES,
    ids=lambda c: f"{c.id}-{c.layers}" + "-both" * c.bidirectional + "-nobias" * (not c.bias),
)
def test_output_state_and_every_gradient(case, lengths):
    case = case.but(lengths=lengths)
    problem, theirs = case.problem(), module(case, case.parameters())
    x = torch.tensor(problem.x, requires_grad=True)
    state = tuple(torch.tensor(part, requires_grad=True) for part in problem.state)
    given = state if len(state) == 2 else state[0]
    if lengths is None:
        y, final = theirs(x, given)
    else:
        packed, final = theirs(pack_padded_sequence(x, lengths, enforce_sorted=False), given)
        y, _ = pad_packed_sequence(packed, total_length=case.T)
    final = final if len(state) == 2 else (final,)
    run, got = on_numpy(case)
    assert_close(run.output, y.detach(), AUTOGRAD, "output")
    for ours, part in zip(run.state, final, strict=True):
        assert_close(ours, part.detach(), AUTOGRAD, "state")
    pairs = zip((y, *final), (problem.d_output, *problem.d_state), strict=True)
    sum((a * torch.tensor(d)).sum() for a, d in pairs).backward()
    want = gradients_of(case, theirs) | {"input": x.grad.numpy()}
    want |= {f"state {k}": s.grad.numpy() for k, s in zip(case.cell.state, state, strict=True)}
    assert_all_close(got, want, AUTOGRAD)


@pytest.mark.parametrize("name", MODULES)
def test_the_last_output_is_the_final_state_of_both_directions(name):
    """With torch, what a classifier of sequences reads."""
    row = next(row for row in CELLS if row.id == name)
    case = row.but(**SIZES | {"O": None}, layers=2, bidirectional=True, returns="last")
    problem, theirs = case.problem(), module(case, case.parameters())
    net: RNN = case.make(dtype="float64")
    net.parameters = case.parameters()
    _, final = theirs(pack_padded_sequence(torch.tensor(problem.x), LENGTHS, enforce_sorted=False))
    h = final[0] if isinstance(final, tuple) else final
    want = torch.cat([h[-2], h[-1]], dim=-1).detach()
    assert_close(net(problem.x, lengths=LENGTHS)[0], want, AUTOGRAD)
