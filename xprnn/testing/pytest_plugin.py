"""What the pytest plugin does once a test asks for a backend; pytest loads `pytest_xprnn`.

Nothing else in xprnn imports this module, as pytest is no dependency of the library.
"""

import pytest

from xprnn.backend import Backend, get_backend, probe
from xprnn.backend.registry import NAMES


def chosen_backends(config: pytest.Config) -> list[str]:
    """Return the backends to run through, as asked for, or all that xprnn knows.

    One is ``"numpy"``, ``"torch@cuda"`` or ``"module:namespace"``, a namespace of the user's own.

    Raises
    ------
    pytest.UsageError
        If there is no backend of a name.
    """
    option = config.getoption("xprnn_backends")
    words = config.getini("xprnn_backends") if option is None else [option]
    specs = [spec.strip() for word in words for spec in word.split(",") if spec.strip()]
    for spec in specs:
        if not _is_known(spec):
            raise pytest.UsageError(f"xprnn has no backend {spec!r}: {_known()}")
    # Twice the same would give two tests one name.
    return list(dict.fromkeys(specs)) or list(NAMES)


def open_backend(request: pytest.FixtureRequest, dtype: str) -> Backend:
    """Open the backend that a test is to run on, or skip the test.

    Raises
    ------
    TypeError, ValueError
        If a marker of the test doesn't name a backend, or holds anything unknown.
    ImportError, RuntimeError, ValueError
        See `get_backend`: of a library that works, but not on this device or in this dtype, and of
        a namespace of the user's own.
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
