"""The backends that a test runs on."""

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.util import find_spec

import pytest

from tests.cli_tools import keep_figures
from tests.harness import FLAVOURS, Harness, flavour
from xprnn import get_backend
from xprnn.backend import probe
from xprnn.backend.host.pool import VARIABLE, pool
from xprnn.backend.numba.ahead import AHEAD

# Compiling takes a second and more per formula: tests/test_compiled*.py do it for every cell.
os.environ.setdefault("XPRNN_LOWERING", "numpy")

# Whether a second process compiles ahead must not decide what a test sees; tests/test_ahead.py
# allows it.
AHEAD.allowed = False

# The same for persistent CUDA kernels on the host, each size of which is a kernel of its own:
# tests/test_cuda_persistent*.py and tests/test_cupy_persistent.py choose them.
os.environ.setdefault("XPRNN_CUDA_LOOP", "step")

FULL = os.environ.get("FULL", "0") != "0"
if not FULL:
    # JAX compiles every operation by itself, and is done sooner if it optimizes nothing.
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
        " --xla_cpu_parallel_codegen_split_count=1",
    )

# To collect the stand-ins would put their folder on the path, and then CuPy seems to be installed.
collect_ignore = ["stand_in"]
if not find_spec("cupy"):
    collect_ignore += ["test_cupy_device.py"]


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled code where all processes of a run find it, and no other run does."""
    # With pytest-xdist, each worker's folder is in that of the run.
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch:
        if "XPRNN_CACHE" not in os.environ:
            patch.setenv("XPRNN_CACHE", str(folder / "compiled"))
        yield


LONG = (
    "test_check_gradients.py::test_every_backend_passes[[]custom-gated-jax]",
    "test_checkpoint_file.py::test_killed_at_any_line*without links]",
    "test_cli_parity_guests.py::test_what_comes_after_the_time_limit_is_skipped_and_listed",
    "test_compiled_functions.py::test_every_function_of_a_formula[[]float32]",
    "test_compiled_networks.py::test_gradients_by_differences[[]lstm-peepholes]",
    "test_compiled_networks.py::test_the_same_as_without_lowering[[]lstm-peepholes]",
    "test_compiled_widths.py::test_a_cache_with_code_of_another_width",
    "test_cross_entropy.py::test_narrow_targets_are_counted_as_they_are[[]jax]",
    "test_cuda_persistent.py::test_every_mutation_is_found[[]shared]",
    "test_cupy_bfloat16.py::test_a_training_launches_what_one_of_float16_does[[]plain-text-step]",
    "test_dense_headers.py::test_long_histories_are_written_and_read",
    "test_distributed_nccl.py::test_processes_that_disagree_are_told*",
    "test_embedding.py::test_every_backend_agrees_with_numpy[[]gru-jax]",
    "test_factored.py::test_fit_is_the_loop_with_dense_gradients[[]adam-2-jax]",
    "test_gpu_script.py::test_two_devices",
    "test_gradient_flow.py::test_backends_agree[[]gru-jax]",
    "test_jax_function.py::test_vmap",
    "test_layer_sizes.py::test_other_backends[[]jax]",
    "test_masks.py::test_a_batch_is_its_sequences_one_by_one*-jax]",
    "test_page_faults.py::test_a_step_gets_no_memory_from_the_system[[]numpy-1]",
    "test_parity.py::test_backends_agree_in_jax",
    "test_torch_compile.py::test_a_compiled_step_is_the_step[[]lstm-everything-plain]",
    "test_torch_compile.py::test_clipping",
    "test_torch_compile.py::test_optimizers*",
    "test_torch_compile.py::test_tokens_unroll_and_a_run",
    "test_train.py::test_the_same_history_on_every_backend[[]jax]",
)
"""Tests of two seconds and more that others stand in for in part: they need FULL=1, too."""


def is_full(item: pytest.Item) -> bool:
    """Whether a test runs with FULL=1 alone."""
    name = f"{item.path.name}::{item.name}"
    return bool(item.get_closest_marker("full")) or any(fnmatchcase(name, one) for one in LONG)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long, unless FULL=1."""
    if not FULL:
        left_out = {item for item in items if is_full(item)}
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=list(left_out))


@pytest.fixture(params=[flavour(name) for name in FLAVOURS])
def harness(request: pytest.FixtureRequest) -> Harness:
    """Return a backend in float64; ``harness.at("float32")`` is its other half."""
    name, device = FLAVOURS[request.param]
    found = probe(name)
    if not found.usable:
        pytest.skip(found.reason)
    backend = get_backend(name, device, dtype="float64")
    return Harness(backend, read_only=request.param == "numpy-readonly")


@pytest.fixture
def without_pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take no array from the pool, whose memory `tracemalloc` does not see."""
    monkeypatch.setenv(VARIABLE, "0")
    pool.cache_clear()
    yield
    pool.cache_clear()


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no picture: most of a short training's time is that of drawing."""
    keep_figures(monkeypatch)
