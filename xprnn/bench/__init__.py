"""Comparisons: ratios of times taken in one run, each side in a process of its own."""

from xprnn.bench.origins import Row, run_origins

__all__ = ["Row", "run_origins"]
