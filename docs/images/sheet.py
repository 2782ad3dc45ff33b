"""`Sheet`: what the drawings of the cells' data flow are made of."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

HERE = Path(__file__).parent
LINE, NONLINEAR, PRODUCT, STATE = "0.25", "#0b6fb8", "0.45", "#d1495b"
INCHES = 0.5  # per unit of the coordinates

mpl.rcParams["mathtext.fontset"] = "dejavuserif"
mpl.rcParams["font.family"] = "DejaVu Serif"


class Sheet:
    """A drawing on which a unit is half an inch, with its origin at the lower left."""

    def __init__(self, width, height):
        self.figure = Figure(figsize=(width * INCHES, height * INCHES))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.set_axis_off()

    def words(self, x, y, text, *, size=11, color="black", ha="center"):
        self.axes.text(x, y, text, size=size, color=color, ha=ha, va="center", zorder=5)

    def box(self, x, y, text, number="", *, width=1.5, height=0.95, color=NONLINEAR):
        corner = (x - width / 2 + 0.1, y - height / 2 + 0.1)
        shape = FancyBboxPatch(
            corner,
            width - 0.2,
            height - 0.2,
            boxstyle="round,pad=0.1",
            facecolor="white",
            edgecolor=color,
            lw=1.8,
            zorder=4,
        )
        self.axes.add_patch(shape)
        self.words(x, y, text, size=12)
        self._number(x - width / 2 - 0.1, y + height / 2 + 0.12, number, "right")

    def operation(self, x, y, text, number="", *, above=True):
        circle = Circle((x, y), 0.36, facecolor="white", edgecolor=LINE, lw=1.5, zorder=4)
        self.axes.add_patch(circle)
        self.words(x, y - 0.02, text, size=13)
        self._number(x + 0.42, y + (0.5 if above else -0.5), number, "left")

    def _number(self, x, y, number, ha):
        if number:
            self.words(x, y, f"({number})", size=9.5, color="0.4", ha=ha)

    def variable(self, x, y, text, ha="center"):
        self.words(x, y, f"${text}$", size=14, color=STATE, ha=ha)

    def path(self, *points, arrow=True, over=False, dashed=False):
        """Draw straight lines from point to point; ``over`` leaves gaps where they cross lines."""
        style = (0, (4, 2.5)) if dashed else "-"
        xs, ys = zip(*points, strict=True)
        z = 3 if over else 1
        if over:
            self.axes.plot(xs, ys, color="white", lw=8, solid_capstyle="butt", zorder=z - 0.1)
        self.axes.plot(xs, ys, color=LINE, lw=1.4, ls=style, solid_capstyle="butt", zorder=z)
        if arrow:
            (x0, y0), (x1, y1) = points[-2:]
            length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
            back = (x1 - 0.3 * (x1 - x0) / length, y1 - 0.3 * (y1 - y0) / length)
            look = {"arrowstyle": "-|>", "color": LINE, "lw": 1.4, "shrinkA": 0, "shrinkB": 0}
            self.axes.annotate("", xy=(x1, y1), xytext=back, arrowprops=look, zorder=z)

    def dot(self, x, y):
        """Mark the point where a line branches."""
        self.axes.add_patch(Circle((x, y), 0.09, color=LINE, zorder=3.5))

    def projections(self, left, right, middle, entry=()):
        """Draw the projections as one box at y = 1.9, with x(t) below; return its top.

        Without an entry for h(t-1), the cell has no U.
        """
        text = r"$u(t) = W\,x(t) + b$"
        if entry:
            text = r"$u(t) = W\,x(t) + b \qquad v(t) = U\,h(t-1)$"
        self.box((left + right) / 2, 1.9, text, width=right - left, height=1.0, color=PRODUCT)
        self.variable(middle, 0.4, "x(t)")
        self.path((middle, 0.75), (middle, 1.4))
        if entry:
            self.path(*entry, (left, 1.9))
        return 2.4

    def signal(self, x, bottom, top, text):
        """Draw an arrow up from the projections, with its quantity beside it."""
        self.path((x, bottom), (x, top))
        self.words(x + 0.15, bottom + 0.42, f"${text}$", ha="left")

    def save(self, name):
        self.figure.savefig(HERE / f"cell-{name}.png", dpi=150)
