"""The recurrent network that users hold: an architecture with parameters on a backend.

Its methods check what they are given; `xprnn.engine.stack` computes.  Most of this file is the
documentation of `RNN`.
"""

import copy
import math
import operator
import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import partial
from operator import attrgetter
from typing import Any

from xprnn import checks
from xprnn.backend import Backend, get_backend
from xprnn.backend.entry import entry
from xprnn.backend.host.arrays import HostArray, Seed, generator
from xprnn.backend.trees import Fixed, Same, declare
from xprnn.backend.types import Array, Device, DType
from xprnn.cells import Arrays, Cell, get_cell
from xprnn.engine.architecture import Architecture
from xprnn.engine.arguments import (
    check_inputs,
    check_recompute,
    check_state,
    check_tape_for_window,
    check_window,
    zero_state,
)
from xprnn.engine.dropout import NO_MASKS, NOT_COMPILED, Masks
from xprnn.engine.gradients import GradientArray
from xprnn.engine.initial_values import initial_values
from xprnn.engine.initializers import ByKind
from xprnn.engine.layer.weights import check_same_weights
from xprnn.engine.lengths import fill_target
from xprnn.engine.loop.lowering import compiled
from xprnn.engine.parameters import Parameters
from xprnn.engine.passes import backward_of_padded, inference, step_of
from xprnn.engine.readout import reads_out
from xprnn.engine.results import Gradient, Run, Tangents, check_run, trimmed_gradient
from xprnn.engine.saving import check_finite, read_network, write_network
from xprnn.engine.stack import draw_masks, forward
from xprnn.engine.tangents import check_direction, check_tangent, hessian_product, push_forward
from xprnn.losses import LOSSES, Loss, check_weights, get_loss


def _release_with(net: "RNN") -> None:
    """Give memory that is kept for a network's arrays back to the system when the network goes."""
    weakref.finalize(net, net.backend.library.release_memory).atexit = False


def _of_architecture(name: str, doc: str) -> Any:
    """Return a read-only property: the attribute of that name of the network's architecture."""
    # attrgetter, because the getter then costs no Python call.
    return property(attrgetter(f"architecture.{name}"), doc=doc)


