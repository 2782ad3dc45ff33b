"""Tensors that belong to a graph of torch's are taken for their values alone."""

import pytest
import torch

from xprnn import RNN, fit


def test_training_records_no_graph():
    module = torch.nn.RNN(2, 3)
    net = RNN(2, 3, backend="torch", rng=0)
    net.parameters["weight_hh_l0"] = module.weight_hh_l0
    x = torch.ones((4, 2, 2), requires_grad=True)
    fit(net, (x, torch.zeros((4, 2, 3))), epochs=2)
    assert all(p.grad_fn is None and not p.requires_grad for p in net.parameters.values())
    assert net.forward(x).output.grad_fn is None


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
