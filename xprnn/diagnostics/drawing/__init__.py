"""A network drawn folded and unfolded in time: one layout, shown as a picture or as text."""

from xprnn.diagnostics.drawing.picture import draw
from xprnn.diagnostics.drawing.text import draw_text

__all__ = ["draw", "draw_text"]
