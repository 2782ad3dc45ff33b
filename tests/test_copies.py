"""Networks can be copied and pickled, on every backend."""

import copy
import pickle

import numpy as np
import pytest

from tests.cases import CASES
from xprnn import RNN


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_is_the_same_network_and_not_shared(harness, duplicate):
    net = harness.net(CASES[0])
    net.metadata = {"note": [1]}
    twin = duplicate(net)
    assert twin.backend == net.backend
    assert twin.architecture == net.architecture
    assert twin.metadata == net.metadata
    assert twin.metadata is not net.metadata
    x = harness.array(CASES[0].problem().x)
    expected = harness.host(net(x)[0])
    net.parameters["weight_hh_l0"] = harness.array(np.zeros(net.parameters["weight_hh_l0"].shape))
    np.testing.assert_array_equal(harness.host(twin(x)[0]), expected)


def test_a_run_of_another_network_is_refused():
    x = np.zeros((3, 2, 1), dtype=np.float32)
    run = RNN(1, 4, 1).forward(x)
    message = "run belongs to a different network: hidden_size is 4, not 5"
    with pytest.raises(ValueError, match=message):
        RNN(1, 5, 1).backward(run, run.output)


def test_bias_is_a_truth_value():
    with pytest.raises(TypeError, match=r"bias is 'no' \(str\): expected True or False"):
        RNN(1, 2, bias="no")
