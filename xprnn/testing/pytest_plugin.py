"""The part of the pytest plugin that imports xprnn: which backends to test on, and opening them.

The plugin that pytest loads, ``entry/pytest_xprnn.py``, imports this module when a test asks for a
backend.  Nothing else in xprnn imports it, because pytest is not a dependency of xprnn.
"""

import pytest

from xprnn.backend import Backend, get_backend, probe
from xprnn.backend.registry import NAMES


def chosen_backends(config: pytest.Config) -> list[str]:
    """Return the backends that were chosen by option or configuration; by default all known ones.

    Each is a name, with a device if wanted, or a user namespace: ``"numpy"``, ``"torch@cuda"``,
    ``"module:namespace"``.

    Raises
    ------
    pytest.UsageError
        If a name is unknown.
    """
    option = config.getoption("xprnn_backends")
    words = config.getini("xprnn_backends") if option is None else [option]
    specs = [spec.strip() for word in words for spec in word.split(",") if spec.strip()]
    for spec in specs:
        if not _is_known(spec):
            raise pytest.UsageError(f"xprnn has no backend {spec!r}: {_known()}")
    # Without duplicates, which would give two tests the same name.
    return list(dict.fromkeys(specs)) or list(NAMES)


def open_backend(request: pytest.FixtureRequest, dtype: str) -> Backend:
    """Open the backend that a test is to run on, or skip the test.

    Raises
    ------
    TypeError, ValueError
        If a marker of the test names no backend, or has an unknown option.
    ImportError, RuntimeError, ValueError
        If the library can be used, but not on this device or in this dtype, or a user namespace
        can't be used; see `get_backend`.
    """
    spec = getattr(request, "param", None)
    if spec is None:
        pytest.fail("the fixture `backend` must stand among the arguments of a test", pytrace=False)
    name, _, device = spec.partition("@")
    for mark in request.node.iter_markers("skip_backend"):
        if _marked(mark, {"reason"}) in (name, spec):
            pytest.skip(mark.kwargs.get("reason", f"marked skip_backend({name!r})"))
    for mark in request.node.iter_markers("xfail_backend"):
        if _marked(mark, {"reason", "raises", "strict"}) in (name, spec):
            request.applymarker(pytest.mark.xfail(**mark.kwargs))
    if name in NAMES:
        found = probe(name)
        if not found.usable:
            pytest.skip(found.reason)
    return get_backend(name, device or None, dtype)


def _marked(mark: pytest.Mark, options: set[str]) -> str:
    """Return the backend that a marker names."""
    if len(mark.args) != 1 or not isinstance(mark.args[0], str):
        raise TypeError(f"{mark.name} takes one name of a backend, got {mark.args}")
    if unknown := set(mark.kwargs) - options:
        raise TypeError(
            f"{mark.name} has no {sorted(unknown)}: known are {', '.join(sorted(options))}"
        )
    spec: str = mark.args[0]
    if not _is_known(spec):
        raise ValueError(f"{mark.name} names {spec!r}: {_known()}")
    return spec


def _is_known(spec: str) -> bool:
    name = spec.partition("@")[0]
    return name in NAMES or ":" in name


def _known() -> str:
    names = ", ".join(repr(name) for name in NAMES)
    return f"known are {names}, and 'module:namespace' for a namespace of your own"
