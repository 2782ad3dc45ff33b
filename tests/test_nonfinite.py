"""Where the first number that is not finite arises, and that a training that fails says it."""

import re

import numpy as np
import pytest

import xprnn
from tests.cases import FEW, Case
from tests.harness import Harness, on_every_backend
from tests.scripted import ONE, ZERO, Scripted, scalar_net
from xprnn import RNN, NonFiniteLossError, fit
from xprnn.cells import Elman
from xprnn.data import Batch
from xprnn.diagnostics import gradient_flow
from xprnn.engine.nonfinite import first_in_forward, first_on_the_way_back
from xprnn.optim import SGD

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")


def exploding(w: float = 1e12, **options) -> RNN:
    """Return h(t) = x(t) + w h(t-1), in float32."""
    net = RNN(1, 2, cell=Elman("identity"), bias=False, initializer="zeros", **options)
    for name, p in net.parameters.items():
        p[:] = 1.0 if "ih" in name else w * np.eye(*p.shape)
    return net


ONES = np.ones((9, 2, 1), "float32")


@pytest.mark.parametrize("lowered", [True, False])
def test_a_product_overflows(lowered: bool) -> None:
    # h(t) = 1e12ᵗ: at step 3 it is 1e36, and v at step 4 would be 1e48.
    net = exploding()
    if lowered:
        run = net.forward(ONES)
    else:
        with xprnn.disable_lowering():
            run = net.forward(ONES)
    found = first_in_forward(net.parameters, run)
    assert found == "v at step 4, unit 0, layer 0, sequence 0 (inf)"


def test_it_is_the_sequence_the_unit_and_the_direction() -> None:
    net = exploding(bidirectional=True)
    for name in ("weight_hh_l0", "weight_hh_l0_reverse"):
        net.parameters[name][0, 0] = 0.5
    x = ONES.copy()
    x[:, 0] = 0.0
    net.parameters["weight_hh_l0"][:] = 0.5 * np.eye(2)
    found = first_in_forward(net.parameters, net.forward(x))
    assert found == "v at step 4, unit 1, layer 0 reversed, sequence 1 (inf)"
    # Read from its own end, step 5, the second sequence overflows at step 1.
    found = first_in_forward(net.parameters, net.forward(x, lengths=[9, 6]))
    assert found == "v at step 1, unit 1, layer 0 reversed, sequence 1 (inf)"


def test_a_layer_comes_before_those_above_it() -> None:
    net = exploding(layers=2)
    net.parameters["weight_hh_l0"][:] = 0.0
    found = first_in_forward(net.parameters, net.forward(ONES))
    assert "layer 1" in found
    net.parameters["weight_ih_l1"][:] = 3e38
    found = first_in_forward(net.parameters, net.forward(ONES))
    assert found == "u at step 0, unit 0, layer 1, sequence 0 (inf)"


def test_gates_are_counted() -> None:
    net = RNN(1, 3, cell="lstm", rng=0)
    net.parameters["weight_hh_l0"][3 * 2 + 1] = 3e38
    net.parameters["bias_l0"][:] = 5.0
    found = first_in_forward(net.parameters, net.forward(0 * ONES))
    assert found == "v at step 1, unit 1 of gate 2, layer 0, sequence 0 (inf)"


def test_weights_and_outputs() -> None:
    net = RNN(1, 3, 1, rng=0)
    net.parameters["readout.weight"][:] = 3e38
    net.parameters["bias_l0"][:] = 5.0
    found = first_in_forward(net.parameters, net.forward(ONES))
    assert found == "the output, at [0, 0, 0] (inf)"
    net.parameters["weight_hh_l0"][1, 2] = np.nan
    assert first_in_forward(net.parameters, net.forward(ONES)) == "weight_hh_l0, at [1, 2] (nan)"
    net = RNN(1, 3, 1, rng=0)
    assert first_in_forward(net.parameters, net.forward(ONES)) == ""


def test_in_long_sequences_and_recomputed_ones() -> None:
    net = exploding(1.5)  # h(t) is nearly 3 · 1.5ᵗ, and v(217) = 3 · 1.5²¹⁷ = 5e38 overflows
    x = np.ones((300, 64, 1), "float32")
    found = first_in_forward(net.parameters, net.forward(x))
    assert found == "v at step 217, unit 0, layer 0, sequence 0 (inf)"
    assert found == first_in_forward(net.parameters, net.forward(x, recompute=True))


def test_on_the_way_back() -> None:
    net = exploding(returns="last")
    run = net.forward(0 * ONES)
    zeros = tuple(np.zeros_like(part) for part in run.state)
    d_output = np.ones((2, 2), "float32")
    assert first_in_forward(net.parameters, run) == ""
    # 1e12⁴ overflows four steps before the last.
    back = first_on_the_way_back(net.parameters, run, d_output, zeros)
    assert back == "dh at step 4, unit 0, layer 0, sequence 0 (inf)"
    assert first_on_the_way_back(net.parameters, run, 0 * d_output, zeros) == ""
    d_output[1, 0] = np.inf
    back = first_on_the_way_back(net.parameters, run, d_output, zeros)
    assert back == "the gradient of the output, at [1, 0] (inf)"


@on_every_backend(FEW)
def test_on_every_backend(case: Case, harness: Harness) -> None:
    case = case.but(T=6, layers=2)
    net, problem = harness.net(case), case.problem()
    run = net.forward(harness.array(problem.x))
    assert first_in_forward(net.parameters, run) == ""
    large = np.full(case.parameters()["weight_ih_l0"].shape, 1e308)
    net.parameters["weight_ih_l0"] = harness.array(large)
    with net.backend.library.quiet():
        run = net.forward(harness.array(2 * problem.x))
    found = first_in_forward(net.parameters, run)
    # Whether a sum of numbers as large as these overflows depends on the library's order.
    assert re.fullmatch(r"u at step 0, unit \d of gate \d, layer 0, sequence \d .*", found)


