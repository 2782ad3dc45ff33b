"""One readable source, as fast as code for one backend: formulas traced, and lowered.

A cell's `forward` and `backward` are called once with symbolic operands (`trace`), which gives
lists of elementwise operations (`program`).  A lowering makes the time loop of one library from
them: the formulas are stated in `xprnn.cells` and nowhere else.  The plain loop of
`xprnn.engine.loop.plain` stays the reference, and runs every cell that can't be traced.
"""

from xprnn.engine.loop.lowering import (
    disable_lowering,
    explain,
    lowering_enabled,
    lowering_for,
    lowerings_of,
)
from xprnn.engine.loop.protocol import Loops, Work
from xprnn.engine.loop.trace import Untraceable

__all__ = [
    "Loops",
    "Untraceable",
    "Work",
    "disable_lowering",
    "explain",
    "lowering_enabled",
    "lowering_for",
    "lowerings_of",
]
