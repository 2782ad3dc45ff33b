"""The lowering to Numba: time loops in machine code, products included.  Needs ``xprnn[jit]``.

`xprnn.engine.loop.lowering` imports it only if Numba can be imported.
"""
