"""The work of the benchmarks, written for torch and JAX.

Each module is imported only in the process that measures it, so these libraries need not be
installed.
"""
