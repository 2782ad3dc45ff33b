"""The data flow of the cells that have no recurrent matrix; `cells.py` draws them."""

from sheet import Sheet


def ind_rnn():
    """Draw the IndRNN."""
    sheet = Sheet(16, 6.2)
    line = 4.8
    sheet.variable(0.3, line, "h(t-1)", "left")
    top = sheet.projections(4.5, 10.5, 7.5)
    sheet.path((2.2, line), (4.64, line))
    sheet.operation(5, line, "×")
    sheet.words(5, 3.5, "$w$")
    sheet.path((5, 3.75), (5, line - 0.36))
    sheet.path((5.36, line), (7.14, line))
    sheet.words(6.2, line + 0.35, r"$w\,h(t-1)$", size=10)
    sheet.signal(7.5, top, line - 0.36, "u")
    sheet.operation(7.5, line, "+", "1")
    sheet.path((7.86, line), (9.75, line))
    sheet.words(8.8, line + 0.3, "$z$")
    sheet.box(10.5, line, "$φ$", "2")
    sheet.path((11.25, line), (14.3, line))
    sheet.variable(14.45, line, "h(t)", "left")
    sheet.save("ind-rnn")


def min_gru():
    """Draw the minimal GRU."""
    sheet = Sheet(17, 8.2)
    gate, line = 3.9, 6.2
    sheet.variable(0.3, line, "h(t-1)", "left")
    top = sheet.projections(4, 12, 8)
    sheet.path((2.2, line), (5.64, line))
    _towards(sheet, line, 6, 10, 13.2, r"$n-h(t-1)$", "3")
    for x, function, number, name in ((6, "$φ$", "2", "n"), (10, "$σ$", "1", "z")):
        sheet.signal(x, top, gate - 0.48, f"u_{name}")
        sheet.box(x, gate, function, number)
        sheet.path((x, gate + 0.47), (x, line - 0.36))
        sheet.words(x + 0.15, 5.0, f"${name}$", ha="left")
    sheet.variable(15.25, line, "h(t)", "left")
    sheet.save("min-gru")


def min_lstm():
    """Draw the minimal LSTM."""
    sheet = Sheet(19, 9.8)
    gate, ratio, line = 3.9, 5.8, 7.8
    sheet.variable(0.3, line, "h(t-1)", "left")
    top = sheet.projections(4, 14.4, 9.2)
    sheet.path((2.2, line), (5.64, line))
    _towards(sheet, line, 6, 11, 15.2, r"$g-h(t-1)$", "5")
    for x, function, number, name in (
        (6, "$φ$", "3", "g"),
        (9.4, "$σ$", "1", "i"),
        (12.6, "$σ$", "2", "f"),
    ):
        sheet.signal(x, top, gate - 0.48, f"u_{name}")
        sheet.box(x, gate, function, number)
    sheet.path((6, gate + 0.47), (6, line - 0.36))
    sheet.words(6.15, 5.8, "$g$", ha="left")
    sheet.path((9.4, gate + 0.47), (9.4, ratio), (9.9, ratio))
    sheet.words(9.25, 5.1, "$i$", ha="right")
    sheet.path((12.6, gate + 0.47), (12.6, ratio), (12.1, ratio))
    sheet.words(12.75, 5.1, "$f$", ha="left")
    sheet.box(11, ratio, r"$i\,/\,(i+f)$", "4", width=2.2)
    sheet.path((11, ratio + 0.47), (11, line - 0.36))
    sheet.words(11.15, 6.85, "$p$", ha="left")
    sheet.variable(17.25, line, "h(t)", "left")
    sheet.save("min-lstm")


def _towards(sheet, line, minus, times, plus, difference, number):
    """Draw the state's way: a step towards the candidate, as long as the gate says."""
    sheet.operation(minus, line, "−")
    sheet.path((minus + 0.36, line), (times - 0.36, line))
    sheet.words((minus + times) / 2, line + 0.35, difference, size=10)
    sheet.operation(times, line, "×")
    sheet.path((times + 0.36, line), (plus - 0.36, line))
    sheet.dot(3, line)
    sheet.path((3, line), (3, line + 1.4), (plus, line + 1.4), (plus, line + 0.36))
    sheet.operation(plus, line, "+", number)
    sheet.path((plus + 0.36, line), (plus + 1.9, line))
