"""The time loop: its equations, what it takes and gives, and what every implementation offers.

Shapes: T steps, B sequences, H hidden units, G gates; every array is time-major.  The input's
projection u(t) = W x(t) + b and the gradients of W, U and b need no recurrence and are computed
outside the loop (see `xprnn.engine.layer.layer`).  Inside a step there is one matrix product and
the cell's elementwise formula.

The equations of a cell are in `xprnn.cells`.  The equations of the loop itself are these, and each
implementation cites their numbers on the lines that implement them (or that write the code that
does): `xprnn.engine.loop.plain`, and the sources that the lowerings to NumPy, Numba and CUDA
generate.

Forward, for t = 0, ..., T-1::

    g(t) = m h(t-1)                                           (1)
    a(t) = U g(t)                                             (2)
    v(t) = a(t), or γ N(a(t)) in a layer that normalises      (3)
           new s(t), saved(t) = cell.forward(u(t), v(t), s(t-1))
    s(t) = new s(t), or s(t-1) past the sequence's end        (4)

with the mask m of recurrent dropout (or 1), the layer normalisation N and its gain γ.  The padding
mask says which steps are past the end.

Backward, for t = T-1, ..., 0, where r(t) is the gradient that reaches h(t) from outside the loop::

    dh(t) = carried dh(t) + r(t)                              (5)
            du(t), dv(t), dp(t), direct ds(t-1) = cell.backward(saved(t), s(t-1), ds(t))
    du(t) = dv(t) = dp(t) = 0 past the end                    (6)   from (4)
    da(t), dγ(t) = those of γ N(a(t)), or da(t) = dv(t)       (7)   from (3)
    dg(t) = Uᵀ da(t)                                          (8)   from (2)
    dh(t-1) = direct dh(t-1) + m dg(t)                        (9)   from (1)
    ds(t-1) = ds(t) past the end                              (10)  from (4)
    dp = Σ dp(t) over steps and sequences                     (11)

with the per-unit parameters p of the cell.  "Direct" are the paths that don't go through U.

A cell that does not read v(t) has no U: its loop has a U with no rows, and leaves out (1) to (3)
and (7) to (9), of which the direct dh(t-1) remains.
"""

from typing import ClassVar, NamedTuple, Protocol

from xprnn.backend.kernels import Limits
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.loop.gaps import Gaps
from xprnn.engine.normalization import Normalized


class Recurrent(NamedTuple):
    """What a layer applies at every step.

    Attributes
    ----------
    U : array, (G·H, H)
        (0, H) for a cell that does not read v.
    units : tuple of array, (H,) each
        The cell's per-unit parameters.
    gain : array, (G·H,), or None
        γ, of a layer that normalises.
    mask : array, (B, H), or None
        m, the mask of recurrent dropout: the same at every step.
    valid : array of bool, (T, B, 1), or None
        The padding mask: which steps are within their sequence.  None: all of them.
    """

    U: Array
    units: Arrays = ()
    gain: Array | None = None
    mask: Array | None = None
    valid: Array | None = None

    def at(self, steps: slice) -> "Recurrent":
        """Return what the layer applies at some of the steps."""
        return self if self.valid is None else self._replace(valid=self.valid[steps, ...])


class Trajectory(NamedTuple):
    """What a forward loop returns.

    Attributes
    ----------
    states : tuple of array
        Per state variable, (T+1, B, H): the initial state, then the state after every step.  So
        ``states[0][1:]`` is the output, and ``states[0][:-1]`` the h(t-1) of every step.
    saved : tuple of array
        Per quantity that the cell saves, (T, B, H).  Empty if nothing was to be saved.
    normalized : Normalized or None
        Of a(t) at all steps, if the layer normalises.
    """

    states: Arrays
    saved: Arrays
    normalized: Normalized | None = None


class LoopGradient(NamedTuple):
    """What a backward loop returns.

    Attributes
    ----------
    du, da : array, (T, B, G·H)
        The gradients of u and of a.  The same object if they are equal.  The latter is (T, B, 0)
        for a cell that does not read v.
    units : tuple of array, (H,) each
    gain : array, (G·H,), or None
    state : tuple of array, (B, H) each
        Of the initial state.
    """

    du: Array
    da: Array
    units: Arrays
    gain: Array | None
    state: Arrays


