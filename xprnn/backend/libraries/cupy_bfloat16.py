"""bfloat16 on CuPy, which has it from version 14 on, with the dtype of the package ml_dtypes.

Functions, sums and products of bfloat16 are bfloat16 there.  What is not, was looked up in CuPy
14.2: ``isdtype`` and ``finfo`` are NumPy's, which don't know the dtype; ``where`` and ``clip``
return float32; and a Python float beside an array makes float32 of it, as with NumPy's own arrays
of this dtype.  So the namespace here has some functions of its own, and array code that combines
arrays with floats computes in float32: see `Library.computes_in`.
"""

import importlib
import re
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

from xprnn.backend.host.arrays import np
from xprnn.backend.types import Array, DType, Namespace

FIRST = 14
"""CuPy's first version with the dtype."""

NUMPY = (2, 1, 2)
"""The oldest NumPy that it has it with, by CuPy's upgrade guide."""

_KINDS = ("real floating", "numeric")


def why_not() -> str:
    """Return what CuPy lacks for bfloat16, and how to get it; an empty text if nothing."""
    version = importlib.import_module("cupy").__version__
    if _numbers(version) < (FIRST,):
        return f"CuPy has bfloat16 from version {FIRST} on, and this is {version}"
    if _numbers(np.__version__) < NUMPY:
        oldest = ".".join(map(str, NUMPY))
        return f"CuPy has bfloat16 with NumPy {oldest} or newer, and this is {np.__version__}"
    try:
        importlib.import_module("ml_dtypes")
    except ImportError:
        return "CuPy has bfloat16 with the package ml_dtypes: pip install ml_dtypes"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with."""
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])


@lru_cache(maxsize=1)
def with_bfloat16(compat: Namespace) -> Namespace:
    """Return the namespace of array_api_compat with bfloat16; itself, if CuPy lacks the dtype."""
    if why_not():
        return compat
    ml_dtypes: Any = importlib.import_module("ml_dtypes")
    narrow = np.dtype(ml_dtypes.bfloat16)

    def isdtype(dtype: DType, kind: Any) -> bool:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if dtype == narrow:
            return any(k in _KINDS if isinstance(k, str) else k == narrow for k in kinds)
        known = tuple(k for k in kinds if isinstance(k, str) or k != narrow)
        return bool(known) and bool(compat.isdtype(dtype, known))

    def finfo(of: Any) -> Any:
        dtype = getattr(of, "dtype", of)
        return ml_dtypes.finfo(narrow) if dtype == narrow else compat.finfo(of)

    own = ModuleType(compat.__name__)
    vars(own).update(vars(compat))
    vars(own).update(bfloat16=narrow, isdtype=isdtype, finfo=finfo)
    for name in ("where", "clip", "maximum", "minimum"):
        vars(own)[name] = _kept(getattr(compat, name), narrow)
    return own


def _kept(function: Callable[..., Array], narrow: DType) -> Callable[..., Array]:
    """Return a function whose result is of the narrow dtype if its arrays are."""

    def kept(*arguments: Any, **options: Any) -> Array:
        made = function(*arguments, **options)
        if made.dtype == narrow:
            return made
        dtypes = [a.dtype for a in (*arguments, *options.values()) if hasattr(a, "dtype")]
        # The condition of `where` is of booleans.
        numbers = [dtype for dtype in dtypes if dtype.kind != "b"]
        return made.astype(narrow) if numbers and set(numbers) == {narrow} else made

    return kept
