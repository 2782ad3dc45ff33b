"""Draw the data flow of every cell: ``python docs/images/cells.py`` writes docs/images/cell-*.png.

It needs matplotlib, but not xprnn.  The numbers in parentheses are those of the equations in
``xprnn/cells/`` and on the pages in ``docs/cells/``.
"""

from cells_without_u import ind_rnn, min_gru, min_lstm
from sheet import PRODUCT, Sheet


def elman():
    """Draw the Elman cell."""
    sheet = Sheet(16, 5.6)
    sheet.variable(0.3, 4.2, "h(t-1)", "left")
    top = sheet.projections(3, 11, 7, [(1.1, 3.8), (1.1, 1.9)])
    sheet.path((5, top), (5, 4.2), (6.64, 4.2))
    sheet.words(5.15, 3.1, "$u$", ha="left")
    sheet.path((7, top), (7, 3.84))
    sheet.words(7.15, 3.1, "$v$", ha="left")
    sheet.operation(7, 4.2, "+", "1")
    sheet.path((7.36, 4.2), (9.75, 4.2))
    sheet.words(8.5, 4.5, "$z$")
    sheet.box(10.5, 4.2, "$φ$", "2")
    sheet.path((11.25, 4.2), (14.3, 4.2))
    sheet.variable(14.45, 4.2, "h(t)", "left")
    sheet.save("elman")


def gru():
    """Draw the GRU."""
    sheet = Sheet(20, 10)
    rise, line = 5.5, 8.6
    sheet.variable(0.3, line, "h(t-1)", "left")
    top = sheet.projections(3, 16, 9.4, [(2.4, line), (2.4, 1.9)])
    sheet.path((2.2, line), (10.84, line))
    sheet.dot(2.4, line)
    sheet.signal(4.2, top, 3.52, "u_r+v_r")
    sheet.box(4.2, 4, "$σ$", "1")
    sheet.path((4.2, 4.47), (4.2, rise), (6.84, rise))
    sheet.words(5.5, rise + 0.3, "$r$")
    sheet.signal(7.2, top, 3.64, "v_n")
    sheet.operation(7.2, 4, "+", "3")
    sheet.words(5.75, 4, "$b_{hn}$")
    sheet.path((6.25, 4), (6.84, 4))
    sheet.path((7.2, 4.36), (7.2, rise - 0.36))
    sheet.words(7.35, 4.85, "$m$", ha="left")
    sheet.operation(7.2, rise, "×")
    sheet.path((7.56, rise), (9.04, rise))
    sheet.signal(9.4, top, rise - 0.36, "u_n")
    sheet.operation(9.4, rise, "+")
    sheet.path((9.76, rise), (10.45, rise))
    sheet.box(11.2, rise, "tanh", "4")
    sheet.path((11.2, rise + 0.47), (11.2, line - 0.36))
    sheet.words(11.35, 6.45, "$n$", ha="left")
    sheet.operation(11.2, line, "−")
    sheet.path((11.56, line), (13.44, line))
    sheet.words(12.5, line + 0.35, r"$h(t-1)-n$", size=10)
    sheet.signal(13.8, top, 3.52, "u_z+v_z")
    sheet.box(13.8, 4, "$σ$", "2")
    sheet.dot(11.2, 7.1)
    sheet.path((11.2, 7.1), (16.2, 7.1), (16.2, line - 0.36))
    sheet.path((13.8, 4.47), (13.8, line - 0.36), over=True)
    sheet.words(13.95, 5.5, "$z$", ha="left")
    sheet.operation(13.8, line, "×")
    sheet.path((14.16, line), (15.84, line))
    sheet.operation(16.2, line, "+", "5")
    sheet.path((16.56, line), (18.3, line))
    sheet.variable(18.45, line, "h(t)", "left")
    sheet.save("gru")


