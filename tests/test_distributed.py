"""Data-parallel training: the same numbers as in one process, on every rank."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import ranks
from tests.ranks import results

pytestmark = pytest.mark.slow


def close(found: Any, wanted: Any) -> None:
    """Compare losses and norms to 1e-10."""
    found, wanted = (np.array(part["records"], dtype=float) for part in (found, wanted))
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """Return the trainings of one process without a communicator."""
    return {
        f"{train.__name__}-{name}": ranks.numbers(train(name))
        for train in (ranks.dense, ranks.sparse)
        for name in ranks.OPTIMIZERS
    }


@pytest.mark.parametrize("count", [1, 2, pytest.param(4, marks=pytest.mark.full)])
def test_every_optimizer_has_the_losses_of_one_process(
    count: int, alone: dict[str, Any], tmp_path: Path
) -> None:
    found = results(count, "trainings", tmp_path)
    for rank in found:
        assert rank == found[0]
    for name, training in found[0].items():
        close(training, alone[name])
    if count == 1:
        assert found[0] == alone
