"""Draw docs/images/inspect-page.png: the page of docs/inspect.md at three widths, by a browser.

    python docs/images/inspect_page.py

Needs playwright, and Chromium on the path.
"""

import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

import xprnn
from xprnn.diagnostics import inspect_page

VIEWS = ((1400, 1250, "light"), (800, 1250, "dark"), (360, 1250, "light"))
HEIGHT = 720


def counting_page():
    """Return the page of the network of one unit in docs/inspect.md."""
    net = xprnn.RNN(
        1, 1, cell=xprnn.cells.Elman("identity"), bias=False, returns="last", dtype="float64"
    )
    net.parameters = {"weight_ih_l0": np.array([[1.0]]), "weight_hh_l0": np.array([[2.0]])}
    x, target = np.array([1.0, 0, 1, 1]).reshape(4, 1, 1), np.array([[3.0]])
    return inspect_page(net, x, target, title="Counting ones: w_x = 1, w_rec = 2")


def main():
    """Open the page three times, and put the pictures side by side."""
    pictures = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        path = Path(folder, "inspect.html")
        counting_page().save(path)
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for width, height, scheme in VIEWS:
            view = {"width": width, "height": height}
            tab = browser.new_page(viewport=view, color_scheme=scheme)
            tab.goto(path.as_uri())
            for key in ("End", "ArrowLeft", "ArrowLeft"):
                tab.keyboard.press(key)
            picture = Image.open(io.BytesIO(tab.screenshot()))
            pictures.append(picture.resize((width * HEIGHT // height, HEIGHT), Image.LANCZOS))
        browser.close()
    gap = 12
    whole = Image.new("RGB", (sum(p.width + gap for p in pictures) - gap, HEIGHT), "#8a8f98")
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width + gap
    target = Path(__file__).with_name("inspect-page.png")
    whole.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    main()
