"""Which CUDA kernels run the time loops, and how they multiply: what the user chose."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from xprnn import checks

VARIABLE = "XPRNN_CUDA_LOOP"
LOOPS = ("auto", "persistent", "step", "plain")
PRECISIONS = ("float32", "tf32")


class Choice(NamedTuple):
    """What was chosen.

    Attributes
    ----------
    loop : {"auto", "persistent", "step", "plain"}
    matmul_precision : {"float32", "tf32"}
    """

    loop: str | None = None
    matmul_precision: str = "float32"


_chosen: ContextVar[Choice | None] = ContextVar("chosen", default=None)


@contextmanager
def cuda_loop(loop: str | None = None, *, matmul_precision: str | None = None) -> Iterator[None]:
    """Choose, inside a ``with`` block, the CUDA kernels that run time loops on CuPy.

    It applies to the thread (or asyncio task) that enters the block, and to no other.  For a whole
    process set the environment variable ``XPRNN_CUDA_LOOP`` to one of the same words.

    Parameters
    ----------
    loop : {"auto", "persistent", "step", "plain"}, optional
        ``"persistent"``: one kernel for all steps, which keeps U on the chip; an error says why
        where it can't.  ``"step"``: a product and a kernel for each step.  ``"plain"``: plain array
        code.  ``"auto"``: a persistent kernel where it fits the device and is likely to be faster,
        else step kernels.  By default what is chosen outside the block.
    matmul_precision : {"float32", "tf32"}, optional
        How the kernels multiply by U in float32: ``"tf32"`` rounds both factors to 11 significant
        bits, so that tensor cores multiply them (compute capability 8.0 and later); sums stay in
        float32.  By default what is chosen outside the block, and ``"float32"`` outside all.

    Raises
    ------
    ValueError
        If a word is not one of those.

    Examples
    --------
    >>> import xprnn
    >>> with xprnn.cuda_loop("step"):
    ...     net = xprnn.RNN(1, 4, rng=0)  # and train it; on NumPy it changes nothing
    """
    before = _chosen.get() or Choice()
    if loop is not None:
        checks.choice("loop", loop, LOOPS)
    if matmul_precision is not None:
        checks.choice("matmul_precision", matmul_precision, PRECISIONS)
    token = _chosen.set(
        Choice(loop or before.loop, matmul_precision or before.matmul_precision),
    )
    try:
        yield
    finally:
        _chosen.reset(token)


def chosen() -> Choice:
    """Return what was chosen, by the innermost ``with`` block or by the environment variable.

    Raises
    ------
    ValueError
        If the environment variable ``XPRNN_CUDA_LOOP`` is none of the known words.
    """
    choice = _chosen.get() or Choice()
    if choice.loop is not None:
        return choice
    word = os.environ.get(VARIABLE, "auto")
    if word not in LOOPS:
        known = ", ".join(map(repr, LOOPS))
        raise ValueError(f"{VARIABLE} is {word!r}: expected one of {known}")
    return choice._replace(loop=word)
