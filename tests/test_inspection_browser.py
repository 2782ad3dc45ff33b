"""`inspect.html` in a real browser: it shows the numbers that NumPy has, by keyboard alone.

BROWSER=1 bash ci/test.sh runs these; they need playwright, and Chromium on the path.
"""

import importlib
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import xprnn
from tests.test_inspection import Undocumented
from xprnn.cells import LSTM, Elman
from xprnn.diagnostics import inspect_page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)


def _missing():
    """Say why there is no browser; None if there is one."""
    if not any(os.environ.get(name, "0") != "0" for name in ("BROWSER", "FULL")):
        return "a browser is tested with BROWSER=1 bash ci/test.sh, or FULL=1"
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed: BROWSER=1 bash ci/test.sh installs it"
    fetched = Path.home() / ".cache" / "ms-playwright"
    if CHROMIUM or any(fetched.glob("chromium*")):
        return None
    return "Chromium is not installed: apt-get install chromium, or playwright install chromium"


NAMELESS = """
() => [...document.querySelectorAll('button, input, select, [role=img]')]
    .filter((e) => !(e.ariaLabel || e.labels?.length || e.textContent.trim()))
    .map((e) => e.outerHTML)
"""

pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing() or "")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        # Without one on the path, that which playwright has fetched.
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Return a function that opens a page; nothing may be loaded, and nothing go wrong."""
    contexts, said = [], []

    def open_(page, *, width=1400, scheme="light", touch=False):
        path = tmp_path / "inspect.html"
        page.save(path)
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, has_touch=touch
        )
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda r: None if r.url.startswith("file:") else said.append(r.url))
        tab.goto(path.as_uri())
        return tab

    yield open_
    for context in contexts:
        context.close()
    assert said == []


def number(text):
    text = text.strip().replace("−", "-").replace("∞", "inf")
    return float(text)


def shown(tab, name):
    """Return the numbers of a row: those in it, not those of how they come about."""
    row = tab.locator(f'.row[data-name="{name}"]')
    cells = row.locator(".numbers span:not(.worked), .matrix td")
    return np.array([number(text.rpartition(": ")[2]) for text in cells.all_inner_texts()])


def assert_shown(tab, name, values):
    found = shown(tab, name)
    np.testing.assert_allclose(found, np.ravel(values), rtol=6e-4, atol=1e-300, err_msg=name)


def position(tab):
    text = tab.locator("#status").inner_text()
    found = re.match(r"(Forward|Backward), step (\d+)", text)
    return found[1].lower(), int(found[2])


def counting():
    net = xprnn.RNN(1, 1, cell=Elman("identity"), bias=False, returns="last", dtype="float64")
    net.parameters = {"weight_ih_l0": np.array([[1.0]]), "weight_hh_l0": np.array([[2.0]])}
    return inspect_page(net, np.array([1.0, 0, 1, 1]).reshape(4, 1, 1), np.array([[3.0]]))


def walk(tab, page, layer=0):
    """Go through all steps by the arrow key; compare every number with the record."""
    record, recorded = page.record, page.record.layers[layer]
    if tab.locator("#numbers").get_attribute("aria-pressed") == "false":
        tab.keyboard.press("n")
    order = list(range(page.shown.start, page.shown.stop))
    if recorded.reverse:
        order.reverse()
    visits = [("forward", t) for t in order] + [("backward", t) for t in reversed(order)]
    for k, (stage, t) in enumerate(visits):
        if k:
            tab.keyboard.press("ArrowRight")
        assert position(tab) == (stage, t)
        for q in getattr(recorded, stage):
            if q.values.dtype.kind == "f":
                assert_shown(tab, q.name, q.values[t])
        if stage == "backward":
            for c in recorded.contributions:
                name = c.text.split(" += ")[0]
                assert_shown(tab, name, c.left[t] if c.tokens is not None else c.at(t))
    return record


def test_one_unit_step_by_step(opened):
    page = counting()
    tab = opened(page)
    walk(tab, page)
    # h = 1, 2, 5, 11; y = 11, so dh = 8, 16, 32, 64 on the way back.
    assert position(tab) == ("backward", 0)
    assert_shown(tab, "dh", 64)
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowLeft")
    assert_shown(tab, "dh", 16)
    assert_shown(tab, "dU", 16 * 2)
    assert tab.locator('.row[data-name="dU"] .worked').inner_text() == "= 16 · 2"
    assert tab.locator("#equations li.now .worked").inner_text() == "16 = 0 + 16"
    tab.keyboard.press("b")
    assert position(tab) == ("forward", 2)
    assert_shown(tab, "h", 5)


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        (LSTM(peepholes=True, layer_norm=True), {}),
        (Undocumented(), {"window": 2}),
        ("gru", {"lengths": [4, 5]}),
    ],
    ids=["lstm", "own-window", "gru-lengths"],
)
def test_every_number_is_that_of_the_record(opened, cell, options):
    rng = np.random.default_rng(0)
    net = xprnn.RNN(2, 3, 2, cell=cell, dtype="float64", rng=0)
    page = inspect_page(net, rng.normal(size=(5, 2, 2)), rng.normal(size=(5, 2, 2)), **options)
    tab = opened(page)
    walk(tab, page)
    if "lengths" in options:
        assert tab.locator(".box.padding").count() == 4
    if "window" in options:
        assert tab.locator(".row.cut").count() == 1
        assert "the losses of steps 0–2 reach this state" in tab.locator("#status").inner_text()
        assert tab.locator(".box.cut").count() > 0


def test_layers_and_directions(opened):
    rng = np.random.default_rng(0)
    net = xprnn.RNN(2, 2, 1, cell="gru", layers=2, bidirectional=True, dtype="float64", rng=0)
    page = inspect_page(net, rng.normal(size=(3, 1, 2)), rng.normal(size=(3, 1, 1)))
    tab = opened(page)
    for k in range(4):
        tab.keyboard.press("l")
        assert tab.locator("#layer").input_value() == str(k)
        assert page.record.layers[k].name in tab.locator("#status").inner_text()
        tab.keyboard.press("Home")
        walk(tab, page, k)
    tab.locator('.box[data-layer="1"][data-t="2"]').first.click()
    assert tab.locator("#layer").input_value() == "1"
    assert position(tab)[1] == 2


def test_tokens_and_their_names(opened):
    net = xprnn.RNN(4, 3, 4, cell="gru", embedding_size=2, dtype="float64", rng=0)
    tokens = np.array([[1, 2, 3]]).T
    names = ("UNKNOWN", "<b>bold</b>", "a", "c")
    page = inspect_page(net, tokens, tokens, "cross_entropy", vocabulary=names)
    tab = opened(page)
    assert "token “<b>bold</b>”" in tab.locator("#status").inner_text()
    tab.keyboard.press("ArrowRight")
    assert tab.locator('.row[data-name="target"] .numbers').inner_text() == "a"
    assert_shown(tab, "p", page.record.probabilities[1])
    row = tab.locator('.row[data-name="y"] .numbers span').all_inner_texts()
    assert [text.partition(": ")[0] for text in row] == list(names)


def test_keyboard_alone(opened):
    tab = opened(counting())
    tab.keyboard.press("Tab")
    reached = []
    for _ in range(14):
        reached.append(
            tab.evaluate("document.activeElement.id || document.activeElement.dataset.row")
        )
        tab.keyboard.press("Tab")
    assert {"start", "back", "play", "next", "end", "slider", "unit", "numbers", "h"} <= set(
        reached
    )
    tab.keyboard.press("End")
    assert position(tab) == ("backward", 0)
    tab.keyboard.press("ArrowUp")
    now = tab.locator(".row.now")
    before = now.get_attribute("data-name")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    assert now.get_attribute("data-name") != before
    assert tab.locator('[aria-current="true"]').count() == 1
    tab.keyboard.press("Home")
    tab.keyboard.press("n")
    assert tab.locator("#numbers").get_attribute("aria-pressed") == "true"
    assert tab.locator("#slider").get_attribute("aria-valuetext") == "forward pass, step 0, layer 0"


def test_every_control_and_picture_has_a_name(opened):
    rng = np.random.default_rng(0)
    net = xprnn.RNN(2, 20, 1, cell="gru", dtype="float64", rng=0)
    tab = opened(inspect_page(net, rng.normal(size=(4, 1, 2)), rng.normal(size=(4, 1, 1))))
    tab.keyboard.press("End")
    nameless = tab.evaluate(NAMELESS)
    assert nameless == []
    labels = [c.get_attribute("aria-label") for c in tab.locator("canvas").all()]
    assert all(re.fullmatch(r".+: from \S+ to \S+", label) for label in labels)
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


def test_a_heat_map_says_the_number_under_the_pointer(opened):
    rng = np.random.default_rng(0)
    net = xprnn.RNN(2, 20, 1, dtype="float64", rng=0)
    page = inspect_page(net, rng.normal(size=(4, 1, 2)), rng.normal(size=(4, 1, 1)))
    tab = opened(page)
    row = tab.locator('.row[data-name="h"]')
    canvas = row.locator("canvas")
    size = canvas.bounding_box()["width"] / 16
    place = {"x": 3.5 * size, "y": 1.5 * size}
    canvas.hover(position=place)
    unit, value = row.locator(".scale").inner_text().split(": ")
    assert unit == "unit 19"
    assert number(value) == pytest.approx(page.record.layers[0]["h"][0, 19], rel=1e-5)
    canvas.click(position=place)
    assert tab.locator("#unit").input_value() == "19"
    assert tab.locator("#equations .worked").inner_text().startswith("unit 19: ")
    tab.keyboard.press("n")
    assert_shown(tab, "h", page.record.layers[0]["h"][0])


def test_the_sum_so_far(opened):
    rng = np.random.default_rng(0)
    net = xprnn.RNN(2, 3, 1, dtype="float64", rng=0)
    page = inspect_page(net, rng.normal(size=(4, 1, 2)), rng.normal(size=(4, 1, 1)))
    tab = opened(page)
    tab.keyboard.press("End")
    tab.locator("#sums").check()
    gradients = page.record.gradients()
    assert_shown(tab, "dU", gradients["weight_hh_l0"])
    assert_shown(tab, "dW", gradients["weight_ih_l0"])
    assert_shown(tab, "db", gradients["bias_l0"])
    tab.keyboard.press("ArrowLeft")
    c = page.record.layers[0].contributions[1]
    assert_shown(tab, "dU", sum(c.at(t) for t in (1, 2, 3)))


def test_numbers_that_are_not_finite(opened):
    net = xprnn.RNN(1, 1, cell=Elman("identity"), bias=False, dtype="float32")
    net.parameters = {
        "weight_ih_l0": np.ones((1, 1), np.float32),
        "weight_hh_l0": np.full((1, 1), 1e20, np.float32),
    }
    x = np.ones((6, 1, 1), np.float32)
    page = inspect_page(net, x, x)
    tab = opened(page)
    assert tab.locator("#messages").inner_text() == f"{page.messages[0]}"
    for _ in range(11):
        tab.keyboard.press("ArrowRight")
    assert not np.isfinite(shown(tab, "dh")[0])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1400])
def test_it_fits_every_width(opened, width, scheme, tmp_path):
    rng = np.random.default_rng(0)
    net = xprnn.RNN(3, 16, 2, cell="lstm", layers=2, dtype="float64", rng=0)
    page = inspect_page(net, rng.normal(size=(30, 1, 3)), rng.normal(size=(30, 1, 2)), window=4)
    tab = opened(page, width=width, scheme=scheme)
    for _ in range(40):
        tab.keyboard.press("ArrowRight")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", background)[:3])) > 380
    assert light == (scheme == "light")
    # The current step is in sight.
    box, frame = (tab.locator(s).first.bounding_box() for s in (".box.now", "#steps"))
    assert frame["x"] <= box["x"]
    assert box["x"] + box["width"] <= frame["x"] + frame["width"]
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        tab.screenshot(path=f"{folder}/inspect-{width}-{scheme}.png", full_page=True)
