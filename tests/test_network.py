"""The network: its names, its inputs and outputs, and the backends that it computes on."""

import copy

import numpy as np
import pytest

import xprnn
from tests.cases import CASES, FEW, each_case, each_cell, each_form, row_of
from tests.closeness import FLOAT64, assert_all_close, assert_close
from tests.harness import on_every_backend
from xprnn import RNN, Gradient, Run
from xprnn.cells import Elman, has_layer_norm, unit_names

ELMAN = row_of("elman-tanh")


def test_the_public_names():
    objects = {"RNN", "Backend", "Gradient", "History", "NonFiniteLossError", "Run"}
    functions = {"available_backends", "fit", "get_backend", "unroll", "unroll_backward"}
    modules = {"cells", "data", "initializers", "losses", "optim"}
    assert objects | functions | modules | {"TrainingInterrupted"} <= set(xprnn.__all__)
    assert all(hasattr(xprnn, name) for name in xprnn.__all__)


@each_form
def test_names_and_shapes_of_parameters(case):
    rows = case.cell.gates * case.H
    shapes: dict[str, tuple[int, ...]] = {"weight_ih_l0": (rows, case.I)}
    if type(case.cell).__name__ not in ("MinGRU", "MinLSTM", "IndRNN"):
        shapes["weight_hh_l0"] = (rows, case.H)
    if case.bias:
        shapes["bias_l0"] = (rows,)
    for name in unit_names(case.cell):
        if case.bias or not name.startswith("bias"):
            shapes[f"{name}_l0"] = (case.H,)
    if has_layer_norm(case.cell):
        shapes |= {"norm_ih_l0": (rows,), "norm_hh_l0": (rows,)}
    if case.O is not None:
        shapes["readout.weight"] = (case.O, case.H)
        if case.bias:
            shapes["readout.bias"] = (case.O,)
    net = case.make(rng=0)
    assert {name: p.shape for name, p in net.parameters.items()} == shapes
    assert list(net.parameters) == list(shapes)
    assert all(p.dtype == np.float32 for p in net.parameters.values())
    assert all(np.any(p != 0) for p in net.parameters.values())


@each_case
def test_names_and_shapes_of_what_comes_out(case):
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    run = net.forward(problem.x, problem.state)
    assert isinstance(run, Run)
    assert run.output.shape == problem.target.shape
    assert [part.shape for part in run.state] == [(1, case.B, case.H)] * len(case.cell.state)
    gradient = net.backward(run, problem.d_output, problem.d_state)
    assert isinstance(gradient, Gradient)
    assert list(gradient.parameters) == list(net.parameters)
    assert {k: g.shape for k, g in gradient.parameters.items()} == {
        k: p.shape for k, p in net.parameters.items()
    }
    assert gradient.input.shape == problem.x.shape
    assert [part.shape for part in gradient.state] == [part.shape for part in run.state]


def test_attributes_are_as_given():
    net = RNN(2, 3, 4, cell=Elman("relu"), bias=False, returns="last", dtype="float64")
    assert (net.input_size, net.hidden_size, net.output_size) == (2, 3, 4)
    assert (net.cell, net.bias, net.returns) == (Elman("relu"), False, "last")
    assert net.backend == xprnn.get_backend("numpy", dtype="float64")
    assert net.metadata == {}
    assert RNN(2, 3).output_size is None


def test_repr_says_what_the_network_is():
    net = RNN(2, 3, cell=Elman("relu"), returns="last", backend="array_api_strict", dtype="float64")
    assert repr(net) == (
        "RNN(2, 3, None, cell=Elman(activation='relu'), bias=True, returns='last', "
        "backend='array_api_strict', device=\"array_api_strict.Device('CPU_DEVICE')\", "
        "dtype='float64')"
    )


def test_numpy_sizes_are_sizes():
    net = RNN(np.int64(2), np.int32(3), np.uint8(1))
    assert (net.input_size, net.hidden_size, net.output_size) == (2, 3, 1)
    assert type(net.input_size) is int


