"""The time loop: a plain one for every cell, and faster ones made from the cell's formulas.

A cell's `forward` and `backward` are called once with symbolic operands (`tracer`, `trace`), which
gives lists of elementwise operations (`program`).  A *lowering* makes the time loop of one library
from them (`numpy`, `numba`, `cuda`), so the formulas stand in `xprnn.cells` and nowhere else.  The
plain loop (`plain`) is the reference, and runs the cells that can't be traced.  The loop's own
equations are in `protocol`; `loop` is what the layers call.
"""
