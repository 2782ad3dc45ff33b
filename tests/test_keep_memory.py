"""Memory that a process keeps for its next arrays."""

import sys

import pytest

from tests.process import run_python

SCRIPT = """
import resource
import numpy as np
from xprnn.backend.host.memory import keep_freed_memory
if KEEP:
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    np.ones(2**22, dtype="float32")
before = faults()
for _ in range(8):
    [np.ones(2**22, dtype="float32") for _ in range(2)]
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_freed_memory_is_used_again():
    # Two arrays of 16 MiB, eight times: fetched from the system page by page, or once for all.
    fetched, kept = (int(run_python(f"KEEP = {keep}\n{SCRIPT}")) for keep in (False, True))
    assert kept < 0.5 * fetched
