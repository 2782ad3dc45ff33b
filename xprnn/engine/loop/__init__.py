"""The time loop: one readable source, and code for one library made from it.

A cell's `forward` and `backward` are called once with symbolic operands (`trace`), which gives
lists of elementwise operations (`program`).  A lowering makes the time loop of one library from
them: the formulas are stated in `xprnn.cells` and nowhere else.  The plain loop (`plain`) stays the
reference, and runs every cell that can't be traced.
"""
