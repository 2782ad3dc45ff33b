"""A machine with a CUDA device may lack what only other tests need."""

from tests.process import run_python

BARRED = (
    *("jax", "torch", "jupytext", "array_api_strict", "onnx", "onnxruntime", "hypothesis"),
    *("safetensors", "matplotlib", "numba"),
)

RUN_THERE = (
    *("cupy_device", "accumulation", "checkpoint", "determinism", "edges", "factored", "network"),
    *("optim_groups", "optim_into", "optim_rules", "ownership", "sparse", "train"),
    *("train_failures", "gradients", "layers", "layer_norm", "lengths", "losses", "cross_entropy"),
    *("window", "window_layers", "recompute", "dropout", "embedding", "tokens", "unroll", "optim"),
    *("optim_averaged", "optim_sparse", "rprop", "tangents", "activations", "asarray", "ensemble"),
    *("data_batches", "network_errors", "save"),
)
"""The files of tests that are of use on such a machine whatever it lacks: they can be imported, and
skip single tests for which something is missing (see `tests.optional`)."""

LEFT_OUT = ("backend", "state_dict")
"""Those that are left out as a whole without torch or JAX."""

CODE = f"""
import importlib, sys
import pytest
sys.modules.update(dict.fromkeys({BARRED}))
import tests.conftest
for name in {RUN_THERE}:
    importlib.import_module("tests.test_" + name)
for name in {LEFT_OUT}:
    try:
        importlib.import_module("tests.test_" + name)
    except pytest.skip.Exception as reason:
        assert "could not import" in str(reason)
    else:
        raise AssertionError(name + " can be imported: it belongs to RUN_THERE")
"""


def test_what_runs_on_a_device_imports_nothing_that_may_be_missing():
    run_python(CODE)