def gru_reset_before():
    """Draw the GRU with the reset gate before the product."""
    sheet = Sheet(20, 10)
    rise, line = 5.5, 8.6
    sheet.variable(0.3, line, "h(t-1)", "left")
    text = r"$u(t) = W\,x(t) + b \qquad v_r, v_z = U_r\,h(t-1),\ U_z\,h(t-1)$"
    sheet.box(9.5, 1.9, text, width=13, height=1.0, color=PRODUCT)
    sheet.variable(9.4, 0.4, "x(t)")
    sheet.path((9.4, 0.75), (9.4, 1.4))
    sheet.path((2.4, line), (2.4, 1.9), (3, 1.9))
    top = 2.4
    sheet.path((2.2, line), (11.64, line))
    sheet.dot(2.4, line)
    sheet.signal(4.2, top, 3.52, "u_r+v_r")
    sheet.box(4.2, 4, "$σ$", "1")
    sheet.path((4.2, 4.47), (4.2, rise - 0.36))
    sheet.words(4.35, 4.85, "$r$", ha="left")
    sheet.dot(4.2, line)
    sheet.path((4.2, line), (4.2, rise + 0.36))
    sheet.operation(4.2, rise, "×", "3")
    sheet.path((4.56, rise), (6.15, rise))
    sheet.words(5.5, rise + 0.3, "$q$")
    sheet.box(7.1, rise, r"$U_n\,q$", width=1.9, color=PRODUCT)
    sheet.path((8.05, rise), (9.24, rise))
    sheet.words(8.6, rise + 0.35, "$v_n$")
    sheet.signal(9.6, top, rise - 0.36, "u_n")
    sheet.operation(9.6, rise, "+")
    sheet.path((9.96, rise), (11.25, rise))
    sheet.box(12.0, rise, "tanh", "4")
    sheet.path((12.0, rise + 0.47), (12.0, line - 0.36))
    sheet.words(12.15, 6.45, "$n$", ha="left")
    sheet.operation(12.0, line, "−")
    sheet.path((12.36, line), (13.94, line))
    sheet.words(13.15, line + 0.35, r"$h(t-1)-n$", size=10)
    sheet.signal(14.3, top, 3.52, "u_z+v_z")
    sheet.box(14.3, 4, "$σ$", "2")
    sheet.dot(12.0, 7.1)
    sheet.path((12.0, 7.1), (16.4, 7.1), (16.4, line - 0.36))
    sheet.path((14.3, 4.47), (14.3, line - 0.36), over=True)
    sheet.words(14.45, 5.5, "$z$", ha="left")
    sheet.operation(14.3, line, "×")
    sheet.path((14.66, line), (16.04, line))
    sheet.operation(16.4, line, "+", "5")
    sheet.path((16.76, line), (18.3, line))
    sheet.variable(18.45, line, "h(t)", "left")
    sheet.save("gru-reset-before")


def minimal_gated():
    """Draw the minimal gated unit."""
    sheet = Sheet(20, 10)
    rise, line = 5.2, 8.2
    sheet.variable(0.3, line, "h(t-1)", "left")
    top = sheet.projections(3, 13, 7.2, [(2.4, line), (2.4, 1.9)])
    sheet.path((2.2, line), (10.84, line))
    sheet.dot(2.4, line)
    sheet.signal(4.2, top, 3.32, "u_f+v_f")
    sheet.box(4.2, 3.8, "$σ$", "1")
    sheet.path((4.2, 4.27), (4.2, rise), (6.84, rise))
    sheet.words(5.5, rise + 0.3, "$f$")
    sheet.signal(7.2, top, rise - 0.36, "v_n")
    sheet.operation(7.2, rise, "×")
    sheet.path((7.56, rise), (9.04, rise))
    sheet.signal(9.4, top, rise - 0.36, "u_n")
    sheet.operation(9.4, rise, "+")
    sheet.path((9.76, rise), (10.45, rise))
    sheet.box(11.2, rise, "tanh", "2")
    sheet.dot(4.2, rise)
    sheet.path((4.2, rise), (4.2, 6.7), (13.8, 6.7), (13.8, line - 0.36))
    sheet.path((11.2, rise + 0.47), (11.2, line - 0.36), over=True)
    sheet.words(11.35, 6.1, "$n$", ha="left")
    sheet.operation(11.2, line, "−")
    sheet.path((11.56, line), (13.44, line))
    sheet.words(12.5, line + 0.35, r"$n-h(t-1)$", size=10)
    sheet.operation(13.8, line, "×")
    sheet.path((14.16, line), (15.84, line))
    sheet.dot(3.2, line)
    sheet.path((3.2, line), (3.2, 9.5), (16.2, 9.5), (16.2, line + 0.36))
    sheet.operation(16.2, line, "+", "3")
    sheet.path((16.56, line), (18.3, line))
    sheet.variable(18.45, line, "h(t)", "left")
    sheet.save("minimal-gated")


