"""A time loop compiled by Numba, products included: the optional lowering ``xprnn[jit]``.

Nothing here is imported before `xprnn.engine.loop.lowering` has found that Numba can be.
"""
