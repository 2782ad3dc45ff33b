"""The same seed on the same machine gives the same bits."""

import ast
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import array_api_compat.numpy
import numpy as np
import pytest

import xprnn
from tests.process import run_python
from xprnn.backend.libraries.cupy import CuPy

pytestmark = pytest.mark.slow

TRAININGS = """
import hashlib
import numpy as np
import xprnn
from xprnn.data import minibatches

def digest(net):
    # The names count, too, and their order.
    held = hashlib.sha256()
    for name, array in net.parameters.items():
        held.update(name.encode() + np.ascontiguousarray(net.backend.to_numpy(array)).tobytes())
    return held.hexdigest()

def train(net, x, target, loss):
    before, be = digest(net), net.backend
    batches = minibatches(be.asarray(x), be.asarray(target), 4, rng=1)
    sgd = xprnn.optim.SGD(0.1, momentum=0.9)
    xprnn.fit(net, batches, optimizer=sgd, loss=loss, clip_norm=0.5, epochs=2)
    return before, digest(net)

# JAX compiles every operation for each shape: so all sizes are equal, and it trains one network.
rng = np.random.default_rng(0)
x, target = rng.normal(size=(2, 4, 8, 4))
tokens = rng.integers(0, 4, size=(5, 4))
for backend in xprnn.available_backends():
    options = {"backend": backend, "rng": 0}
    dropout = {"layers": 2, "dropout": 0.3, "recurrent_dropout": 0.2}
    if backend != "jax":
        dense = xprnn.RNN(4, 4, 4, **dropout, **options)
        print(backend, "dense", *train(dense, x, target, "squared_error"))
        one_hot = xprnn.RNN(4, 4, 4, **options)
        print(backend, "one-hot", *train(one_hot, tokens[:-1], tokens[1:], "cross_entropy"))
    embedding = xprnn.RNN(4, 4, 4, embedding_size=4, **options)
    print(backend, "embedding", *train(embedding, tokens[:-1], tokens[1:], "cross_entropy"))
"""


def test_two_processes_train_to_the_same_bits():
    """On every backend in one process, because starting takes most of the time."""
    with ThreadPoolExecutor() as pool:
        # The order of a set of names differs between processes.
        printed = list(pool.map(lambda seed: run_python(TRAININGS, PYTHONHASHSEED=seed), "12"))
    one, other = (
        {tuple(words[:2]): words[2:] for words in map(str.split, text.splitlines())}
        for text in printed
    )
    installed = set(xprnn.available_backends())
    assert {backend for backend, _ in one} == installed
    assert len(one) == 3 * len(xprnn.available_backends()) - 2 * ("jax" in installed)
    assert one == other
    assert all(before != after for before, after in one.values()), "a training changed nothing"


class OnHost(CuPy):
    """The backend of CuPy, on NumPy's arrays: its indexing is NumPy's."""

    def namespace(self):
        return array_api_compat.numpy

    def device_of(self, a):
        del a
        return "cpu"


class Stored(np.ndarray):
    """An array that refuses to store several values in one entry.

    CuPy would store them in any order, and sum them, if asked to, with atomic additions.
    """

    def __setitem__(self, index, value):
        places = np.arange(self.size).reshape(self.shape)[index].ravel()
        assert len(set(places.tolist())) == len(places), "two values for one entry"
        super().__setitem__(index, value)


def test_cupy_adds_nothing_twice_to_one_entry():
    library, rng = OnHost(), np.random.default_rng(0)
    a = rng.normal(size=(4, 2)).view(Stored)
    columns, held = np.array([1, 1, 0, 1]), np.array(a)
    entries = library.add_to_entries(a, columns, np.arange(1.0, 5.0))
    held[[0, 1, 2, 3], columns] += np.arange(1.0, 5.0)
    np.testing.assert_array_equal(entries, held)


def test_no_atomic_addition_is_used():
    """Neither by CuPy's name for it nor by NumPy's, which CuPy has, too."""
    sources = list(Path(xprnn.__file__).parent.rglob("*.py"))
    assert len(sources) > 50
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert not ast.unparse(node).endswith((".scatter_add", "add.at")), path
