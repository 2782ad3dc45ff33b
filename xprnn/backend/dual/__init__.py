"""Dual numbers over any array library: values with tangents, for exact derivatives.

Code that is written against an array namespace computes its own directional derivative when it is
called with `DualArray` operands and a `DualNamespace`: every function computes, beside its value,
the change of that value along a direction (forward-mode differentiation).  No step is chosen, and
nothing is subtracted, so the derivative is exact to rounding.

===============  ===============================================================================
`array`          `DualArray`: a value, and its tangents along K directions at once
`namespace`      `DualNamespace`: the functions of the standard, each with its derivative
`wrapping`       between dual arrays and their values and tangents
`elementwise`    the elementwise functions
`shapes`         the functions that only move entries
`rules`          the derivatives of the elementwise functions
`kinks`          where a function has no derivative, noted while it is computed
===============  ===============================================================================

References
----------
A. Griewank and A. Walther, "Evaluating Derivatives" (2008), chapter 3.
"""