def lstm():
    """Draw the LSTM."""
    sheet = Sheet(20, 10)
    gate, rise, line = 4.2, 6.2, 8.6
    sheet.variable(0.3, line, "c(t-1)", "left")
    sheet.variable(0.3, 1.9, "h(t-1)", "left")
    top = sheet.projections(3, 15, 9, [(2.2, 1.9)])
    sheet.path((2.2, line), (4.64, line))
    for x, name, function, number in (
        (5.0, "f", "$σ$", "2"),
        (7.6, "i", "$σ$", "1"),
        (10.2, "g", "tanh", "3"),
        (13.2, "o", "$σ$", "5"),
    ):
        sheet.signal(x, top, gate - 0.48, f"u_{name}+v_{name}")
        sheet.box(x, gate, function, number)
    sheet.path((5.0, gate + 0.47), (5.0, line - 0.36), over=True)
    sheet.words(5.15, 7.2, "$f$", ha="left")
    sheet.operation(5.0, line, "×")
    sheet.path((5.36, line), (8.54, line))
    sheet.words(6.9, line + 0.35, r"$f\,c(t-1)$", size=10)
    sheet.path((7.6, gate + 0.47), (7.6, rise), (8.54, rise))
    sheet.words(7.75, 5.6, "$i$", ha="left")
    sheet.path((10.2, gate + 0.47), (10.2, rise), (9.26, rise))
    sheet.words(10.35, 5.6, "$g$", ha="left")
    sheet.operation(8.9, rise, "×", above=True)
    sheet.path((8.9, rise + 0.36), (8.9, line - 0.36))
    sheet.operation(8.9, line, "+", "4")
    sheet.path((9.26, line), (18.3, line))
    sheet.variable(18.45, line, "c(t)", "left")
    sheet.dot(16.2, line)
    sheet.path((16.2, line), (16.2, rise + 0.87))
    sheet.box(16.2, rise + 0.4, "tanh")
    sheet.path((16.2, rise - 0.07), (16.2, gate + 0.36))
    sheet.path((13.95, gate), (15.84, gate))
    sheet.words(14.9, gate + 0.3, "$o$")
    sheet.operation(16.2, gate, "×", "6", above=False)
    sheet.path((16.56, gate), (18.3, gate))
    sheet.variable(18.45, gate, "h(t)", "left")
    # The peepholes.
    sheet.dot(3.2, line)
    sheet.path((3.2, line), (3.2, gate), (4.25, gate), dashed=True)
    sheet.words(3.55, gate - 0.35, "$p_f$")
    sheet.dot(3.2, 5.4)
    sheet.path((3.2, 5.4), (6.1, 5.4), (6.1, gate), (6.85, gate), dashed=True)
    sheet.words(5.85, 5.7, "$p_i$")
    sheet.dot(11.7, line)
    sheet.path((11.7, line), (11.7, gate), (12.45, gate), dashed=True)
    sheet.words(11.85, 7.2, "$p_o$", ha="left")
    sheet.words(17.5, 2.1, "dashed: peepholes,", size=10.5, color="0.35")
    sheet.words(17.5, 1.65, "an option", size=10.5, color="0.35")
    sheet.save("lstm")