@on_every_backend(CASES)
def test_calling_is_forward_without_a_tape(case, harness):
    net, problem = harness.net(case), case.problem()
    x, state = harness.array(problem.x), harness.arrays(problem.state)
    output, final = net(x, state)
    run = net.forward(x, state)
    assert_close(harness.host(output), harness.host(run.output), 0.0)
    assert len(final) == len(run.state)
    for got, want in zip(final, run.state, strict=True):
        assert_close(harness.host(got), harness.host(want), 0.0)


@on_every_backend()
def test_two_halves_with_the_state_handed_over_are_the_whole(case, harness):
    net, problem = harness.net(case), case.but(T=7).problem()
    x, state = harness.array(problem.x), harness.arrays(problem.state)
    whole, final = net(x, state)
    first, border = net(x[:3, ...], state)
    second, end = net(x[3:, ...], border)
    halves = np.concatenate([harness.host(first), harness.host(second)])
    assert_close(halves, harness.host(whole), FLOAT64)
    for got, want in zip(end, final, strict=True):
        assert_close(harness.host(got), harness.host(want), FLOAT64)


@each_cell
def test_last_is_the_last_of_the_sequence(case):
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    last = case.but(returns="last").make(dtype="float64", rng=0)
    assert_close(last(problem.x)[0], net(problem.x)[0][-1], FLOAT64)


@each_cell
def test_a_sequence_does_not_depend_on_its_neighbours(case):
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    together, _ = net(problem.x)
    for k in range(case.B):
        alone, _ = net(problem.x[:, k : k + 1])
        assert_close(alone[:, 0], together[:, k], FLOAT64)


@on_every_backend(CASES)
def test_arguments_stay_as_they_are(case, harness):
    net, problem = harness.net(case), case.problem()
    given = {
        "x": harness.array(problem.x),
        "target": harness.array(problem.target),
        "d_output": harness.array(problem.d_output),
        "state": harness.array(problem.state[0]),
        "d_state": harness.array(problem.d_state[0]),
        **net.parameters,
    }
    before = harness.hosts(given)
    state = (given["state"], *harness.arrays(problem.state[1:]))
    d_state = (given["d_state"], *harness.arrays(problem.d_state[1:]))
    net(given["x"], state)
    net.backward(net.forward(given["x"], state), given["d_output"], d_state)
    net.value_and_grad(given["x"], given["target"], state=state)
    assert_all_close(harness.hosts(given), before, 0.0)
    assert all(net.parameters[name] is given[name] for name in net.parameters)


