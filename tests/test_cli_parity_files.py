"""The files of ``xprnn parity`` for dashboards: JUnit XML and one HTML page."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import array_api_strict
import pytest

from tests import namespaces
from tests.cli_tools import run
from tests.namespaces import Changed
from xprnn.cli.parity.plot import plot
from xprnn.testing.parity.functions import CALLS

pytestmark = pytest.mark.slow

SMALL = ("--backends", "numpy", "--cells", "elman", "--sizes", "3,2,2,4,2")
OFF = "tests.namespaces:off_tanh"
HOSTILE = "<script>alert('&\"\x1b[31m\x00\udc80')</script>"
VOID = {"meta", "circle", "polyline", "path"}


class Page(HTMLParser):
    """A page, of which every element must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def hostile(monkeypatch):
    def broken(x):
        raise ValueError(HOSTILE)

    made = Changed(array_api_strict, tanh=broken)
    monkeypatch.setattr(namespaces, "hostile", made, raising=False)
    return "tests.namespaces:hostile"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the files of a comparison with a wrong tanh, one known and one skipped thing."""
    folder = tmp_path_factory.mktemp("parity")
    (folder / "xfail.toml").write_text(
        f'["{OFF}".functions]\ntanh = "<known>"\nexp = "not so"\n', encoding="utf-8"
    )
    words = ("--backend", OFF, "--backend", "tests.namespaces:no_unique", "--steps", "30")
    files = ("--junit", folder / "parity.xml", "--html", folder / "parity.html")
    options = ("--dtype", "float64", "--xfail", folder / "xfail.toml")
    result = run("parity", *SMALL, *words, *files, *options)
    assert result.status == 1
    return folder


def test_junit_has_a_case_for_everything(written):
    root = ElementTree.fromstring((written / "parity.xml").read_bytes())
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == [
        "numpy in float64",
        f"{OFF} in float64",
        "tests.namespaces:no_unique in float64",
        "--xfail",
    ]
    for suite in (root, *root):
        cases = list(suite.iter("testcase"))
        for name, tag in (("failures", "failure"), ("skipped", "skipped")):
            assert suite.get(name) == str(sum(case.find(tag) is not None for case in cases))
        assert (suite.get("tests"), suite.get("errors")) == (str(len(cases)), "0")
        assert len({(case.get("classname"), case.get("name")) for case in cases}) == len(cases)
    assert suites["numpy in float64"].get("failures") == "0"
    off = {(case.get("classname"), case.get("name")): case for case in suites[f"{OFF} in float64"]}
    assert off[f"{OFF} in float64.functions", "sqrt"].find("*") is None
    known = off[f"{OFF} in float64.functions", "tanh"].find("skipped")
    assert known.attrib == {"type": "pytest.xfail", "message": "<known>"}
    wrong = off[f"{OFF} in float64.elman.numbers", "gradients"].find("failure")
    assert wrong.get("message").startswith("gradients: ")
    assert len(wrong.text.splitlines()) > 2
    skipped = suites["tests.namespaces:no_unique in float64"].findall(".//skipped")
    assert {one.get("type") for one in skipped} == {"pytest.skip"}
    assert "has no 'unique_inverse'" in skipped[0].get("message")
    (stale,) = suites["--xfail"].findall(".//failure")
    assert stale.get("message").startswith(f"[XPASS(strict)] {OFF} functions exp is expected")


def test_the_page_stands_alone(written):
    text = (written / "parity.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?://|url\(|\bon\w+=", text)
    assert text.count("<svg") == 1
    assert text.count("<polyline") == 3
    assert text.count("<circle") == 3 * 30
    for words in (
        "xprnn parity: something disagrees",
        "exp is expected to disagree (not so), but it agrees",
        "tanh[0, 0] off by 1.1e-06 (1.0e-12 allowed) for large = [[14.0]], x = [[1.75]] (<known>)",
        "skipped: unique_inverse",
        f"{OFF} in float64",
        f"{len(CALLS)} of {len(CALLS)}",
    ):
        assert words in page.text, words


def test_a_page_where_all_agree(tmp_path):
    path = tmp_path / "parity.html"
    words = ("--backend", "array_api_strict", "--steps", "0", "--dtype", "float32")
    assert run("parity", *SMALL, *words, "--html", path).status == 0
    page = Page(path.read_text(encoding="utf-8"))
    assert "xprnn parity: all backends agree" in page.text
    assert "svg" not in {tag for tag, _ in page.tags}
    assert not {"Disagrees", "Skipped"} & set(page.text.splitlines())


def test_messages_of_strangers_are_text(hostile, tmp_path):
    files = ("--junit", tmp_path / "x.xml", "--html", tmp_path / "x.html")
    words = ("--backend", hostile, "--dtype", "float64", "--steps", "0")
    assert run("parity", *SMALL, *words, *files).status == 1
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#x27;&amp;&quot;\\x1b[31m" in text
    page = Page(text)
    assert page.open == []
    assert page.text.count("Traceback (most recent call last):") > 1
    root = ElementTree.fromstring((tmp_path / "x.xml").read_bytes())
    assert any("<script>alert('&" in one.get("message") for one in root.iter("failure"))


@pytest.mark.parametrize("option", ["--junit", "--html"])
def test_a_file_that_can_not_be_written_is_known_before_the_work(tmp_path, option):
    result = run("parity", *SMALL, "--backend", OFF, option, tmp_path / "nosuch" / "file")
    assert result.status == 1
    assert "nosuch" in result.error
    assert result.out == ""
    assert not list(Path(tmp_path).iterdir())


def test_a_plot_of_nothing_and_of_errors_that_are_not_finite():
    assert plot({"a": [(1, float("inf"))]}, str) == "<p>no error is finite</p>"
    drawn = plot({"a": [(1, 0.0), (2, float("nan"))], "b": [(1, 1e-3)]}, str)
    assert drawn.count("<circle") == 2
    assert "nan" not in drawn
    assert ">0</text>" in drawn
