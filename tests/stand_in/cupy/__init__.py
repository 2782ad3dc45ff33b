"""A package in CuPy's place, for processes that are started with this folder on ``PYTHONPATH``.

It is `tests.device_arrays`, held for as long as the process lives.
"""

import sys

from tests.device_arrays import device_arrays

_spec, _held = __spec__, device_arrays()
_held.__enter__()
sys.modules["cupy"].__spec__ = _spec
sys.modules["cupy"]._held = _held  # or it would be collected, and so ended
