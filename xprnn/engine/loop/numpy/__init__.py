"""The lowering to NumPy: time loops made of calls of NumPy functions."""
