"""The threads of BLAS."""

import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from tests.cli_tools import run
from xprnn import RNN
from xprnn.backend.host.threads import blas, blas_threads
from xprnn.cli.train import session
from xprnn.testing import check_gradients


def counts():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_the_limit_holds_inside_and_ends_outside():
    before = counts()
    with blas_threads(1):
        assert counts() == {1}
        assert {library["threads"] for library in blas()} == {1}
    assert counts() == before


def test_without_the_package_nothing_is_limited(monkeypatch):
    before = counts()
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with blas_threads(1):
        assert counts() == before


@pytest.mark.parametrize("threads", [1, 2])
def test_trainings_use_as_many_as_asked(threads, monkeypatch, tmp_path):
    seen, fit = [], session.fit

    def watch(*args, **options):
        seen.append(counts())
        return fit(*args, **options)

    monkeypatch.setattr(session, "fit", watch)
    words = ["--hidden", "3", "--epochs", "2", "--threads", threads, "--out", tmp_path]
    assert run("train", "sine", *words).status == 0
    assert seen == [{threads}]


def test_gradients_are_checked_with_one(monkeypatch):
    seen, forward = set(), RNN.forward

    def watch(*args, **options):
        seen.update(counts())
        return forward(*args, **options)

    monkeypatch.setattr(RNN, "forward", watch)
    with blas_threads(2):
        check_gradients(RNN(2, 3, 1, rng=0), np.ones((3, 2, 2), "float32"))
        assert counts() == {2}
    assert seen == {1}


def test_a_bad_number(tmp_path):
    result = run("train", "sine", "--threads", "0", "--out", tmp_path)
    assert result.status == 1
    assert "--threads is 0: expected an int of at least 1" in result.error
