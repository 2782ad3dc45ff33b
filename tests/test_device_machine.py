"""A machine with a CUDA device may lack what only other tests need."""

from tests.process import run_python

BARRED = ("jax", "torch", "jupytext", "array_api_strict", "onnx", "onnxruntime")

RUN_THERE = (
    *("cupy_device", "accumulation", "checkpoint", "determinism", "edges", "factored", "network"),
    *("optim_groups", "optim_into", "optim_rules", "ownership", "sparse", "train"),
    "train_failures",
)
"""The files of tests that are of use on such a machine whatever it lacks."""

CODE = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({BARRED}))
import tests.conftest
for name in {RUN_THERE}:
    importlib.import_module("tests.test_" + name)
"""


def test_what_runs_on_a_device_imports_nothing_that_may_be_missing():
    run_python(CODE)
