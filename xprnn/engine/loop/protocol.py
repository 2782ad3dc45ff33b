"""What every lowering of a time loop offers."""

from typing import ClassVar, NamedTuple, Protocol

from xprnn.backend.types import Array
from xprnn.cells import Arrays


class Work(NamedTuple):
    """What a time loop is asked to do.

    Attributes
    ----------
    direction : {"forward", "backward"}
    dtype : str
    steps, batch : int
        T and B.
    lengths : bool
        Whether sequences have lengths of their own.
    """

    direction: str
    dtype: str
    steps: int
    batch: int
    lengths: bool


class Loops(Protocol):
    """A cell's time loop, forward and reversed, as `xprnn.engine.loop.plain` has them for every
    cell.

    Shapes: T steps, B sequences, H hidden units, G gates.  A tape may go from the forward loop of
    one lowering to the backward loop of another.
    """

    name: ClassVar[str]
    """What `xprnn.explain_lowering` and the environment variable call it."""

    def suits(self, work: Work) -> bool:
        """Whether it does this work."""
        ...

    def describe(self) -> str:
        """Say what a cell is made into, and at what cost."""
        ...

    def forward(
        self,
        u: Array,
        U: Array,
        units: Arrays,
        state: Arrays,
        *,
        mask: Array | None = None,
        valid: Array | None = None,
        save: bool = True,
    ) -> tuple[Arrays, Arrays]:
        """Carry the state from step 0 to step T-1.

        Parameters
        ----------
        u : array, (T, B, G·H)
        U : array, (G·H, H)
        units : tuple of array, (H,) each
        state : tuple of array, (B, H) each
        mask : array, (B, H), optional
            What h(t-1) is multiplied by on its way to U.
        valid : array of bool, (T, B, 1), optional
            Which steps are within their sequence.  Elsewhere the state is held.
        save : bool

        Returns
        -------
        states : tuple of array, (T+1, B, H) each
        saved : tuple of array, (T, B, H) each
        """
        ...

    def backward(
        self,
        U: Array,
        units: Arrays,
        states: Arrays,
        saved: Arrays,
        dh: Array | None,
        d_state: Arrays,
        *,
        mask: Array | None = None,
        valid: Array | None = None,
    ) -> tuple[Array, Array, Arrays, Arrays]:
        """Carry the gradient from step T-1 to step 0.

        Parameters
        ----------
        U : array, (G·H, H)
        units : tuple of array, (H,) each
        states, saved : tuple of array
            Of `forward`.
        dh : array, (T, B, H), or None
        d_state : tuple of array, (B, H) each
        mask, valid : array, optional
            Those of `forward`.

        Returns
        -------
        du, dv : array, (T, B, G·H)
            One array if the cell's gradients of u and v are equal.
        units : tuple of array, (H,) each
        d_state : tuple of array, (B, H) each
            Of the initial state.
        """
        ...
