"""Tensors that belong to a graph of torch's are taken for their values alone."""

import pytest
import torch

from xprnn import RNN, fit, unroll


def test_training_records_no_graph():
    module = torch.nn.RNN(2, 3)
    net = RNN(2, 3, backend="torch", rng=0)
    net.parameters["weight_hh_l0"] = module.weight_hh_l0
    x = torch.ones((4, 2, 2), requires_grad=True)
    with torch.no_grad():
        fit(net, (x, torch.zeros((4, 2, 3))), epochs=2)
    assert all(p.grad_fn is None and not p.requires_grad for p in net.parameters.values())


def test_a_graph_does_not_end_silently():
    net, encode = RNN(2, 3, backend="torch", rng=0), torch.nn.Linear(2, 2)
    x, weights = torch.ones((4, 2, 2)), (net.parameters["weight_ih_l0"], torch.eye(3))
    for call in (
        lambda x: net(x)[0],
        lambda x: net.forward(x, lengths=[4, 2]).output,
        lambda x: net.value_and_grad(x, torch.zeros((4, 2, 3)))[0],
        lambda x: unroll("elman", weights, x).h,
    ):
        with pytest.warns(RuntimeWarning, match=r"x requires a gradient.*interop\.torch\.Module"):
            assert call(encode(x)).grad_fn is None
        # Where the gradient is not wanted, there is nothing to say: warnings are errors here.
        call(encode(x).detach())
        with torch.no_grad():
            call(encode(x))


def test_asarray_detaches():
    be = RNN(1, 1, backend="torch").backend
    a = torch.ones(3, requires_grad=True)
    assert not be.asarray(a).requires_grad
    assert a.requires_grad


@pytest.mark.parametrize("axis", [0, 1])
def test_the_callers_tensor_stays(axis):
    be = RNN(1, 1, backend="torch").backend
    a = torch.zeros((3, 3))
    be.library.add_at(a, torch.tensor([1]), torch.ones((1, 3) if axis == 0 else (3, 1)), axis)
    assert float(a.sum()) == 0
