"""Steps after the first ones take their memory from those before: the system gives none."""

import pytest

from tests.process import run_python
from xprnn.bench import layer, training

resource = pytest.importorskip("resource")

pytestmark = pytest.mark.slow

STEPS = """
import resource
import numpy as np
import xprnn
from xprnn.bench import layer, training
from xprnn.engine.network import loss_and_grad
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def stack(cell, case, backend, threads):
    # Two layers in both directions, with dropout, lengths, and another rule and loss.
    rng, (inputs, hidden, batch, steps) = np.random.default_rng(0), case
    x, y = (rng.standard_normal((steps, batch, n), dtype="float32") for n in (inputs, 2))
    options = dict(cell=cell, layers=2, bidirectional=True, dropout=0.2, recurrent_dropout=0.1)
    net = xprnn.RNN(inputs, hidden, 2, **options, rng=0)
    rule = xprnn.optim.SGD(momentum=0.9)
    lengths = [steps - k for k in range(batch)]
    state, loss = rule.init(net.parameters), xprnn.losses.SquaredError()

    def work():
        nonlocal state
        run = net.forward(x, lengths=lengths, rng=1)
        gradient = net.backward(run, loss.value_and_grad(run.output, y)[1]).parameters
        clipped, _ = xprnn.optim.clip_by_norm(gradient, 1e-3)
        net.parameters, state = rule.update(clipped, state, net.parameters)

    return work

def window(cell, case, backend, threads):
    rng, (inputs, hidden, batch, steps) = np.random.default_rng(0), case
    x, y = (rng.standard_normal((steps, batch, n), dtype="float32") for n in (inputs, 2))
    net = xprnn.RNN(inputs, hidden, 2, cell=cell, rng=0)
    lengths = [steps - k for k in range(batch)]
    return lambda: net.value_and_grad(x, y, lengths=lengths, window=2)

def words(cell, batch, backend, threads):
    # The readout's gradient is factored for one sentence, and dense for many.
    x, y = np.random.default_rng(0).integers(0, 3000, (2, 20, batch))
    net, rule = xprnn.RNN(3000, 100, 3000, cell=cell, rng=0), xprnn.optim.SGD(0.01)
    state, loss = rule.init(net.parameters), xprnn.losses.CrossEntropy()

    def work():
        nonlocal state
        _, gradient, _ = loss_and_grad(net, x, y, loss, factored=True)
        net.parameters, state = rule.update(gradient.parameters, state, net.parameters)

    return work

PREPARE = {{
    "words": ({{"sentence": 1, "batch": 32}}, words),
    "layer": (layer.CASES, layer.xprnn_layer),
    "training": (training.CASES, training.xprnn_training),
    "stack": (layer.CASES, stack),
    "window": (layer.CASES, window),
}}
for kind, cell, case in {works}:
    cases, prepare = PREPARE[kind]
    work = prepare(cell, cases[case], "numpy", 2)
    for _ in range({warm}):
        work()
    groups = []
    for _ in range(2):
        before = faults()
        for _ in range({steps}):
            work()
        groups.append((faults() - before) / {steps})
        # The system has reasons of its own for faults: the better group counts.
        if groups[0] == 0:
            break
    print(kind, cell, case, min(groups))
"""
MANY = 50
CELLS = ("elman", "gru", "lstm")
QUICK = [
    ("stack", "lstm", "rltools"),
    ("window", "elman", "medium"),
    ("layer", "elman", "small"),
    ("layer", "gru", "rltools"),
    *(("layer", "lstm", case) for case in ("tiny", "wildml", "medium")),
    ("training", "lstm", "characters"),
    ("training", "elman", "characters-256"),
    ("training", "lstm", "characters-256"),
    ("training", "gru", "forecast"),
    ("words", "elman", "sentence"),
    ("words", "elman", "batch"),
]
NO_LUCK = {"MALLOC_MMAP_THRESHOLD_": str(2**17), "MALLOC_TRIM_THRESHOLD_": str(2**20)}
"""The GNU C library's own limits, for which it takes larger ones once it has freed such an array.

As they are here, every array of 128 KiB that is not in the pool comes from the system."""
HEAVY = ("large", "fastrnn", "wide", "dbench")


def faults(works, lowering, threads, steps=10, **variables):
    """Return how many pages a step of each work gets from the system."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    code = STEPS.format(works=works, warm=max(3, steps // 2), steps=steps)
    found = run_python(code, XPRNN_LOWERING=lowering, **limits, **variables)
    return {line.rsplit(" ", 1)[0]: float(line.split()[-1]) for line in found.splitlines()}


@pytest.mark.parametrize(("lowering", "threads"), [("on", 1), ("on", 2), ("numpy", 1)])
def test_a_step_gets_no_memory_from_the_system(lowering, threads):
    found = faults(QUICK, lowering, threads, **NO_LUCK)
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
    works += [("window", cell, "medium")]
    # More threads of a BLAS change nothing, and take long on a machine that is busy.
    threads = 1 if lowering == "numpy" else 2
    found = faults(works, lowering, threads)
    for case in HEAVY:
        found |= faults([("layer", cell, case)], lowering, threads, steps=3)
    assert len(found) == len(layer.CASES) + len(training.CASES) + 1
    assert {work: count for work, count in found.items() if count >= MANY} == {}
