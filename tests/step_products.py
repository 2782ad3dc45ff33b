"""The compiled product of a time step, as a function of arrays, and what it must give.

It imports nothing that a process of its own would wait for.
"""

import ctypes
from itertools import product

import numpy as np

from tests.closeness import assert_close
from xprnn.backend.numba import addresses, tiles


def multiplier(dtype, table):
    """Return a compiled product, packing included, as a function of arrays."""
    size = np.dtype(dtype).itemsize
    places = (ctypes.c_int64 * 13).from_address(table)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * 9)(places[addresses.PRODUCT])
    pack = ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * 7)(places[addresses.PACK])

    def multiply(a, matrix, first, last, turned, stride, back):
        (B, K), width = a.shape, tiles.lanes(size)
        W = -(-(last - first) // width) * width
        # Whoever reads or writes beyond the end finds NaN, or is found out.
        given, packed = np.full((B, stride), np.nan, dtype), np.full(K * W + 64, np.nan, dtype)
        given[:, :K] = a
        out = np.full(B * W + 64, np.nan, dtype)
        pack(matrix.ctypes.data, *matrix.shape, first, last, turned, packed.ctypes.data)
        call(table, given.ctypes.data, stride, packed.ctypes.data, out.ctypes.data, B, K, W, back)
        assert np.isnan(out[B * W :]).all()
        out = out[: B * W].reshape(B, W)
        assert not out[:, last - first :].any()
        return out[:, : last - first]

    return multiply


def compare_products(dtype, multiply):
    rng = np.random.default_rng(0)
    tolerance = 1e-13 if dtype == "float64" else 1e-5
    for B, K, columns in [
        *product((1, 2, 3, 4, 5, 6, 7, 13), (1, 3, 257), (1, 17, 70)),
        *product((1, 11), (255, 256, 512, 600), (16, 115)),
    ]:
        a = rng.normal(size=(B, K)).astype(dtype)
        matrix = rng.normal(size=(K, columns + 3)).astype(dtype)
        want = a.astype("float64") @ matrix[:, 2 : columns + 2].astype("float64")
        for turned in (False, True):
            given = np.ascontiguousarray(matrix.T) if turned else matrix
            there, back = (multiply(a, given, 2, columns + 2, turned, K + 2, k) for k in (0, 1))
            assert_close(there, want, tolerance, f"{B}, {K}, {columns}, {turned}")
            np.testing.assert_array_equal(there, back)
