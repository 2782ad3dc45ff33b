"""The pytest plugin, as far as pytest loads it: options, markers and the fixture `backend`.

Every run of pytest in an environment with xprnn loads this file, before coverage is measured, and
whether or not its tests have to do with xprnn.  So it stands outside the package, whose import
brings NumPy, and it imports the package only once a test asks for the fixture.  What the fixture
does then is in `xprnn.testing.pytest_plugin`.
"""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xprnn import Backend

MARKERS = (
    "skip_backend(name, *, reason): skip the test on this backend of xprnn.",
    "xfail_backend(name, *, reason, raises, strict): the test is expected to fail on this "
    "backend of xprnn; the options are those of xfail.",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what chooses the backends."""
    # Prefixed, because projects that know nothing of this plugin define `--backends` themselves.
    parser.getgroup("xprnn").addoption(
        "--xprnn-backends",
        metavar="NAMES",
        help="what the fixture `backend` runs through: names of backends, separated by commas, "
        "each with a device if need be (numpy,torch@cuda:1); default: all",
    )
    parser.addini("xprnn_backends", "default of --xprnn-backends", type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Announce the markers, and report a misspelt backend before any test is collected."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    if config.getoption("xprnn_backends") or config.getini("xprnn_backends"):
        _inside().chosen_backends(config)


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each backend."""
    # `_xprnn` is there if `backend` is the fixture below and not one of the project's own; and a
    # project may have given it values by a hook like this one.
    given = any("backend" in call.params for call in getattr(metafunc, "_calls", ()))
    if "_xprnn" in metafunc.fixturenames and not given:
        names = _inside().chosen_backends(metafunc.config)
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture(scope="session")
def _xprnn() -> Any:
    return _inside()


@pytest.fixture(scope="session")
def xprnn_dtype() -> str:
    """Return the dtype of `backend`, "float64"; to be overridden by a module or a conftest.py."""
    return "float64"


@pytest.fixture
def backend(request: pytest.FixtureRequest, _xprnn: Any, xprnn_dtype: str) -> "Backend":
    """Return an open `xprnn.Backend`, each in turn; skip the test where one isn't installed."""
    opened: Backend = _xprnn.open_backend(request, xprnn_dtype)
    return opened


def _inside() -> Any:
    from xprnn.testing import pytest_plugin

    return pytest_plugin
