"""The pytest plugin that pytest loads: options, markers and the fixture `backend`.

Every run of pytest in an environment with xprnn loads this file, whether or not the tests use
xprnn, and before coverage is measured.  So it is not a part of the package ``xprnn``, whose import
brings NumPy, and it imports the package only when a test asks for the fixture.  The work is done in
`xprnn.testing.pytest_plugin`.
"""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xprnn.backend import Backend

MARKERS = (
    "skip_backend(name, *, reason): skip the test on this backend of xprnn.",
    "xfail_backend(name, *, reason, raises, strict): the test is expected to fail on this "
    "backend of xprnn; the options are those of xfail.",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the configuration value that choose the backends."""
    # Prefixed, because other projects have an option ``--backends`` already.
    parser.getgroup("xprnn").addoption(
        "--xprnn-backends",
        metavar="NAMES",
        help="backends that the fixture `backend` stands for: names separated by commas, each with "
        "a device if wanted (numpy,torch@cuda:1); default: all",
    )
    parser.addini("xprnn_backends", "default of --xprnn-backends", type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and report a misspelt backend before any test is collected."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    if config.getoption("xprnn_backends") or config.getini("xprnn_backends"):
        _inside().chosen_backends(config)


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that uses the fixture `backend` once per backend."""
    # The fixture `_xprnn` is used only if `backend` is the one below and not a fixture of the
    # project.  The project may have parametrised it already, by a hook like this one.
    given = any("backend" in call.params for call in getattr(metafunc, "_calls", ()))
    if "_xprnn" in metafunc.fixturenames and not given:
        names = _inside().chosen_backends(metafunc.config)
        metafunc.parametrize("backend", names, indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Any:
    """Put into pytest's short summary what a failed check says, without the name of its class."""
    report = yield
    error = None if call.excinfo is None else call.excinfo.value
    # Recognised by its module, so that nothing is imported for the tests of others.
    if error is not None and type(error).__module__.startswith("xprnn.testing."):
        crash = getattr(report.longrepr, "reprcrash", None)
        sentence = str(error).partition("\n")[0]
        if crash is not None and sentence:
            crash.message = sentence
    return report


@pytest.fixture(scope="session")
def _xprnn() -> Any:
    return _inside()


@pytest.fixture(scope="session")
def xprnn_dtype() -> str:
    """Return the dtype of the fixture `backend`; a module or a conftest.py may override it."""
    return "float64"


@pytest.fixture
def backend(request: pytest.FixtureRequest, _xprnn: Any, xprnn_dtype: str) -> "Backend":
    """Return an open `xprnn.Backend`; the test is skipped if the library is not installed."""
    opened: Backend = _xprnn.open_backend(request, xprnn_dtype)
    return opened


def _inside() -> Any:
    from xprnn.testing import pytest_plugin

    return pytest_plugin
