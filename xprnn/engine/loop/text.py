"""The text of the Python functions that the NumPy and the Numba lowering write."""


def indented(lines: list[str]) -> list[str]:
    """Return the lines of a block."""
    return [f"    {line}" for line in lines]


def function(head: str, lines: list[str]) -> str:
    """Return the text of a function, given its name with the arguments, and its body."""
    return "\n".join((f"def {head}:", *indented(lines), ""))
