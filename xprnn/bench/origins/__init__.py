"""xprnn against the algorithms that it grew out of, written plainly.

xprnn grew out of five teaching systems, which write recurrent networks as Python loops over NumPy
arrays.  The algorithms of two of them are timed here: a language model, and a network that fits a
noisy sine.
"""
