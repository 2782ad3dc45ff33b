"""What a lowering to CUDA kernels needs from an array library; CuPy is the one that has it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeAlias

from xprnn.backend.types import Array, Device

Launch: TypeAlias = Callable[[tuple[int, ...], tuple[int, ...], tuple[Any, ...]], object]
"""``launch(grid, block, arguments)``; integers are passed as 64 bits, arrays as pointers."""


class StepProduct(NamedTuple):
    """A matrix product at every step of a time loop: out = a(t) b, or a(t) bᵀ.

    Attributes
    ----------
    a : array, (T, B, K) or (B, K)
        Of all steps, of which step t takes ``a[t]``; or the same array at every step.
    b : array, (K, N), or (N, K) if ``transposed``
    out : array, (B, N)
    transposed : bool
    tf32 : bool
        Whether products of float32 may round their factors to TF32, for tensor cores.
    """

    a: Array
    b: Array
    out: Array
    transposed: bool = False
    tf32: bool = False


class StepLaunch(NamedTuple):
    """A kernel at every step of a time loop, whose first argument is t.

    Attributes
    ----------
    launch : Launch
    grid, block : tuple of int
    arguments : tuple
        Those after t.
    """

    launch: Launch
    grid: tuple[int, ...]
    block: tuple[int, ...]
    arguments: tuple[Any, ...]


SharedLaunch: TypeAlias = Callable[
    [tuple[int, int], tuple[int, int], tuple[Any, ...], int, bool], object
]
"""``launch(grid, block, arguments, shared_bytes, together)``: with as much shared memory for each
block; ``together`` if blocks wait for each other, so that all must be on the device at once."""


class Limits(NamedTuple):
    """What a device has.

    Attributes
    ----------
    multiprocessors : int
    shared_bytes : int
        The most shared memory that a block can have.
    capability : tuple of int
        The compute capability, such as (9, 0).
    """

    multiprocessors: int
    shared_bytes: int
    capability: tuple[int, int]


class Kernels(Protocol):
    """Compiles kernels in CUDA C, and makes the calls between them that work on arrays."""

    def compiled(self, name: str, text: str) -> Launch:
        """Return the kernel ``name`` of a source text, compiled at its first launch on a device."""
        ...

    def contiguous(self, a: Array) -> Array:
        """Return the array in row-major order, as a copy if it has another order."""
        ...

    def repeat(
        self,
        steps: range,
        calls: Sequence[StepProduct | StepLaunch],
        given: Sequence[Array],
        made: Sequence[Array],
    ) -> None:
        """Make these calls, one after the other, at each of these steps.

        All arrays are contiguous and on the current device, which isn't waited for.  Arrays that
        are written to overlap no others.

        Parameters
        ----------
        steps : range
        calls : sequence of StepProduct or StepLaunch
        given : sequence of array
            Arrays of the calls whose content matters before the first step; of one of which only
            the first rows matter, these rows.
        made : sequence of array
            Arrays of the calls whose content is wanted after the last step.
        """
        ...

    def on_device_of(self, a: Array) -> AbstractContextManager[object]:
        """Return a context in which kernels run on the device of ``a``."""
        ...

    def limits(self, device: Device) -> Limits:
        """Return what a device has."""
        ...

    def compiled_with_room(self, name: str, text: str) -> SharedLaunch:
        """Return a kernel that uses shared memory, as `compiled` does.

        Its launch raises a ValueError if blocks that must be there together don't fit.
        """
        ...

    def watched(self, what: str) -> tuple[int, int]:
        """Return the address of two numbers of 64 bits, and a number for ``what``.

        A kernel that gives up writes the number there, with one of its own behind it.

        Raises
        ------
        RuntimeError
            If a kernel has given up since that was last looked at; see `raise_given_up`.
        """
        ...

    def raise_given_up(self) -> None:
        """Raise a RuntimeError if a kernel has given up; it waits for no kernel that still runs."""
        ...


class Fused(Protocol):
    """Operations for arrays of a device that are few kernels, and that nobody waits for."""

    def answers(self) -> Array:
        """Return room for the answers to the questions of a step, zeros."""
        ...

    def ask_finite(self, arrays: Sequence[Array], found: Array) -> None:
        """Write for each array 0, or n - i for its first entry i that is not finite.

        ``found`` is a part of `answers`, with room for each array.
        """
        ...

    def ask_in_range(self, a: Array, count: int, ignored: int | None, found: Array) -> None:
        """Do the same for integers: those from 0 to count-1, and ``ignored``, are good."""
        ...

    def notes(self, count: int) -> Array:
        """Return room for this number of notes: a loss, its entries, and the answers."""
        ...

    def note(self, row: Array, loss: Array, entries: Array | None, found: Array) -> None:
        """Write a row of `notes`."""
        ...

    def norm_and_factor(self, arrays: Sequence[Array], limit: float) -> tuple[Array, Array]:
        """Return the norm of arrays, in the first one's dtype, and limit / max(norm, limit)."""
        ...

    def scaled(self, arrays: Sequence[Array], factor: Array) -> list[Array]:
        """Return arrays times such a factor, new ones."""
        ...

    def softmax_loss(
        self,
        logits: Array,
        target: Array,
        valid: Array | None,
        *,
        mean: bool,
        gradient: bool,
        overwrite: bool,
    ) -> tuple[Array, Array | None]:
        """Return cross-entropy of logits (N, V) and targets (N,), and its gradient if wanted.

        ``valid``, (N,) of bool, says which places exist.  With ``overwrite`` the gradient may be
        written into the logits.
        """
        ...

    def square_loss(
        self, output: Array, target: Array, valid: Array | None, *, mean: bool, gradient: bool
    ) -> tuple[Array, Array | None]:
        """Return half the squared error of (N, O), and its gradient if wanted."""
        ...