@each_cell
def test_the_state_is_not_kept(case):
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    first, _ = net(problem.x)
    net(problem.x, problem.state)
    net.value_and_grad(problem.x, problem.target, state=problem.state)
    assert_close(net(problem.x)[0], first, 0.0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@on_every_backend(FEW)
def test_a_seed_means_the_same_weights_everywhere(case, harness, dtype):
    """Weights are drawn on the host, by the same lines for all cells."""
    harness = harness.at(dtype)
    host = case.make(dtype="float64", rng=7).parameters
    net = case.make(backend=harness.backend, rng=7)
    for name, array in net.parameters.items():
        assert_close(harness.host(array), host[name].astype(dtype), 0.0, name)


def test_seeds_and_generators():
    assert np.array_equal(*(RNN(2, 3, rng=4).parameters["weight_hh_l0"] for _ in range(2)))
    generator = np.random.default_rng(4)
    first, second = (RNN(2, 3, rng=generator).parameters["weight_hh_l0"] for _ in range(2))
    assert np.array_equal(first, RNN(2, 3, rng=4).parameters["weight_hh_l0"])
    assert not np.array_equal(first, second)
    fresh = [RNN(2, 3).parameters["weight_hh_l0"] for _ in range(2)]
    assert not np.array_equal(*fresh)


@on_every_backend(on_jax=FEW[1:])
def test_an_empty_batch(case, harness):
    net = harness.net(case)
    problem = case.but(B=0).problem()
    x, target = harness.array(problem.x), harness.array(problem.target)
    output, state = net(x)
    assert harness.host(output).shape == (case.T, 0, case.O)
    assert harness.host(state[0]).shape == (1, 0, case.H)
    value, gradient = net.value_and_grad(x, target)
    assert harness.host(value) == 0
    assert all(not np.any(g) for g in harness.hosts(gradient.parameters).values())
    assert harness.host(gradient.input).shape == problem.x.shape


@on_every_backend()
def test_floats_of_another_precision_are_cast(case, harness):
    single = harness.at("float32")
    net, problem = single.net(case), case.problem()
    x = harness.array(problem.x)
    output, _ = net(x, harness.arrays(problem.state))
    want, _ = net(single.array(problem.x), single.arrays(problem.state))
    assert_close(single.host(output), single.host(want), 0.0)
    value, gradient = net.value_and_grad(x, harness.array(problem.target))
    assert value.dtype == single.backend.dtype
    assert single.hosts(gradient.parameters).keys() == net.parameters.keys()


def test_float16_computes_where_there_is_one():
    problem = ELMAN.problem()
    for name in ("numpy", "torch", "jax"):
        net = ELMAN.make(backend=name, dtype="float16", rng=0)
        value, gradient = net.value_and_grad(
            net.backend.asarray(problem.x), net.backend.asarray(problem.target)
        )
        want, _ = ELMAN.make(dtype="float64", rng=0).value_and_grad(problem.x, problem.target)
        assert float(value) == pytest.approx(float(want), rel=0.01)
        assert {net.backend.dtype} == {g.dtype for g in gradient.parameters.values()}


@on_every_backend(CASES)
def test_moving_to_a_backend_and_back(case, harness):
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    net.metadata = {"scale": [1.5]}
    moved = net.to(harness.backend)
    assert moved.backend == harness.backend
    assert moved.metadata == net.metadata
    output, _ = moved(harness.array(problem.x), harness.arrays(problem.state))
    assert_close(harness.host(output), net(problem.x, problem.state)[0], FLOAT64)
    back = moved.to("numpy")
    assert back.backend == net.backend
    assert_all_close(dict(back.parameters), dict(net.parameters), 0.0)
    assert repr(back) == repr(net)


def test_moving_to_another_dtype():
    net = RNN(2, 3, 1, dtype="float64", rng=0)
    assert net.to("torch").backend.dtype_name == "float64"
    assert net.to("numpy", dtype="float32").backend.dtype_name == "float32"
    strict = xprnn.get_backend("array_api_strict", "device1", "float32")
    assert net.to(strict).backend == strict
    assert net.to(strict, dtype="float64").backend.dtype_name == "float64"
    assert "device2" in str(net.to("array_api_strict", "device2").backend.device)
    single = net.to("numpy", dtype="float32").parameters["weight_hh_l0"]
    assert_close(single, net.parameters["weight_hh_l0"].astype("float32"), 0.0)


def test_the_moved_network_is_another_one():
    net = RNN(2, 3, 1, dtype="float64", rng=0)
    net.metadata = {"scale": [1.5]}
    before = {name: p.copy() for name, p in net.parameters.items()}
    moved = net.to("numpy")
    for array in moved.parameters.values():
        np.add(array, 1, out=array)
    moved.metadata["scale"].append(2)
    assert_all_close(dict(net.parameters), before, 0.0)
    assert net.metadata == {"scale": [1.5]}


def test_a_custom_cell_moves():
    case = row_of("custom-gated")
    net = case.make(dtype="float64", rng=0)
    assert net.to("torch").cell is case.cell


def test_parameters_can_be_copied_for_later():
    net = RNN(2, 3, 1, rng=0)
    kept = copy.copy(dict(net.parameters))
    net.parameters = {name: 2 * p for name, p in kept.items()}
    net.parameters = kept
    assert all(net.parameters[name] is p for name, p in kept.items())
