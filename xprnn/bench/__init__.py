"""Comparisons: ratios of times taken in one run, each side in a process of its own."""