class StepGradient(NamedTuple):
    """A `LoopGradient` before anything is summed: of one step, (B, ...), or of all, (T, B, ...)."""

    du: Array
    da: Array
    units: Arrays
    gain: Array | None
    state: Arrays


class Work(NamedTuple):
    """What a time loop is asked to do.

    Attributes
    ----------
    direction : {"forward", "backward", "window"}
    dtype : str
    steps, batch : int
        T and B.
    lengths : bool
        Whether there is a padding mask.
    hidden : int
        H; 0 where it does not matter.
    limits : Limits or None
        What a device that runs CUDA kernels has.
    normalizes : bool
        Whether the layer normalises the product.
    """

    direction: str
    dtype: str
    steps: int
    batch: int
    lengths: bool
    hidden: int = 0
    limits: Limits | None = None
    normalizes: bool = False


class Loops(Protocol):
    """A cell's time loop, forward and backward.

    `xprnn.engine.loop.plain.PlainLoops` is the reference.  The trajectory of one implementation may
    go to the backward loop of another.
    """

    name: ClassVar[str]
    """What `xprnn.explain_lowering` and the environment variable call it."""

    normalizes: ClassVar[bool]
    """Whether it suits a layer that normalises the product."""

    def suits(self, work: Work) -> bool:
        """Return whether it can do this work."""
        ...

    def describe(self) -> str:
        """Say what a cell is made into, and at what cost."""
        ...

    def forward(self, u: Array, recurrent: Recurrent, state: Arrays, *, save: bool) -> Trajectory:
        """Carry the state from step 0 to step T-1.

        Parameters
        ----------
        u : array, (T, B, G·H)
            The projected input, bias included.
        recurrent : Recurrent
        state : tuple of array, (B, H) each
        save : bool
            Whether `backward` will need the trajectory.  Without it, nothing is saved.
        """
        ...

    def backward(
        self, recurrent: Recurrent, trajectory: Trajectory, dh: Array | None, d_state: Arrays
    ) -> LoopGradient:
        """Carry the gradient from step T-1 to step 0.

        Parameters
        ----------
        recurrent : Recurrent
            That of the forward loop.
        trajectory : Trajectory
            Of a forward loop with ``save``.
        dh : array, (T, B, H), or None
            r, the gradient that reaches each step's output from outside the loop.  None: zero.
        d_state : tuple of array, (B, H) each
            The gradient that reaches the final state from outside.
        """
        ...


class Keeping(Protocol):
    """A backward loop that can keep what it carries."""

    def backward_keeping(
        self, recurrent: Recurrent, trajectory: Trajectory, dh: Array | None, d_state: Arrays
    ) -> tuple[LoopGradient, Array]:
        """Carry the gradient from step T-1 to step 0, and keep the dh(t) of (5).

        Parameters
        ----------
        recurrent, trajectory, dh, d_state
            As in `Loops.backward`.

        Returns
        -------
        gradient : LoopGradient
            The same as that of `Loops.backward`.
        dh : array, (T, B, H)
            The whole gradient of every h(t).  At steps that do not exist, what is carried past
            them.
        """
        ...


class Windowed(Protocol):
    """What makes the sweeps of a windowed truncation; see `xprnn.engine.layer.window`."""

    def sweeps(
        self,
        recurrent: Recurrent,
        trajectory: Trajectory,
        dh: Array | None,
        d_state: Arrays,
        before: Arrays | None,
        count: int,
        gaps: Gaps | None,
    ) -> StepGradient:
        """Make a number of sweeps through one layer.

        Parameters
        ----------
        recurrent, trajectory, dh
            As in `Loops.backward`.
        d_state : tuple of array, (B, H) each
            The gradient that reaches the final state from outside, the same in every sweep.
        before : tuple of array, (T, B, H) each, or None
            Given up: the gradients of the state before each step that the sweep before the first
            one returned; None: there is none.
        count : int
        gaps : Gaps or None
            None: every sequence's steps follow each other.

        Returns
        -------
        StepGradient
            Of the last sweep, with the gradients of the per-unit parameters summed, (H,) each.
        """
        ...