def test_a_training_says_it() -> None:
    net = exploding(returns="last")
    message = (
        r"the loss is nan in epoch 1, batch 2: the network keeps the last weights that gave a "
        r"finite loss; first non-finite: v at step 4, unit 0, layer 0, sequence 0 \(inf\); "
    )
    batches = [(0 * ONES, np.zeros((2, 2), "float32")), (ONES, np.zeros((2, 2), "float32"))]
    with pytest.raises(NonFiniteLossError, match=message) as caught:
        fit(net, batches, optimizer=SGD(1e-30), epochs=2)
    assert caught.value.place == "v at step 4, unit 0, layer 0, sequence 0 (inf)"


@pytest.mark.parametrize("options", [{"recompute": True}, {"accumulate": 2}, {"window": 3}])
def test_a_training_of_any_kind_says_it(options) -> None:
    target = np.zeros((2, 2), "float32")
    batches = [
        Batch(ONES, target, lengths=[2, 3]),
        Batch(ONES, target, lengths=[2, 6]),
        Batch(ONES, target),
    ]
    with pytest.raises(NonFiniteLossError) as caught:
        fit(exploding(1e8, returns="last"), batches, optimizer=SGD(1e-38), **options)
    assert caught.value.place == "v at step 5, unit 0, layer 0, sequence 1 (inf)"
    assert caught.value.batch == 2


def test_a_training_with_a_carried_state_begins_where_the_chunk_did() -> None:
    chunks = [Batch(ONES[:3], np.zeros((3, 2, 2), "float32")),
              Batch(ONES[:3], np.zeros((3, 2, 2), "float32"), carry=True)]  # fmt: skip
    with pytest.raises(NonFiniteLossError) as caught:
        fit(exploding(1e8), chunks, optimizer=SGD(1e-45))
    # h(2) = 1e16 at the end of the first; 1e24, 1e32, and v at step 2 of the second is 1e40.
    assert caught.value.place == "v at step 2, unit 0, layer 0, sequence 0 (inf)"


@pytest.mark.parametrize("seed", range(6))
def test_dropout_is_that_of_the_step(seed: int) -> None:
    net = exploding(layers=2, dropout=0.5, rng=seed)
    net.parameters["weight_hh_l0"][:] = 0.0
    net.parameters["weight_ih_l0"][:] = [[1.0], [0.0]]
    x = ONES[:, :1]
    first = next(t for t, m in enumerate(masks_of(net, x)) if m[0, 0])
    with pytest.raises(NonFiniteLossError) as caught:
        fit(net, (x, np.zeros((9, 1, 2), "float32")), optimizer=SGD(1e-30))
    # Layer 1 begins to grow where the mask lets its first input pass.
    assert caught.value.place == f"v at step {first + 4}, unit 0, layer 1, sequence 0 (inf)"


def masks_of(net: RNN, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return net.forward(x, rng=np.random.default_rng(net.rng.bit_generator.seed_seq)).tape.masks[
            0
        ]


def test_a_loss_of_finite_outputs() -> None:
    net = scalar_net(1e200)
    with pytest.raises(NonFiniteLossError, match="every output is finite") as caught:
        fit(net, [(ONE, ZERO)], optimizer=Scripted(1.0))
    assert caught.value.place == "the loss (every output is finite)"


@pytest.mark.parametrize(("weights", "sequence"), [(None, 0), ([0.0, 1.0], 1)])
def test_a_gradient_that_is_not_a_number(weights, sequence) -> None:
    # The output is 0 · h(t), finite; its gradient overflows on the way back, and inf · 0 is NaN.
    net = exploding(returns="last")
    net.parameters["weight_hh_l0"][:] = 1e12 * np.array([[1, -1], [-1, 1]], "float32")
    x = 0 * ONES
    target = np.array([[1.0, -1.0], [1.0, -1.0]], "float32")
    counted = None if weights is None else np.array(weights, "float32")
    with pytest.raises(NonFiniteLossError, match="became NaN in epoch 1, batch 1: ") as caught:
        fit(net, Batch(x, target, weights=counted), optimizer=SGD(0.1))
    assert caught.value.place.startswith(f"dh at step 4, unit 0, layer 0, sequence {sequence}")


def test_losses_that_are_read_later_have_no_place() -> None:
    net = exploding(returns="last")
    batches = [(ONES, np.zeros((2, 2), "float32"))] * 2
    with pytest.raises(NonFiniteLossError) as caught:
        fit(net, batches, optimizer=Scripted(1.0), report_every=2)
    assert caught.value.place == ""


def test_the_flow_says_it() -> None:
    flow = gradient_flow(exploding(), ONES, np.zeros((9, 2, 2), "float32"))
    assert flow.nonfinite == "v at step 4, unit 0, layer 0, sequence 0 (inf)"
    assert flow.sentence == f"the gradient is not finite; first non-finite: {flow.nonfinite}"
    net = exploding(returns="last")
    flow = gradient_flow(net, 0 * ONES, d_output=np.ones((2, 2), "float32"))
    assert flow.nonfinite == "dh at step 4, unit 0, layer 0, sequence 0 (inf)"
    assert not np.any(np.isfinite(flow.norms[0, :5]))
    assert np.all(np.isfinite(flow.norms[0, 5:]))
