"""xprnn against the algorithms that it grew out of, written plainly.

xprnn grew out of teaching systems that write a recurrent network as nested Python loops over NumPy
arrays.  Two of them are timed here: a language model and a network that fits a noisy sine.
"""
