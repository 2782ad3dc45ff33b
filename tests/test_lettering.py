"""Words in pictures: no boxes, no warnings, no labels that overlap."""

import builtins
import warnings
from itertools import pairwise

import numpy as np
import pytest

from tests.optional import optional
from xprnn import diagnostics
from xprnn.diagnostics import lettering as module
from xprnn.diagnostics.lettering import lettering

builder = optional("fontTools.fontBuilder")


def draw(tmp_path, times, *, title="y", count=93, start=0):
    """Draw and write a forecast; return the figure."""
    values = np.sin(np.arange(float(count)))
    figure = diagnostics.plot_forecast(
        values,
        values[10:],
        values[60:],
        start=start,
        one_step_start=10,
        closed_loop_start=60,
        times=times,
        ylabel=title,
        title=title,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diagnostics.save_figure(figure, tmp_path / "a.png")
    return figure


def overlaps(figure):
    """Return how many labels of the horizontal axis there are, and whether two overlap."""
    figure.canvas.draw()
    labels = [text for text in figure.axes[0].get_xticklabels() if text.get_text()]
    boxes = sorted((text.get_window_extent() for text in labels), key=lambda box: box.x0)
    within = [box for box in boxes if box.x1 > 0]
    gaps = [after.x0 - before.x1 for before, after in pairwise(within)]
    return len(within), min(gaps, default=1.0) <= 0


@pytest.mark.parametrize(
    "time",
    [
        "{year}",
        "{year}-01",
        "{year}-03-01",
        "{year}-03-01 10:00:00",
        "{year}-03-01T10:00:00+01:00",
        "{year}-03-01 10:00:17.250000 UTC",
        "Wednesday, 01 March {year} 10:00:00 PM",
        "{year}年3月1日",
        "W{year}" * 6,
    ],
)
@pytest.mark.parametrize("start", [0, 40, 85])
def test_labels_do_not_overlap(tmp_path, time, start):
    figure = draw(tmp_path, [time.format(year=1900 + k) for k in range(93)], start=start)
    count, overlap = overlaps(figure)
    assert not overlap
    assert count >= 2


@pytest.mark.parametrize(
    "title",
    ["销售额", "売上高", "매출", "विक्रय", "ยอดขาย", "sales 😀", "\x07bell", "a\u200bb", "ቡና", "𓀀"],
)
@pytest.mark.parametrize("with_anyascii", [True, False])
def test_what_no_font_has_is_written_in_other_letters(tmp_path, monkeypatch, title, with_anyascii):
    monkeypatch.setattr(module, "_font_with", lambda characters: None)
    if not with_anyascii:
        real = builtins.__import__

        def without(name, *rest):
            if name == "anyascii":
                raise ImportError(name)
            return real(name, *rest)

        monkeypatch.setattr(builtins, "__import__", without)
    shown = draw(tmp_path, None, title=title).axes[0].get_title()
    assert shown
    assert not module._lacking(shown)
    if title == "销售额":
        assert shown == ("XiaoShouE" if with_anyascii else r"\u9500\u552e\u989d")


@pytest.mark.parametrize(
    "title", ["Größe", "Обороты", "πωλήσεις", "المبيعات", "מכירות", "US$ $x^{"]
)
def test_what_the_font_has_is_left(title):
    assert lettering(title) == (title, ())


def test_the_font_of_boxes_is_no_font():
    """Matplotlib has a font with a box for every character there is."""
    assert not any("Last" in font for font in lettering("销售额 😀 \U000e0fff").fonts)


def test_a_font_that_has_the_characters_is_used(tmp_path, monkeypatch):
    """A font is made for the test: most machines of tests have none for Chinese."""
    from matplotlib import font_manager

    made = builder.FontBuilder(1000, isTTF=True)
    made.setupGlyphOrder([".notdef", "one"])
    made.setupCharacterMap({ord(c): "one" for c in "销售额年"})
    pen = optional("fontTools.pens.ttGlyphPen").TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((500, 700))
    pen.lineTo((900, 0))
    pen.closePath()
    made.setupGlyf({".notdef": pen.glyph(), "one": pen.glyph()})
    made.setupHorizontalMetrics({".notdef": (1000, 0), "one": (1000, 0)})
    made.setupHorizontalHeader(ascent=800, descent=-200)
    made.setupNameTable({"familyName": "Test CJK", "styleName": "Regular"})
    made.setupOS2(sTypoAscender=800)
    made.setupPost()
    made.save(tmp_path / "test.ttf")
    module._font_with.cache_clear()
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist])
    font_manager.fontManager.addfont(tmp_path / "test.ttf")
    try:
        assert lettering("销售额 in €").fonts[-1] == "Test CJK"
        times = [f"{1900 + k}年" for k in range(93)]
        figure = draw(tmp_path, times, title="销售额")
        assert figure.axes[0].get_title() == "销售额"
        assert figure.axes[0].title.get_fontfamily()[-1] == "Test CJK"
        assert not overlaps(figure)[1]
    finally:
        module._font_with.cache_clear()


def test_long_names_are_shortened(tmp_path):
    figure = draw(tmp_path, None, title="a" * 100_000)
    assert len(figure.axes[0].get_title()) <= 90
