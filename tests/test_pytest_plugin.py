"""The pytest plugin: a project of the user's own over all backends, and projects that have nothing
to do with xprnn.
"""

import re
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from xprnn.backend import probe
from xprnn.backend.registry import NAMES

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
USABLE = sum(probe(name).usable for name in NAMES)


@pytest.fixture
def project(pytester, monkeypatch):
    """Return a function that writes files and runs pytest on them, with the plugin."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    # This run of pytest may have loaded the plugin already, by its entry point.
    monkeypatch.delitem(sys.modules, "pytest_xprnn", raising=False)
    # An editable installation has a copy of the plugin, as old as the installation.
    monkeypatch.syspath_prepend(ROOT / "xprnn" / "testing" / "entry")

    def run(*arguments, **files):
        for name, text in files.items():
            pytester.makepyfile(**{name: textwrap.dedent(text)})
        return pytester.runpytest_inprocess("-p", "pytest_xprnn", "-W", "error", *arguments)

    return run


def skipped_reasons(result):
    return [line for line in result.outlines if line.startswith("SKIPPED")]


ONE = """
def test_one(backend):
    assert backend.xp.sum(backend.asarray([1.0, 2.0])) == 3
"""


def test_one_test_a_backend(project):
    result = project("-v", "-rs", test_it=ONE)
    result.assert_outcomes(passed=USABLE, skipped=len(NAMES) - USABLE)
    for name in NAMES:
        result.stdout.fnmatch_lines([f"*::test_one[[]{name}[]] *"])


def test_the_short_summary_says_what_is_wrong(project):
    code = """
    import numpy as np
    import xprnn

    class Doubled(xprnn.cells.Elman):
        def backward(self, xp, saved, previous, d_state):
            du, dv, ds = super().backward(xp, saved, previous, d_state)
            return (2 * du[0],), dv, ds

    def test_gradient():
        xprnn.testing.check_cell(Doubled())

    def test_contract():
        xprnn.testing.check_gradient(lambda xp, x: x > 0, lambda xp, x, dy: dy, np.ones(2))

    def test_other():
        assert [] == [1]
    """
    result = project("-rf", test_it=code)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "FAILED test_it.py::test_gradient - the gradient of u[[]0[]][[]*[]] is *",
            "FAILED test_it.py::test_contract - <lambda> returned an array of bool: *",
            "FAILED test_it.py::test_other - *assert [[][]] == [[]1[]]",
        ]
    )


def test_the_fixture_is_an_open_backend_in_float64(project):
    code = """
    import xprnn

    def test_it(backend, request):
        assert isinstance(backend, xprnn.Backend)
        assert f"[{backend.name}]" in request.node.name
        assert backend.dtype_name == "float64"
    """
    project(test_it=code).assert_outcomes(passed=USABLE, skipped=len(NAMES) - USABLE)


def test_what_is_not_installed_is_skipped_with_the_reason(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "array_api_compat.torch", None)
    result = project("-rs", "--xprnn-backends", "numpy,torch", test_it=ONE)
    result.assert_outcomes(passed=1, skipped=1)
    (line,) = skipped_reasons(result)
    assert probe("torch").reason in line
    assert "the backend 'torch' is not installed" in line


@pytest.mark.parametrize(
    ("arguments", "ini", "names"),
    [
        (["--xprnn-backends", "torch,numpy"], "", ["torch", "numpy"]),
        (["--xprnn-backends=numpy, numpy,"], "", ["numpy"]),
        ([], "numpy jax", ["numpy", "jax"]),
        ([], "numpy, jax", ["numpy", "jax"]),
        (["--xprnn-backends", "torch"], "numpy", ["torch"]),
        (
            ["--xprnn-backends", "array_api_strict@device1,torch@cpu"],
            "",
            ["array_api_strict@device1", "torch@cpu"],
        ),
    ],
)
def test_backends_can_be_chosen(project, pytester, arguments, ini, names):
    pytester.makeini(f"[pytest]\nxprnn_backends = {ini}\n")
    result = project("-v", *arguments, test_it=ONE)
    result.assert_outcomes(passed=len(names))
    run = [line for line in result.outlines if "PASSED" in line]
    assert [re.search(r"\[(.*?)\]", line)[1] for line in run] == names


def test_a_device_is_opened(project):
    code = """
    def test_it(backend):
        assert str(backend.device) == "array_api_strict.Device('device1')"
    """
    project("--xprnn-backends=array_api_strict@device1", test_it=code).assert_outcomes(passed=1)


def test_a_namespace_of_the_user_s_own(project):
    code = """
    import pytest

    @pytest.mark.skip_backend("array_api_strict:")
    def test_skipped(backend):
        pass

    def test_it(backend):
        assert backend.name == "array_api_strict:"
        assert backend.xp.sum(backend.asarray([1.0, 2.0])) == 3
    """
    result = project("--xprnn-backends=array_api_strict:", test_it=code)
    result.assert_outcomes(passed=1, skipped=1)


def test_a_namespace_that_can_t_be_imported_is_an_error(project):
    result = project("--xprnn-backends=nosuch:xp", test_it=ONE)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ImportError: the namespace 'nosuch:xp': can't import*"])


def test_a_device_that_is_not_there_is_an_error(project):
    result = project("--xprnn-backends=jax@gpu:7", test_it=ONE)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ValueError: device is 'gpu:7': JAX has 'cpu:0'*"])


@pytest.mark.parametrize("where", ["option", "ini"])
def test_a_misspelt_backend_is_reported_before_any_test(project, pytester, where):
    if where == "ini":
        pytester.makeini("[pytest]\nxprnn_backends = numpy trch\n")
    result = project(*(["--xprnn-backends", "trch"] if where == "option" else []), test_it=ONE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: xprnn has no backend 'trch': known are 'numpy', 'cupy',*"])


def test_the_markers(project):
    code = """
    import pytest

    @pytest.mark.skip_backend("torch", reason="of no use there")
    def test_skipped(backend):
        assert backend.name == "numpy"

    @pytest.mark.xfail_backend("torch", reason="wrong there", raises=AssertionError, strict=True)
    def test_expected(backend):
        assert backend.name == "numpy"

    @pytest.mark.xfail_backend("torch", strict=True)
    def test_strict(backend):
        pass

    @pytest.mark.xfail_backend("torch", raises=KeyError)
    def test_of_another_kind(backend):
        assert backend.name == "numpy"

    @pytest.mark.skip_backend("numpy")
    @pytest.mark.skip_backend("torch")
    def test_both(backend):
        pass
    """
    result = project(
        "-rsx", "--strict-markers", "--xprnn-backends=numpy,torch@cpu", test_markers=code
    )
    result.assert_outcomes(passed=4, skipped=3, xfailed=1, failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "*XPASS(strict)*",
            "SKIPPED * of no use there",
            "SKIPPED * marked skip_backend('numpy')",
            "XFAIL test_markers.py::test_expected[[]torch@cpu[]] - wrong there",
        ]
    )


def test_a_marker_may_name_one_device(project):
    code = """
    import pytest

    @pytest.mark.skip_backend("array_api_strict@device1", reason="no")
    def test_it(backend):
        pass
    """
    result = project(
        "--xprnn-backends=array_api_strict,array_api_strict@device1", test_markers=code
    )
    result.assert_outcomes(passed=1, skipped=1)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("skip_backend('trch')", "ValueError: skip_backend names 'trch': known are 'numpy'"),
        ("skip_backend", "TypeError: skip_backend takes one name of a backend, got ()"),
        ("skip_backend('jax', 'x')", "skip_backend takes one name of a backend, got ('jax', 'x')"),
        ("skip_backend(['jax'])", "skip_backend takes one name of a backend, got (['jax'],)"),
        ("skip_backend('jax', strict=1)", "skip_backend has no ['strict']: known are reason"),
        ("xfail_backend('trch')", "ValueError: xfail_backend names 'trch': known are "),
        ("xfail_backend('jax', run=1)", "no ['run']: known are raises, reason, strict"),
    ],
)
def test_a_faulty_marker_is_an_error_on_every_backend(project, marker, message):
    code = f"""
    import pytest

    @pytest.mark.{marker}
    def test_it(backend):
        pass
    """
    result = project("--xprnn-backends=numpy,torch", test_it=code)
    result.assert_outcomes(errors=2)
    assert message in result.stdout.str()


def test_the_dtype_can_be_overridden(project):
    code = """
    import pytest

    @pytest.fixture(scope="session", params=["float32", "float64"])
    def xprnn_dtype(request):
        return request.param

    def test_it(backend, xprnn_dtype):
        assert backend.dtype_name == xprnn_dtype
    """
    result = project("-v", "--xprnn-backends=numpy,torch", test_it=code)
    result.assert_outcomes(passed=4)


def test_a_test_may_name_its_backends_itself(project):
    code = """
    import pytest

    @pytest.mark.parametrize("backend", ["numpy", "torch"], indirect=True)
    def test_it(backend):
        assert backend.name in ("numpy", "torch")
    """
    project(test_it=code).assert_outcomes(passed=2)


def test_a_conftest_may_build_on_the_fixture(project):
    conftest = """
    import pytest

    @pytest.fixture
    def backend(backend):
        return backend.name.upper()
    """
    code = """
    def test_it(backend):
        assert backend in ("NUMPY", "TORCH")
    """
    result = project("--xprnn-backends=numpy,torch", conftest=conftest, test_it=code)
    result.assert_outcomes(passed=2)


def test_asking_for_the_fixture_within_a_test_is_refused(project):
    code = """
    def test_it(request):
        request.getfixturevalue("backend")
    """
    result = project(test_it=code)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*`backend` must stand among the arguments of a test"])


# Projects that don't use xprnn, in an environment where it is installed.

OWN_FIXTURE = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--backends", default="a,b")
    parser.addoption("--backend", default="a")
    parser.addini("backends", "", default="a")

@pytest.fixture(params=["a", "b"])
def backend(request):
    return request.param
"""

