"""Recurrent matrices that are kept in another form than the time loop multiplies by.

What the loop multiplies by, M (G·H, H), is formed once for a pass, so no loop knows of the form.
The gradient dM that the layer has becomes those of the parameters after it.

**A projection** of the units that a layer puts out: M is the product of two factors::

    h(t) = P m(t)                                                     (1)
    v(t) = U h(t-1) = (U P) m(t-1)                                    (2)

m is what the cell calls h, and h is what everything outside the layer reads.  By (2) M = U P, and
the layer's states are those of the cell, m and c.  On the way back::

    dm(t) = Pᵀ dh(t)     dP = Σ_t dh(t) m(t)ᵀ                         from (1)
    dU = dM Pᵀ           dP += Uᵀ dM                                  from (2)

with dh what reaches h from outside the layer.  Shapes: m (..., H), h (..., P), P (P, H),
U (G·H, P).

**Heads**: n blocks of K = H/n units, each of which reads itself alone, so that each gate's part of
M is block-diagonal.  U (G·H, K) has the rows of the blocks without the zeros beside them::

    M[g, i, a, j, b] = U[g, i, a, b] if i = j, else 0                 (3)
    dU[g, i, a, b] = dM[g, i, a, i, b]                                from (3)

for gate g, unit a of head i and unit b of head j.

References
----------
M. Beck et al., "xLSTM: extended long short-term memory", NeurIPS 2024, arXiv:2405.04517: heads.

H. Sak, A. Senior and F. Beaufays, "Long short-term memory recurrent neural network architectures
for large scale acoustic modeling", Interspeech 2014, equations (1) to (7) without the peepholes;
``proj_size`` of ``torch.nn.LSTM``.
"""

from typing import NamedTuple

from xprnn.backend import Backend, library_of
from xprnn.backend.trees import tree
from xprnn.backend.types import Array, Namespace


@tree()
class Factors(NamedTuple):
    """What the backward pass needs of one layer in one direction.

    Attributes
    ----------
    U : array, (G·H, P)
    P : array, (P, H)
    m : array, (T, B, H) or (B, H)
        What P was multiplied by, in the order in which the direction reads the steps; (B, H) if
        only the last step's h is put out.
    """

    U: Array
    P: Array
    m: Array


def formed(backend: Backend, U: Array, P: Array | None, heads: int) -> Array:
    """Return M (G·H, H) of a layer with a projection, or with several heads."""
    return _spread(backend, U, heads) if P is None else backend.library.product(U, P)  # (2)


def put_out(xp: Namespace, P: Array, m: Array) -> Array:
    """Return h (..., P)."""
    library = library_of(P)
    h = library.product(library.rows(m), P.T)  # (1)
    return xp.reshape(h, (*m.shape[:-1], P.shape[0]))


def put_out_backward(xp: Namespace, factors: Factors, dh: Array) -> Array:
    """Return dm (..., H), given dh (..., P)."""
    library = library_of(factors.P)
    dm = library.product(library.rows(dh), factors.P)  # from (1)
    return xp.reshape(dm, (*dh.shape[:-1], dm.shape[-1]))


def output_share(factors: Factors, dh: Array) -> Array:
    """Return what dP has from (1), given dh in the order of ``factors.m``."""
    library = library_of(factors.P)
    return library.product(library.rows(dh).T, library.rows(factors.m))  # from (1)


def split_backward(factors: Factors, dM: Array, share: Array) -> tuple[Array, Array]:
    """Return dU and dP, given dM and `output_share`, which is given up."""
    library = library_of(factors.P)
    dU = library.product(dM, factors.P.T)  # from (2)
    return dU, library.add_product(share, factors.U, dM)  # from (2)


def _spread(backend: Backend, U: Array, heads: int) -> Array:
    """Return M (G·H, H) of a layer with heads."""
    xp, K = backend.xp, U.shape[1]
    blocks = xp.reshape(U, (-1, heads, K, 1, K))
    M = xp.where(_same(backend, heads), blocks, xp.zeros_like(blocks))  # (3)
    return xp.reshape(M, (U.shape[0], heads * K))


def spread_backward(backend: Backend, dM: Array, heads: int) -> Array:
    """Return dU (G·H, K)."""
    xp, rows, K = backend.xp, dM.shape[0], dM.shape[1] // heads
    blocks = xp.reshape(dM, (-1, heads, K, heads, K))
    blocks = xp.where(_same(backend, heads), blocks, xp.zeros_like(blocks))
    return xp.reshape(xp.sum(blocks, axis=3), (rows, K))  # from (3)


def _same(backend: Backend, heads: int) -> Array:
    """Return whether i = j, (n, 1, n, 1)."""
    head = backend.xp.arange(heads, device=backend.device)
    return (head[:, None] == head)[:, None, :, None]