class RNN:
    """A recurrent network with explicit gradients.

    ::

        h(t) = cell(W x(t) + b, U h(t-1))
        y(t) = R h(t) + r

    Arrays are time-major: x is (T, B, I), y is (T, B, O), for T steps, B sequences, I inputs, H
    hidden units and O outputs.  An x of integers, (T, B), stands for one-hot vectors of length I,
    which are never formed, or picks rows of an embedding.  The state is explicit: passed in and
    returned, never stored in the network.

    Parameters
    ----------
    input_size : int
        I.
    hidden_size : int or tuple of int
        H, or one for each layer: ``(128, 64)`` is two layers.  The state has the largest of them as
        its last axis; the units that a smaller layer lacks are ignored there, and zero in what is
        returned.
    output_size : int, optional
        O.  None: no readout, the output is h.
    cell : str or Cell
        A name in ``xprnn.cells.CELLS``, such as ``"elman"`` or ``"lstm"``, or an instance such as
        ``xprnn.cells.LSTM(peepholes=True)``.
    layers : int
        Number of layers; each reads the h of the layer below it.
    residual : bool
        Whether a layer's input is added to its output, from the second layer on, where both have
        the same size.  Dropout acts on h, before its layer's input is added to it.
    projection : int, optional
        P, below H: the size of h, which is then h = P m, the product of a matrix P and the cell's
        own output m, (B, H); U, (G·H, P), reads h, and so does everything outside the layer
        (Sak et al. 2014; ``proj_size`` of torch).  The states passed in and returned stay the
        cell's, m and c.  None: h is m.
    heads : int
        n, a divisor of H: U connects only the units of the same block of H/n units, so it is
        (G·H, H/n), each row holding the weights of one unit's gate from the units of its block
        (Beck et al. 2024).  1: U is (G·H, H), and connects all.
    bidirectional : bool
        Whether each layer also reads the sequence from its end to its beginning, with a second set
        of weights; the layer's output is then the h of both directions, concatenated.  D is the
        number of directions, 2 or 1.
    dropout : float
        In [0, 1): the probability that an entry of a layer's output is dropped before the next
        layer reads it, drawn for every step, sequence and unit.  It acts between layers, so with
        one layer it does nothing.
    recurrent_dropout : float
        In [0, 1): the probability that an entry of h(t-1) is dropped before U multiplies it, drawn
        for every sequence and unit and the same at every step (variational dropout).  With a
        projection, an entry of m(t-1) before P multiplies it.
    bias : bool
        Whether there are biases b and r.
    embedding_size : int, optional
        If given, x must hold integers, and each picks a row of ``"embedding.weight"``, a vector of
        this length, as the first layer's input.
    tied : bool
        Whether the embedding is the readout's weight, too: R = E, one matrix (O, H·D) under the
        name ``"embedding.weight"``, with a dense gradient.  Needs O = I; ``embedding_size`` is H·D.
    returns : {"sequence", "last"}
        The outputs of all steps; or one output for each sequence, that of its last state, with both
        directions' final states concatenated.
    backend : str or Backend
        See `get_backend`.
    device, dtype : optional
        See `get_backend`.  Everything is computed in this dtype: a floating argument of another
        precision is cast to it.
    rng : int, numpy.random.Generator or None
        Draws the initial weights, and later the dropout masks.  None: they differ at every call.
    initializer : str, Initializer or mapping
        ``"uniform"`` (in ±1/√n, n the number of incoming connections), ``"normal"``,
        ``"orthogonal"``, ``"identity"``, ``"spectral_radius"``, ``"chrono:100"``, ``"zeros"``, or
        an instance from `xprnn.initializers`.  Or one for each kind of parameter, such as
        ``{"U": "orthogonal", "b": Chrono(100)}``: W, U, P, b, R, r, E, or the name of another
        parameter without layer and direction; those left out are uniform.

    Attributes
    ----------
    architecture : Architecture
        Sizes, cell and form of the output, as given; each is also an attribute of the network.
    backend : Backend
    parameters : dict of array
        Of layer 0: ``"weight_ih_l0"`` W (G·H, I), ``"weight_hh_l0"`` U (G·H, H), ``"bias_l0"`` b
        (G·H,), and those that the cell names, such as the GRU's ``"bias_hn_l0"`` (H,); G is the
        cell's number of gates.  With a projection U is (G·H, P), and there is ``"weight_hr_l0"``
        P (P, H).  Further layers' names end with ``_l1``, ..., and a reversed direction's with
        ``_reverse``.  ``"readout.weight"`` R (O, H·D), ``"readout.bias"`` r (O,),
        ``"embedding.weight"`` (I, embedding_size).  Assignable, one by one or all at once.
    rng : numpy.random.Generator
        Draws the dropout masks of `forward`.
    metadata : dict
        The user's plain data (JSON), saved and loaded with the network: how the input was scaled,
        say.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, unknown or out of range.
    ImportError, RuntimeError
        If the backend is not installed, or has no working device.

    Examples
    --------
    >>> import numpy as np
    >>> net = RNN(3, 8, 2, dtype="float64", rng=0)
    >>> x = np.random.default_rng(1).normal(size=(5, 4, 3))   # 5 steps of 4 sequences
    >>> y, (h,) = net(x)
    >>> y.shape, h.shape
    ((5, 4, 2), (1, 4, 8))
    >>> value, gradient = net.value_and_grad(x, np.zeros((5, 4, 2)))
    >>> gradient.parameters["weight_hh_l0"].shape
    (8, 8)

    Two layers of LSTM in both directions, over sequences of unequal lengths:

    >>> net = RNN(3, 8, cell="lstm", layers=2, bidirectional=True, dtype="float64", rng=0)
    >>> y, (h, c) = net(x, lengths=[5, 3, 1, 5])
    >>> y.shape, h.shape
    ((5, 4, 16), (4, 4, 8))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | tuple[int, ...],
        output_size: int | None = None,
        *,
        cell: str | Cell = "elman",
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        bias: bool = True,
        embedding_size: int | None = None,
        tied: bool = False,
        residual: bool = False,
        projection: int | None = None,
        heads: int = 1,
        returns: str = "sequence",
        backend: str | Backend = "numpy",
        device: Device | None = None,
        dtype: str | DType | None = None,
        rng: Seed = None,
        initializer: ByKind = "uniform",
    ) -> None:
        self.architecture = Architecture(
            input_size,
            hidden_size,
            output_size,
            get_cell(cell),
            bias,
            returns,
            layers,
            bidirectional,
            dropout,
            recurrent_dropout,
            embedding_size,
            tied,
            residual,
            projection,
            heads,
        )
        self.backend = get_backend(backend, device, dtype)
        self.metadata: dict[str, Any] = {}
        self.rng = generator(rng)
        initial = initial_values(self.architecture, initializer, self.rng)
        self.parameters = {name: self.backend.asarray(a) for name, a in initial.items()}
        _release_with(self)

    @classmethod
    def assembled(
        cls,
        architecture: Architecture,
        backend: Backend,
        arrays: Mapping[str, HostArray],
        metadata: dict[str, Any] | None = None,
        rng: Seed = None,
    ) -> "RNN":
        """Return a network of this architecture, with these host arrays as its parameters.

        It keeps ``metadata`` itself, not a copy.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the arrays' names or shapes are not the architecture's.
        """
        net = cls.__new__(cls)
        net.architecture, net.backend = architecture, backend
        net.rng = generator(rng)
        net.parameters = {name: backend.asarray(array) for name, array in arrays.items()}
        net.metadata = {} if metadata is None else metadata
        _release_with(net)
        return net

    def __repr__(self) -> str:
        sizes = f"{self.input_size}, {self.hidden_size}, {self.output_size}, cell={self.cell}"
        # Options that have their default values would only hide the others.
        options = "".join(
            f", {field.name}={getattr(self.architecture, field.name)!r}"
            for field in fields(self.architecture)
            if field.default is not MISSING
            and (
                field.name in ("bias", "returns")
                or getattr(self.architecture, field.name) != field.default
            )
        )
        return (
            f"RNN({sizes}{options}, backend={self.backend.name!r}, "
            f"device={str(self.backend.device)!r}, dtype={self.backend.dtype_name!r})"
        )

    input_size: int = _of_architecture("input_size", "Input size I.")
    hidden_size: int | tuple[int, ...] = _of_architecture(
        "hidden_size", "Hidden size H, or those of the layers if they differ."
    )
    output_size: int | None = _of_architecture(
        "output_size", "Output size O; None without a readout."
    )
    cell: Cell = _of_architecture("cell", "The cell of every layer.")
    layers: int = _of_architecture("layers", "Number of layers.")
    bidirectional: bool = _of_architecture("bidirectional", "Whether layers read both ways.")
    dropout: float = _of_architecture("dropout", "Probability of dropout between layers.")
    recurrent_dropout: float = _of_architecture(
        "recurrent_dropout", "Probability of dropout of h(t-1)."
    )
    bias: bool = _of_architecture("bias", "Whether there are biases.")
    embedding_size: int | None = _of_architecture(
        "embedding_size", "Length of a token's vector; None without an embedding."
    )
    residual: bool = _of_architecture(
        "residual", "Whether layers' inputs are added to their outputs."
    )
    projection: int | None = _of_architecture(
        "projection", "Size of the projected h; None without a projection."
    )
    heads: int = _of_architecture("heads", "Number of blocks of units that U connects.")
    tied: bool = _of_architecture("tied", "Whether embedding and readout are one matrix.")
    returns: str = _of_architecture("returns", '``"sequence"`` or ``"last"``.')

    @property
    def parameters(self) -> Parameters:
        """The parameters by name; see the class."""
        return self._parameters

    @parameters.setter
    def parameters(self, arrays: Mapping[str, Array]) -> None:
        before: Parameters | None = self.__dict__.get("_parameters")
        if before is not None and before.are(arrays):
            # After an update in place: nothing needs another check.
            made = Parameters.unchecked(self.backend, before.shapes, before.values())
        else:
            made = Parameters(self.backend, self.architecture.shapes(), arrays)
        self._parameters = made
        if before is not None:
            before.warn_if_constant()

    def flattened(self) -> tuple[tuple[Array, ...], Fixed]:
        """Return the parameters' arrays, and everything else: see `xprnn.backend.trees`."""
        rest = Fixed(self.architecture, self.backend, Same(self.rng), Same(self.metadata))
        return tuple(self._parameters.values()), rest

    @classmethod
    def unflattened(cls, rest: Fixed, arrays: Iterable[Array]) -> "RNN":
        """Return a network of what `flattened` returned, with other arrays, unchecked."""
        net = cls.__new__(cls)
        net.architecture, net.backend, rng, metadata = rest.values
        net.rng, net.metadata = rng.value, metadata.value
        shapes = net.architecture.shapes()
        net._parameters = Parameters.unchecked(net.backend, shapes, arrays)
        return net

    @entry
    def __call__(
        self,
        x: Array,
        state: Arrays | None = None,
        lengths: Sequence[int] | None = None,
        *,
        mask: Array | None = None,
    ) -> tuple[Array, Arrays]:
        """Return output and final state: inference, without a tape and without dropout.

        Parameters
        ----------
        x : array, (T, B, I), or of integers, (T, B)
        state : tuple of array, (layers·D, B, H) each, optional
            The initial state; None for zero.
        lengths : sequence of int, optional
            The number of steps of each sequence, from 0 to T: a list, a range or an array of
            integers, on the host.  The steps after them are padding: whatever x holds there, the
            state is held and the output is zero.  None: every sequence has T steps.
        mask : array of bool, (T, B), optional
            Which steps exist, instead of lengths: True for a step, False where one is missing, at
            the front, in between or at the end.  On the host, or on the network's device, from
            where it is read.

        Returns
        -------
        output : array, (T, B, O) or (B, O)
        state : tuple of array, (layers·D, B, H) each

        Raises
        ------
        TypeError
            If an array is not floating, or not of this network's backend.
        ValueError
            If an array has the wrong shape or device, or is not finite; if a length is out of
            range; or if lengths and a mask are given.

        Notes
        -----
        A sequence without steps ends in its initial state, which is also what its output is read
        from if the network returns the last output.
        """
        x, state, valid = check_inputs(self.architecture, self.backend, x, state, lengths, mask)
        infer = self._pass(inference, (x, *state), "architecture", "backend")
        output, final = infer(self.architecture, self.backend, self._parameters, x, state, valid)
        return output, final

    @entry
    def forward(
        self,
        x: Array,
        state: Arrays | None = None,
        lengths: Sequence[int] | None = None,
        *,
        mask: Array | None = None,
        rng: Seed = None,
        recompute: bool = False,
    ) -> Run:
        """Return output, final state, and the tape that `backward` needs.

        Parameters, shapes and errors are those of calling the network.  Dropout is active, its
        masks drawn from ``rng``, or from the network's own generator if that is None.  The tape
        refers to ``x``, and to no other array of the caller's, so don't write into ``x`` before
        `backward`.  Output and state are the caller's: writing into them doesn't change the tape.
        Without a readout, NumPy's output may be a part of the tape, and is read-only then.

        ``recompute=True`` is gradient checkpointing, for long sequences: the tape holds each
        layer's input and its states at a few borders, and `backward` computes the steps between
        them a second time.  That costs one more forward pass, takes memory that grows with √T
        only, and gives the same gradients to the bit (on a CUDA device, where sums over steps are
        otherwise taken in one piece, to rounding).  A window needs the whole tape and is refused.
        If ``x`` or a parameter has changed before `backward`, a segment ends in another
        state than it did, and a ValueError is raised; a change whose effect fades away within its
        segment goes unnoticed.
        """
        if recompute is not False:
            recompute = check_recompute(recompute, None)
        x, state, valid = check_inputs(self.architecture, self.backend, x, state, lengths, mask)
        forth = self._pass(forward, (x, *state), "architecture", "backend", "save", "recompute")
        run: Run = forth(
            self.architecture,
            self.backend,
            self._parameters,
            x,
            state,
            valid,
            save=True,
            recompute=recompute,
            masks=self._masks(x, rng),
        )
        if self.backend.library.compiles:
            # The same objects, so that `backward` need not compare numbers.
            run = run._replace(tape=run.tape._replace(parameters=tuple(self._parameters.values())))
        if run.tape.shares_output:
            output = self.backend.library.protected(run.output)
            if output is not run.output:
                return Run(output, run.state, run.tape)
        return run

    def _masks(self, x: Array, rng: Seed) -> Masks:
        """Draw the dropout masks of a pass over x from a generator, or from the network's own."""
        architecture = self.architecture
        drops = architecture.recurrent_dropout or (architecture.dropout and architecture.layers > 1)
        if not drops and rng is None:
            return NO_MASKS
        # Before it is drawn, where the library can't even compile that; else see `mask`.
        if drops and self.backend.library.traced(x):
            raise ValueError(NOT_COMPILED)
        drawing = self.rng if rng is None else generator(rng)
        return draw_masks(architecture, self.backend, drawing, *x.shape[:2])

    def _pass(
        self, function: Callable[..., Any], arrays: Arrays, *fixed: str
    ) -> Callable[..., Any]:
        """Return a function of `xprnn.engine.passes`, compiled where the library can do that.

        It is for these arrays, among others.
        """
        backend = self.backend
        if backend.library.compiles:
            self._parameters.note_use(arrays)
            return compiled(backend, self.architecture.cell, function, *fixed)
        return function

    @entry
    def backward(
        self,
        run: Run,
        d_output: Array,
        d_state: Arrays | None = None,
        window: int | None = None,
    ) -> Gradient:
        """Propagate gradients back through a forward pass.

        Parameters
        ----------
        run : Run
            Of `forward`, with the parameters that the network still has.
        d_output : array
            The gradient of the output, in its shape.
        d_state : tuple of array, (layers·D, B, H) each, optional
            The gradient of the final state; None for zero.
        window : int, optional
            Windowed truncation: every step's loss reaches back through exactly this many steps
            before it, and no further.  None: all the way.

        Returns
        -------
        Gradient

        Raises
        ------
        TypeError, ValueError
            If a gradient has the wrong type, backend, dtype or shape; if the run was made with
            other parameters than the network now has; if there is a window, and the run was made
            with ``recompute=True``; or if a recomputed segment ends in another
            state than in the forward pass.
        """
        if not isinstance(run, Run):
            raise TypeError(f"run is {type(run).__name__}: expected what forward returned")
        architecture, backend = self.architecture, self.backend
        check_run(architecture, backend, run)
        then, now = run.tape.parameters, self._parameters
        # Compared as objects, which costs nothing; the check looks at the numbers.
        if not all(map(operator.is_, then, now.values())):
            check_same_weights("run", dict(zip(now, then, strict=True)), now)
        d_output = checks.array("d_output", d_output, backend, tuple(run.output.shape))
        shape = architecture.state_shape(run.tape.x.shape[1])
        if d_state is None:
            d_state = zero_state(backend, architecture.cell, shape)
        else:
            d_state = check_state("d_state", d_state, backend, architecture.cell, shape)
        window = check_window(window)
        if window is not None:
            check_tape_for_window("run", run.tape.recomputes, window)
        back = self._pass(backward_of_padded, (d_output, *d_state), "window")
        gradient: Gradient = back(self._parameters, run.tape, d_output, d_state, window)
        return gradient if backend.library.fused is None else trimmed_gradient(gradient)

    def value_and_grad(
        self,
        x: Array,
        target: Array,
        loss: str | Loss = "squared_error",
        state: Arrays | None = None,
        lengths: Sequence[int] | None = None,
        window: int | None = None,
        *,
        mask: Array | None = None,
        weights: Array | None = None,
        rng: Seed = None,
        recompute: bool = False,
    ) -> tuple[Array, Gradient]:
        """Return a loss and its gradients: `forward`, the loss, `backward`.

        Parameters
        ----------
        x : array, (T, B, I), or of integers, (T, B)
        target : array
            What the loss compares the output with; for squared error, of the output's shape.
        loss : str or Loss
        state : tuple of array, (layers·D, B, H) each, optional
        lengths : sequence of int, optional
            Padding, the steps beyond a sequence's end, has no loss, whatever the target holds
            there, and a mean is over the other steps.  Where no step exists at all, the loss and
            the gradients are zero.
        mask : array of bool, (T, B), optional
            The same for padding anywhere: see calling the network.
        window : int, optional
            See `backward`.
        weights : array, optional
            How much the target counts, numbers of at least 0: (B,), a weight for each sequence;
            (T, B), one for each step; or one for each entry, in the target's shape.  A mean is then
            over the weights.  None: everything counts once.
        rng : int, numpy.random.Generator or None
            See `forward`.
        recompute : bool
            See `forward`; not together with a window.

        Returns
        -------
        value : array, zero-dimensional
            The loss; ``float(value)`` brings it to the host.  If the loss has the reduction
            ``"none"``, that of each entry.
        gradient : Gradient
        """
        value, gradient, _ = loss_and_grad(
            self,
            x,
            target,
            get_loss(loss),
            state=state,
            lengths=lengths,
            mask=mask,
            window=window,
            weights=weights,
            some_weight=True,
            rng=rng,
            recompute=recompute,
        )
        return value, gradient

    @entry
    def jvp(
        self,
        x: Array,
        d_x: Array | None = None,
        d_parameters: Mapping[str, GradientArray] | None = None,
        d_state: Arrays | None = None,
        state: Arrays | None = None,
        lengths: Sequence[int] | None = None,
        *,
        mask: Array | None = None,
    ) -> Tangents:
        """Return output and final state, and their exact derivatives along a direction: J d.

        This is forward-mode differentiation: it follows from the formulas of the forward pass
        alone, and neither a cell's `backward` nor a step size takes part.  As in calling the
        network, there is no dropout.

        Parameters
        ----------
        x : array, (T, B, I), or of integers, (T, B)
        d_x : array, (T, B, I), optional
            The direction: how x changes.  None: it does not.
        d_parameters : mapping of str to array, optional
            How the parameters change, by name, in their shapes; those left out do not.  Gradients
            in any form will do.
        d_state : tuple of array, (layers·D, B, H) each, optional
            How the initial state changes.  None: it does not.
        state : tuple of array, optional
            The initial state; None for zero.
        lengths, mask : optional
            See calling the network.

        Returns
        -------
        Tangents
            ``.output, .d_output, .state, .d_state``.

        Raises
        ------
        KeyError
            If a parameter's name is unknown.
        TypeError, ValueError
            If an array has the wrong type, backend, device or shape, or is not finite; if there is
            a d_x, and x holds integers; or if the cell calls a function that has no derivative
            here.

        Notes
        -----
        It takes the time of a few passes of plain array code, and the memory of one pass more than
        ``net(x)``.  There is no window: truncation changes gradients, and not the output.

        At a kink the derivative is one of those on either side: that of relu at zero is zero.

        Examples
        --------
        The gradient's inner product with a direction is the loss's derivative along it:

        >>> import numpy as np, xprnn
        >>> rng = np.random.default_rng(0)
        >>> net = xprnn.RNN(2, 3, 1, dtype="float64", rng=0)
        >>> x, w = rng.normal(size=(4, 2, 2)), rng.normal(size=(4, 2, 1))
        >>> d = {name: rng.normal(size=p.shape) for name, p in net.parameters.items()}
        >>> along = net.jvp(x, d_parameters=d).d_output
        >>> gradient = net.backward(net.forward(x), w).parameters
        >>> bool(np.isclose(np.sum(w * along), sum(np.sum(gradient[k] * d[k]) for k in d)))
        True
        """
        architecture, backend = self.architecture, self.backend
        checked, initial, valid = check_inputs(architecture, backend, x, state, lengths, mask)
        d_parameters = check_direction(
            "d_parameters", d_parameters or {}, backend, architecture.shapes()
        )
        if d_x is not None:
            d_x = check_tangent("d_x", d_x, backend, checked, valid)
        if d_state is not None:
            shape = architecture.state_shape(checked.shape[1])
            d_state = check_state("d_state", d_state, backend, architecture.cell, shape)
            for k, part in enumerate(d_state):
                checks.finite(f"d_state[{k}]", part, backend)
        return push_forward(
            architecture,
            backend,
            self._parameters,
            checked,
            initial,
            valid,
            d_parameters,
            d_x,
            d_state,
        )

    @entry
    def hvp(
        self,
        x: Array,
        target: Array,
        direction: Mapping[str, GradientArray],
        loss: str | Loss = "squared_error",
        state: Arrays | None = None,
        lengths: Sequence[int] | None = None,
        *,
        mask: Array | None = None,
        rng: Seed = None,
    ) -> dict[str, Array]:
        """Return the Hessian of a loss with respect to the parameters, times a direction: H d.

        It is the exact derivative of the gradient of `value_and_grad` along the direction, by
        forward-mode differentiation of the forward and the backward pass (Pearlmutter's R
        operator).  With it, Newton's method by conjugate gradients, a trust region, or the
        curvature along a gradient need nothing else.

        Parameters
        ----------
        x, target, loss, state, lengths, mask, rng
            See `value_and_grad`.
        direction : mapping of str to array
            By the names of the parameters, in their shapes; those left out count as zero.
            Gradients in any form will do.

        Returns
        -------
        dict of array
            By the names of the parameters, in their shapes.

        Raises
        ------
        KeyError
            If a parameter's name is unknown.
        TypeError, ValueError
            If an array has the wrong type, backend, device or shape, or is not finite; or if the
            cell or the loss calls a function that has no derivative here.

        Notes
        -----
        It takes the time of a few forward and backward passes of plain array code.

        References
        ----------
        B. Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6 (1994),
        147-160.

        Examples
        --------
        >>> import numpy as np, xprnn
        >>> rng = np.random.default_rng(0)
        >>> net = xprnn.RNN(2, 3, 1, dtype="float64", rng=0)
        >>> x, target = rng.normal(size=(4, 2, 2)), rng.normal(size=(4, 2, 1))
        >>> a, b = ({k: rng.normal(size=p.shape) for k, p in net.parameters.items()} for _ in "ab")
        >>> Ha, Hb = net.hvp(x, target, a), net.hvp(x, target, b)
        >>> bHa, aHb = (sum(np.sum(d[k] * H[k]) for k in d) for d, H in ((b, Ha), (a, Hb)))
        >>> bool(np.isclose(bHa, aHb, rtol=1e-12))      # the Hessian is symmetric
        True
        """
        architecture, backend, loss = self.architecture, self.backend, get_loss(loss)
        checked, initial, valid = check_inputs(architecture, backend, x, state, lengths, mask)
        direction = check_direction("direction", direction, backend, architecture.shapes())
        if valid is not None and architecture.returns == "sequence":
            target = fill_target(backend, valid, target)
        target = loss.check(architecture.output_shape(*checked.shape[:2]), target, backend)
        return hessian_product(
            architecture,
            backend,
            self._parameters,
            checked,
            initial,
            valid,
            target,
            loss,
            direction,
            self.rng if rng is None else generator(rng),
        )

    def to(
        self,
        backend: str | Backend,
        device: Device | None = None,
        dtype: str | DType | None = None,
    ) -> "RNN":
        """Return the same network on another backend; this one does not change.

        Parameters
        ----------
        backend : str or Backend
        device : optional
        dtype : optional
            None: this network's dtype.

        Raises
        ------
        ValueError, ImportError, RuntimeError
            See `get_backend`.
        """
        if dtype is None and not isinstance(backend, Backend):
            dtype = self.backend.dtype_name
        # Copies, because a host array may share memory with this network's parameter.
        arrays = {name: array.copy() for name, array in self._host_parameters().items()}
        made = get_backend(backend, device, dtype)
        metadata, rng = copy.deepcopy(self.metadata), copy.deepcopy(self.rng)
        return RNN.assembled(self.architecture, made, arrays, metadata, rng)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write configuration, parameters and metadata to a safetensors file.

        The file is written under another name and then renamed, so it is complete or absent.
        Parameters of bfloat16 are written in float32, which loses nothing.

        Raises
        ------
        TypeError, ValueError
            If the metadata is not a dict of plain JSON data, or holds NaN or infinity.
        OSError
            If the file can't be written.
        """
        write_network(
            path, self.architecture, self.backend.dtype_name, self._host_parameters(), self.metadata
        )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        backend: str | Backend = "numpy",
        device: Device | None = None,
        dtype: str | DType | None = None,
        cell: Cell | None = None,
        allow_nonfinite: bool = False,
    ) -> "RNN":
        """Return a network that `save` has written.

        The file may come from a stranger: it holds no code, and everything in it is checked before
        it is used.

        Parameters
        ----------
        path : path
        backend, device, dtype : optional
            Where the network computes; without a dtype, the file's.
        cell : Cell, optional
            Needed if, and only if, the network was saved with a cell that is not part of xprnn.
        allow_nonfinite : bool
            Whether weights may be NaN or infinite.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        OSError
            If it can't be read.
        ValueError
            If the file is not a model of xprnn, is truncated or was changed, is of another version,
            holds no complete network or weights that are not finite, or needs ``cell``.

        Warns
        -----
        UserWarning
            If the file has no digest, as files of older versions have none, so that it is unknown
            whether it was changed.
        """
        allow_nonfinite = checks.boolean("allow_nonfinite", allow_nonfinite)
        saved = read_network(path, cell, allow_nonfinite=allow_nonfinite)
        if dtype is None and not isinstance(backend, Backend):
            dtype = saved.dtype
        made = get_backend(backend, device, dtype)
        if made.dtype_name != saved.dtype and not allow_nonfinite:
            check_finite(path, saved.parameters, made.dtype_name)
        return cls.assembled(saved.architecture, made, saved.parameters, saved.metadata)

    def _host_parameters(self) -> dict[str, HostArray]:
        return {name: self.backend.to_numpy(array) for name, array in self._parameters.items()}


@entry
def states_and_loss(
    net: RNN,
    x: Array,
    state: Arrays | None,
    lengths: Sequence[int] | None,
    mask: Array | None,
    loss: Loss,
) -> tuple[Array, Arrays, Callable[..., Array]]:
    """Return what a loss takes of a network, the final state, and the loss.

    That is the output; or, for a loss that is to read out by itself, what the readout reads.

    Returns
    -------
    output : array
    state : tuple of array
    value : callable
        ``value(output, target, *mask)``, as `xprnn.losses.Loss.__call__`.
    """
    architecture, parameters = net.architecture, net.parameters
    if architecture.output_size is not None and hasattr(x, "shape") and len(x.shape) > 1:
        R = parameters[architecture.readout_weight]
        rows = math.prod(architecture.output_shape(*x.shape[:2])[:-1])
        if reads_out(loss, rows, R):
            given = check_inputs(architecture, net.backend, x, state, lengths, mask)
            h, final = inference(architecture, net.backend, parameters, *given, reads_out=False)
            return h, final, partial(loss.readout_value, R, parameters.get("readout.bias"))
    return *net(x, state, lengths, mask=mask), loss


@entry
def loss_and_grad(
    net: RNN,
    x: Array,
    target: Array,
    loss: Loss,
    *,
    state: Arrays | None = None,
    lengths: Sequence[int] | None = None,
    mask: Array | None = None,
    window: int | None = None,
    weights: Array | None = None,
    some_weight: bool = False,
    rng: Seed = None,
    recompute: bool = False,
    factored: bool = False,
    parameters_only: bool = False,
    done: Callable[[Mapping[str, GradientArray]], None] | None = None,
) -> tuple[Array, Gradient, Arrays]:
    """Return what `RNN.value_and_grad` returns, and the final state: a step of a training loop.

    Parameters
    ----------
    net : RNN
    x, target, loss, state, lengths, mask, window, weights, rng, recompute
        See `RNN.value_and_grad`.
    some_weight : bool
        Refuse weights that are all zero.  A training lets them be, and makes no update.
    factored : bool
        Let the gradient of the readout's weight be a `xprnn.engine.gradients.FactoredGradient`
        where its factors are much smaller than itself; see `xprnn.engine.readout`.
    parameters_only : bool
        Leave out the gradients of the input and of the initial state.
    done : callable, optional
        See `xprnn.engine.stack.backward`; not called by libraries that compile whole passes.

    Returns
    -------
    value : array, zero-dimensional
    gradient : Gradient
    state : tuple of array, (layers·D, B, H) each
        The final state, from which the next chunk of the sequence starts.
    """
    window = check_window(window)
    recompute = check_recompute(recompute, window)
    architecture, backend = net.architecture, net.backend
    x, initial, exists = check_inputs(architecture, backend, x, state, lengths, mask)
    steps, batch = x.shape[:2]
    # The loss does not depend on the final state; without an initial state, zeros are at hand.
    d_state = initial
    if state is not None:
        d_state = zero_state(backend, architecture.cell, architecture.state_shape(batch))
    valid = exists if architecture.returns == "sequence" else None
    if valid is not None:
        target = fill_target(backend, valid, target)
    output_shape = architecture.output_shape(steps, batch)
    target = loss.check(output_shape, target, backend)
    if weights is not None:
        places = output_shape[:-1]
        weights = check_weights(loss, weights, places, target, backend, some=some_weight)
    built_in = type(loss) in LOSSES.values()
    names = (
        *("architecture", "backend", "loss", "window", "recompute", "factored"),
        *("parameters_only", "protect"),
    )
    # A loss of the user's may look at values, which code that is compiled has not.
    step = net._pass(step_of, (x, target, *d_state), *names) if built_in else step_of
    if done is not None and step is step_of:
        step = partial(step_of, done=done)
    found: tuple[Array, Gradient, Arrays] = step(
        architecture,
        backend,
        loss,
        net._parameters,
        x,
        target,
        initial,
        d_state,
        exists,
        weights,
        net._masks(x, rng),
        window=window,
        recompute=recompute,
        factored=factored,
        parameters_only=parameters_only,
        protect=not built_in,
    )
    value, gradient, final = found
    if backend.library.fused is not None and not parameters_only:
        gradient = trimmed_gradient(gradient)
    return value, gradient, final


declare(RNN, RNN.flattened, RNN.unflattened)