OWN_PLAIN_FIXTURE = """
import pytest

@pytest.fixture
def backend():
    return "a"
"""

OWN_HOOK = """
def pytest_addoption(parser):
    parser.addoption("--backends", default="a,b")

def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", metafunc.config.option.backends.split(","))
"""

STRANGER = """
import sys
import pytest

@pytest.mark.skip_backend("c", "d", version=3)
@pytest.mark.xfail_backend
def test_it(backend):
    assert backend in ("a", "b")
"""

PARAMETRIZED = STRANGER + "test_it = pytest.mark.parametrize('backend', ['a', 'b'])(test_it)\n"


@pytest.mark.parametrize(
    ("conftest", "code", "names"),
    [
        (OWN_FIXTURE, STRANGER, ["[a]", "[b]"]),
        (OWN_PLAIN_FIXTURE, STRANGER, [""]),
        (OWN_HOOK, STRANGER, ["[a]", "[b]"]),
        ("", PARAMETRIZED, ["[a]", "[b]"]),
    ],
    ids=["fixture", "plain-fixture", "hook", "mark"],
)
def test_a_project_with_backends_of_its_own_is_left_alone(project, conftest, code, names):
    result = project("-v", conftest=conftest, test_it=code)
    result.assert_outcomes(passed=len(names))
    run = [line.split()[0] for line in result.outlines if " PASSED " in line]
    assert run == [f"test_it.py::test_it{name}" for name in names]