def slstm():
    """Draw the sLSTM."""
    sheet = Sheet(22.4, 11.4)
    gate, m, n, middle, c = 4.5, 6.1, 7.8, 9.1, 10.4
    for y, name in ((c, "c"), (n, "n"), (gate, "m"), (1.9, "h")):
        sheet.variable(0.3, y, f"{name}(t-1)", "left")
    top = sheet.projections(3, 18.8, 10.9, [(2.2, 1.9)])
    for x, name in ((5, "f"), (9, "i")):
        sheet.signal(x, top, gate - 0.8, f"a_{name}=u_{name}+v_{name}")
    sheet.box(7.0, gate, "", "3–6", width=7.4, height=1.6)
    text = r"$l = m(t-1) + \ln\,σ(a_f) \qquad m = \max(l,\,a_i)$"
    sheet.words(7.0, gate + 0.35, text)
    sheet.words(7.0, gate - 0.35, r"$f = \exp(l-m) \qquad i = \exp(a_i-m)$")
    sheet.path((2.2, gate), (3.3, gate))
    sheet.path((10.3, gate + 0.8), (10.3, m), (20.4, m))
    sheet.variable(20.55, m, "m(t)", "left")
    # What is remembered: n, and c above it.
    sheet.path((2.2, n), (4.64, n))
    sheet.operation(5, n, "×")
    sheet.path((5.36, n), (8.64, n))
    sheet.operation(9, n, "+", "8", above=False)
    sheet.path((9.36, n), (20.4, n))
    sheet.variable(20.55, n, "n(t)", "left")
    sheet.path((2.2, c), (5.94, c))
    sheet.operation(6.3, c, "×")
    sheet.path((6.66, c), (10.14, c))
    sheet.operation(10.5, c, "+", "7")
    sheet.path((10.86, c), (20.4, c))
    sheet.variable(20.55, c, "c(t)", "left")
    # f and i act on both.
    for x, name, to, end in ((5, "f", 6.3, c), (9, "i", 10.5, middle)):
        sheet.path((x, gate + 0.8), (x, n - 0.36))
        sheet.words(x - 0.3, 5.8, f"${name}$")
        sheet.dot(x, 6.9)
        sheet.path((x, 6.9), (to, 6.9), (to, 7.3), arrow=False)
        sheet.path((to, 7.3), (to, end - 0.36), over=True)
    sheet.operation(10.5, middle, "×")
    sheet.path((10.5, middle + 0.36), (10.5, c - 0.36))
    sheet.signal(13.2, top, gate - 0.48, "u_z+v_z")
    sheet.box(13.2, gate, "tanh", "1")
    sheet.path((13.2, gate + 0.47), (13.2, 8.6), arrow=False, over=True)
    sheet.path((13.2, 8.6), (13.2, middle), (10.86, middle))
    sheet.words(12.3, middle + 0.3, "$z$")
    _slstm_output(sheet, top, gate, n, middle, c)
    sheet.save("slstm")


def _slstm_output(sheet, top, gate, n, middle, c):
    """Draw the output gate and h = o c / n."""
    sheet.dot(15.2, c)
    sheet.path((15.2, c), (15.2, middle + 0.36))
    sheet.dot(15.2, n)
    sheet.path((15.2, n), (15.2, middle - 0.36))
    sheet.operation(15.2, middle, "÷")
    sheet.path((15.56, middle), (17.04, middle))
    sheet.words(16.3, middle + 0.35, "$c/n$", size=10)
    sheet.signal(17.4, top, gate - 0.48, "u_o+v_o")
    sheet.box(17.4, gate, "$σ$", "2")
    sheet.path((17.4, gate + 0.47), (17.4, middle - 0.36), over=True)
    sheet.words(17.55, 6.7, "$o$", ha="left")
    sheet.operation(17.4, middle, "×", "9")
    sheet.path((17.76, middle), (20.4, middle))
    sheet.variable(20.55, middle, "h(t)", "left")


if __name__ == "__main__":
    with_u = (elman, gru, gru_reset_before, lstm, minimal_gated, slstm)
    for draw in (*with_u, ind_rnn, min_gru, min_lstm):
        draw()
