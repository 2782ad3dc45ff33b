"""Steps after the first ones take their memory from those before: the system gives none."""

import pytest

from tests.process import run_python
from xprnn.bench import layer, training

resource = pytest.importorskip("resource")

pytestmark = pytest.mark.slow

STEPS = """
import resource, sys
from xprnn.bench import layer, training
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for kind, cell, case in {works}:
    of = {{"layer": layer, "training": training}}[kind]
    prepare = layer.xprnn_layer if kind == "layer" else training.xprnn_training
    work = prepare(cell, of.CASES[case], "numpy", 2)
    for _ in range({warm}):
        work()
    groups = []
    for _ in range(2):
        before = faults()
        for _ in range({steps}):
            work()
        groups.append((faults() - before) / {steps})
    # The system has reasons of its own for a fault, when memory is short: the better group counts.
    print(kind, cell, case, min(groups))
"""
MANY = 50
CELLS = ("elman", "gru", "lstm")
QUICK = [
    *(("layer", cell, case) for cell in ("elman", "gru") for case in ("tiny", "small", "medium")),
    *(("layer", "lstm", case) for case in ("wildml", "rltools", "medium")),
    *(("training", cell, "characters") for cell in CELLS),
    ("training", "lstm", "forecast"),
]
HEAVY = ("large", "fastrnn", "wide", "dbench")


def faults(works, lowering, threads, steps=10):
    """Return how many pages a step of each work gets from the system."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    code = STEPS.format(works=works, warm=max(3, steps // 2), steps=steps)
    found = run_python(code, XPRNN_LOWERING=lowering, **limits)
    return {line.rsplit(" ", 1)[0]: float(line.split()[-1]) for line in found.splitlines()}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("lowering", ["on", "numpy"])
def test_a_step_gets_no_memory_from_the_system(lowering, threads):
    if threads == 1 and lowering == "numpy":
        pytest.skip("BLAS by itself makes no arrays")
    found = faults(QUICK, lowering, threads)
    assert len(found) == len(QUICK)
    assert {work: count for work, count in found.items() if count >= MANY} == {}


def test_without_the_pool_it_does():
    """The test above can fail."""
    works = [("layer", "lstm", "medium")]
    code = STEPS.format(works=works, warm=3, steps=5)
    found = run_python(code, XPRNN_LOWERING="numpy", XPRNN_POOL="0", OPENBLAS_NUM_THREADS="1")
    assert float(found.split()[-1]) > 10 * MANY


@pytest.mark.full
@pytest.mark.parametrize("lowering", ["on", "numpy"])
@pytest.mark.parametrize("cell", CELLS)
def test_all_shapes(cell, lowering):
    works = [("layer", cell, case) for case in layer.CASES if case not in HEAVY]
    works += [("training", cell, case) for case in training.CASES]
    found = faults(works, lowering, 2)
    for case in HEAVY:
        found |= faults([("layer", cell, case)], lowering, 2, steps=3)
    assert len(found) == len(layer.CASES) + len(training.CASES)
    assert {work: count for work, count in found.items() if count >= MANY} == {}