def test_installed_and_unused_it_imports_nothing(pytester, monkeypatch):
    """Pytest finds the plugin by its entry point: of another distribution, in a new process."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"{name} = {value}" for name, value in declared["pytest11"].items()]
    folder = pytester.mkdir("installed") / "declared-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: declared\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]))
    monkeypatch.setenv("PYTHONPATH", f"{folder.parent}:{ROOT}/xprnn/testing/entry")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    pytester.makepyfile("""
        import sys

        def test_it(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("pytest_xprnn")
            loaded = {name.partition(".")[0] for name in sys.modules}
            assert not loaded & {"xprnn", "numpy", "torch", "jax"}
    """)
    pytester.runpytest_subprocess("--strict-markers").assert_outcomes(passed=1)


# The page: its repository, as printed.

HEADING = "## In your own tests"


def page_section():
    for path in (ROOT / "docs").glob("testing*.md"):
        if HEADING in (text := path.read_text()):
            return text.partition(HEADING)[2].partition("\n## ")[0]
    raise AssertionError(f"no page has the heading {HEADING!r}")


def printed_files():
    """Return the files of the example, by path."""
    return dict(re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)^```", page_section(), re.M | re.S))


def write_example(pytester, files):
    for path, text in files.items():
        (pytester.path / path).parent.mkdir(exist_ok=True)
        (pytester.path / path).write_text(text)


def test_the_example_is_printed_whole():
    section, files = page_section(), printed_files()
    tree = section.partition("    leaky/\n")[2].partition("\n\n")[0]
    names = [line.strip() for line in tree.splitlines()]
    assert names == ["pyproject.toml", "src/", "leaky.py", "tests/", "test_leaky.py"]
    assert set(files) == {"pyproject.toml", "src/leaky.py", "tests/test_leaky.py"}
    short = re.search(r"two lines:\n\n```python\n(.*?)```", section, re.S)[1]
    assert len(short.splitlines()) == 2
    assert files["tests/test_leaky.py"].endswith(short)
    assert set(tomllib.loads(files["pyproject.toml"])["tool"]["pytest"]["ini_options"]) == {
        *("pythonpath", "testpaths", "xprnn_backends"),
    }


def test_the_example_runs_as_printed(project, pytester):
    write_example(pytester, printed_files())
    project().assert_outcomes(passed=USABLE, skipped=len(NAMES) - USABLE)


@pytest.mark.parametrize(
    ("right", "wrong"), [("(1 - z * z)", "(1 + z * z)"), ("(self.keep * dh,)", "(None,)")]
)
def test_the_example_finds_a_wrong_derivative(project, pytester, right, wrong):
    files = printed_files()
    assert right in files["src/leaky.py"]
    files["src/leaky.py"] = files["src/leaky.py"].replace(right, wrong)
    write_example(pytester, files)
    project("--xprnn-backends=numpy,torch").assert_outcomes(failed=2)


@pytest.mark.parametrize("path", ["test_something", "xprnn_dtype"])
def test_the_other_examples_run(project, path):
    (block,) = (
        block
        for block in re.findall(r"^```python\n(.*?)^```", page_section(), re.M | re.S)
        if f"def {path}" in block
    )
    used = "" if path == "test_something" else "def test_it(backend, xprnn_dtype):\n    pass\n"
    code = f"import pytest\n\n{block}\n\n{used}"
    outcomes = {"passed": 1, "failed": 1, "skipped": 1} if not used else {"passed": 6}
    result = project("--xprnn-backends=numpy,torch,jax", test_it=code)
    result.assert_outcomes(**outcomes)
