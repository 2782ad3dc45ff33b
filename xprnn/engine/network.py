"""The recurrent network as its users hold it: checked, on a backend, with parameters."""

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from xprnn import checks
from xprnn.backend import Backend, get_backend
from xprnn.backend.host.arrays import HostArray, Seed, generator
from xprnn.backend.host.safetensors import read_model, write_model
from xprnn.backend.types import Array, Device, DType
from xprnn.cells import Arrays, Cell, get_cell
from xprnn.engine.architecture import Architecture
from xprnn.engine.arguments import (
    check_input,
    check_recompute,
    check_state,
    check_tokens,
    check_whole,
    check_window,
    zero_state,
)
from xprnn.engine.initializers import Initializer
from xprnn.engine.lengths import check_lengths
from xprnn.engine.parameters import Parameters
from xprnn.engine.stack import Gradient, Run, backward, check_run, forward, gradient_within
from xprnn.losses import Loss, get_loss, where_valid


class RNN:
    """A recurrent network with explicit gradients.

    ::

        h(t) = cell(W x(t) + b, U h(t-1))
        y(t) = R h(t) + r

    Arrays are time-major: x is (T, B, I), y is (T, B, O), for T steps, B sequences, I inputs, H
    hidden units and O outputs.  An x of integers, (T, B), stands for one-hot vectors of length I,
    which are never made, or picks rows of an embedding.  The state is explicit, passed in and
    returned, never kept.

    Parameters
    ----------
    input_size, hidden_size : int
        I and H.
    output_size : int, optional
        O.  None: no readout, the output is h.
    cell : str or Cell
        ``"elman"``, ``"gru"``, ``"lstm"`` or ``"minimal_gated"``, or an instance such as
        ``xprnn.cells.LSTM(peepholes=True)``.
    layers : int
        Each reads the h of the one below.
    bidirectional : bool
        Whether each layer also reads the sequence from its end to its beginning, with weights of
        its own; its output is both h, concatenated.  D = 2 directions then, else 1.
    dropout : float
        In [0, 1): the share of a layer's output that the next layer does not see, drawn for every
        step and unit.  Between layers, so with one layer it does nothing.
    recurrent_dropout : float
        In [0, 1): the share of h(t-1) that U does not see, the same units at every step
        (variational).
    bias : bool
        Whether there are b and r.
    embedding_size : int, optional
        Given: x holds integers only, and each picks a vector of this length, row of
        ``"embedding.weight"``, as the first layer's input.
    returns : {"sequence", "last"}
        The outputs of all steps; or that of each sequence's last state, both directions' final
        states concatenated.
    backend : str or Backend
        See `get_backend`.
    device, dtype : optional
        See `get_backend`.  Everything is computed in this dtype: floats of another precision are
        cast to it when they enter.
    rng : int, numpy.random.Generator or None
        Where the initial weights are drawn from, and after them the dropout masks; None for fresh
        ones at every call.
    initializer : str or Initializer
        ``"uniform"`` (in ±1/√n, n the number of incoming connections), ``"normal"``,
        ``"orthogonal"``, ``"zeros"``, or an instance of `xprnn.initializers`.

    Attributes
    ----------
    architecture : Architecture
        Sizes, cell and form of the output, as given; each is an attribute of the network, too.
    backend : Backend
    parameters : dict of array
        Of layer 0: ``"weight_ih_l0"`` W (G·H, I), ``"weight_hh_l0"`` U (G·H, H), ``"bias_l0"`` b
        (G·H,), and those that the cell names, such as the GRU's ``"bias_hn_l0"`` (H,); G is the
        cell's number of gates.  Further layers end with ``_l1``, ..., and reversed directions with
        ``_reverse``.  ``"readout.weight"`` R (O, H·D), ``"readout.bias"`` r (O,),
        ``"embedding.weight"`` (I, embedding_size).  Assignable, one by one or all at once.
    rng : numpy.random.Generator
        Draws the dropout masks of `forward`.
    metadata : dict
        Plain data (JSON) of the user's own, saved and loaded with the network: how the input was
        scaled, say.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, unknown or out of range.
    ImportError, RuntimeError
        If the backend is missing, or has no device that works.

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
        hidden_size: int,
        output_size: int | None = None,
        *,
        cell: str | Cell = "elman",
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        bias: bool = True,
        embedding_size: int | None = None,
        returns: str = "sequence",
        backend: str | Backend = "numpy",
        device: Device | None = None,
        dtype: str | DType | None = None,
        rng: Seed = None,
        initializer: str | Initializer = "uniform",
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
        )
        self.backend = get_backend(backend, device, dtype)
        self.metadata: dict[str, Any] = {}
        self.rng = generator(rng)
        initial = self.architecture.initial(initializer, self.rng)
        self.parameters = {name: self.backend.asarray(a) for name, a in initial.items()}

    @classmethod
    def assembled(
        cls,
        architecture: Architecture,
        backend: Backend,
        arrays: Mapping[str, HostArray],
        metadata: Mapping[str, Any] | None = None,
        rng: Seed = None,
    ) -> "RNN":
        """Return the network of an architecture, with these host arrays for parameters.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the arrays are not those of the architecture.
        """
        net = cls.__new__(cls)
        net.architecture, net.backend = architecture, backend
        net.rng = generator(rng)
        net.parameters = {name: backend.asarray(array) for name, array in arrays.items()}
        net.metadata = copy.deepcopy(dict(metadata or {}))
        return net

    def __repr__(self) -> str:
        sizes = f"{self.input_size}, {self.hidden_size}, {self.output_size}, cell={self.cell}"
        # Options at their defaults would only hide the others.
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

    @property
    def input_size(self) -> int:
        """I."""
        return self.architecture.input_size

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.architecture.hidden_size

    @property
    def output_size(self) -> int | None:
        """O; None without a readout."""
        return self.architecture.output_size

    @property
    def cell(self) -> Cell:
        """The cell."""
        return self.architecture.cell

    @property
    def layers(self) -> int:
        """The number of layers."""
        return self.architecture.layers

    @property
    def bidirectional(self) -> bool:
        """Whether the layers read in both directions."""
        return self.architecture.bidirectional

    @property
    def dropout(self) -> float:
        """The share dropped between layers."""
        return self.architecture.dropout

    @property
    def recurrent_dropout(self) -> float:
        """The share of h(t-1) dropped."""
        return self.architecture.recurrent_dropout

    @property
    def bias(self) -> bool:
        """Whether there are biases."""
        return self.architecture.bias

    @property
    def embedding_size(self) -> int | None:
        """The length of a token's vector; None without an embedding."""
        return self.architecture.embedding_size

    @property
    def returns(self) -> str:
        """``"sequence"`` or ``"last"``."""
        return self.architecture.returns

    @property
    def parameters(self) -> Parameters:
        """The parameters by name; see the class."""
        return self._parameters

    @parameters.setter
    def parameters(self, arrays: Mapping[str, Array]) -> None:
        self._parameters = Parameters(self.backend, self.architecture.shapes(), arrays)

    def __call__(
        self, x: Array, state: Arrays | None = None, lengths: Sequence[int] | None = None
    ) -> tuple[Array, Arrays]:
        """Return output and final state, without a tape and without dropout: inference.

        Parameters
        ----------
        x : array, (T, B, I), or of integers, (T, B)
        state : tuple of array, (layers·D, B, H) each, optional
            The initial state; None for zero.
        lengths : sequence of int, optional
            How many of the T steps each sequence has: on the host, from 1 to T.  Beyond, whatever
            finite numbers x holds there, the state is held and the output is zero.  None: all of
            them.

        Returns
        -------
        output : array, (T, B, O) or (B, O)
        state : tuple of array, (layers·D, B, H) each

        Raises
        ------
        TypeError
            If an array is not floating, or not of this network's backend.
        ValueError
            If an array has the wrong shape or device, is not finite, or has no steps, or a length
            is out of range.
        """
        run = self._forward(*self._check_input(x, state, lengths), save=False)
        return run.output, run.state

    def forward(
        self,
        x: Array,
        state: Arrays | None = None,
        lengths: Sequence[int] | None = None,
        *,
        rng: Seed = None,
        recompute: bool = False,
    ) -> Run:
        """Return output, final state, and the tape that `backward` needs.

        Parameters, shapes and errors are those of calling the network; but dropout is active, its
        masks drawn from ``rng``, or from the network's own generator if that is None.  The tape
        refers to ``x`` and to nothing else of the caller's: don't write into it before `backward`.

        With ``recompute=True``, for long sequences, the tape has each layer's input and its states
        at a few borders, and `backward` computes what is between them a second time: one more
        forward pass, memory that grows with √T only, and gradients that are the same to the bit.
        Windows need the whole tape and are refused.  If ``x`` (or a parameter) has changed by then,
        a segment ends in another state than it did, and `backward` raises a ValueError; a change
        that fades away within its segment is not found.
        """
        recompute = check_recompute(recompute, None)
        checked = self._check_input(x, state, lengths)
        return self._forward(*checked, save=True, rng=rng, recompute=recompute)

    def backward(
        self,
        run: Run,
        d_output: Array,
        d_state: Arrays | None = None,
        window: int | None = None,
        *,
        factored: bool = False,
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
        factored : bool
            Give the gradient of the readout's weight as a
            `xprnn.engine.gradients.FactoredGradient`, which all optimizers take, where its factors
            are much smaller than itself: for N outputs, T·B or the B last ones, if 4 N (O + H·D) <
            O·H·D.  It refers to ``d_output`` and to the arrays of ``run``: don't write into them
            before it has been used.

        Returns
        -------
        Gradient

        Raises
        ------
        TypeError, ValueError
            If a gradient has the wrong type, backend, dtype or shape; if there is a window, and
            the run was made with ``recompute=True``; or if what it computes again is another.
        """
        if not isinstance(run, Run):
            raise TypeError(f"run is {type(run).__name__}: expected what forward returned")
        backend, cell = self.backend, self.cell
        check_run(self.architecture, backend, run)
        d_output = checks.array("d_output", d_output, backend, tuple(run.output.shape))
        batch = run.tape.x.shape[1]
        if d_state is None:
            d_state = self._zero_state(batch)
        else:
            shape = self.architecture.state_shape(batch)
            d_state = check_state("d_state", d_state, backend, cell, shape)
        d_output = gradient_within(run.tape, d_output)
        window = check_window(window)
        if window is not None:
            check_whole("run", run.tape.recomputes, window)
        factored = checks.boolean("factored", factored)
        return backward(self._parameters, run.tape, d_output, d_state, window, factored=factored)

    def value_and_grad(
        self,
        x: Array,
        target: Array,
        loss: str | Loss = "squared_error",
        state: Arrays | None = None,
        lengths: Sequence[int] | None = None,
        window: int | None = None,
        *,
        rng: Seed = None,
        recompute: bool = False,
        factored: bool = False,
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
            Beyond a sequence's end there is no loss, whatever the target holds there, and a mean is
            over the steps that exist.
        window : int, optional
            See `backward`.
        rng : int, numpy.random.Generator or None
            See `forward`.
        recompute : bool
            See `forward`; not together with a window.
        factored : bool
            See `backward`.

        Returns
        -------
        value : array, zero-dimensional
            Of the loss; ``float(value)`` brings it to the host.
        gradient : Gradient
        """
        value, gradient, _ = self.loss_and_grad(
            x,
            target,
            get_loss(loss),
            state,
            window,
            lengths,
            rng=rng,
            recompute=recompute,
            factored=factored,
        )
        return value, gradient

    def loss_and_grad(
        self,
        x: Array,
        target: Array,
        loss: Loss,
        state: Arrays | None = None,
        window: int | None = None,
        lengths: Sequence[int] | None = None,
        *,
        rng: Seed = None,
        recompute: bool = False,
        factored: bool = False,
    ) -> tuple[Array, Gradient, Arrays]:
        """`value_and_grad`, and the final state, which the next chunk of a sequence starts from."""
        window = check_window(window)
        recompute = check_recompute(recompute, window)
        factored = checks.boolean("factored", factored)
        x, initial, checked = self._check_input(x, state, lengths)
        steps, batch = x.shape[:2]
        # The loss does not see the final state; zeros are there if nobody gave an initial one.
        d_state = initial if state is None else self._zero_state(batch)
        shape = self.architecture.output_shape(steps, batch)
        target = loss.check(shape, target, self.backend)
        output, final, tape = self._forward(
            x, initial, checked, save=True, rng=rng, recompute=recompute
        )
        valid = tape.valid if self.returns == "sequence" else None
        # Without a readout the output is part of the tape, and can't be given up.
        mine = self.output_size is not None
        value, d_output = loss.value_and_grad(output, target, *where_valid(valid), overwrite=mine)
        del output  # as large as a long sequence
        gradient = backward(self._parameters, tape, d_output, d_state, window, factored=factored)
        return value, gradient, final

    def to(
        self,
        backend: str | Backend,
        device: Device | None = None,
        dtype: str | DType | None = None,
    ) -> "RNN":
        """Return the same network on another backend; this one stays as it is.

        Parameters
        ----------
        backend : str or Backend
        device : optional
        dtype : optional
            None: this network's.

        Raises
        ------
        ValueError, ImportError, RuntimeError
            See `get_backend`.
        """
        if dtype is None and not isinstance(backend, Backend):
            dtype = self.backend.dtype_name
        # Copies, because a host array may share the memory of this network's.
        arrays = {name: array.copy() for name, array in self._host_parameters().items()}
        made = get_backend(backend, device, dtype)
        rng = copy.deepcopy(self.rng)
        return RNN.assembled(self.architecture, made, arrays, self.metadata, rng)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write configuration, parameters and metadata to a safetensors file.

        The file is complete or not there: it is written under another name and then renamed.

        Raises
        ------
        TypeError, ValueError
            If the metadata is no dict of plain JSON data, or holds NaN or infinity.
        OSError
            If the file can't be written.
        """
        if not isinstance(self.metadata, dict):
            raise TypeError(f"metadata is {type(self.metadata).__name__}: expected a dict")
        config = self.architecture.config() | {
            "dtype": self.backend.dtype_name,
            "metadata": self.metadata,
        }
        write_model(path, self._host_parameters(), config)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        backend: str | Backend = "numpy",
        device: Device | None = None,
        dtype: str | DType | None = None,
        cell: Cell | None = None,
    ) -> "RNN":
        """Read a network that `save` wrote.

        Parameters
        ----------
        path : path
        backend, device, dtype : optional
            Where the network is to compute; the dtype is that of the file unless given.
        cell : Cell, optional
            Needed if, and only if, the network was saved with a cell that is not part of xprnn.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a model of xprnn, is cut off, is of another version, or needs ``cell``.
        """
        arrays, config = read_model(path)
        if cell is not None:
            get_cell(cell)
        # A faulty file is told from faulty arguments, so the backend is opened where no error of
        # its own is caught.
        if dtype is None and not isinstance(backend, Backend):
            dtype = config.get("dtype")
        made = get_backend(backend, device, dtype)
        try:
            _ = config["dtype"]
            architecture = Architecture.from_config(config, cell)
            return cls.assembled(architecture, made, arrays, config["metadata"])
        except (KeyError, TypeError) as error:
            reason = error.args[0] if error.args else error
            raise ValueError(f"{str(path)!r} holds no complete network: {reason}") from error

    def _check_input(
        self, x: Array, state: Arrays | None, lengths: Sequence[int] | None
    ) -> tuple[Array, Arrays, tuple[int, ...] | None]:
        backend, shape_of = self.backend, self.architecture.state_shape
        check = check_input if self.embedding_size is None else check_tokens
        x = check("x", x, backend, self.input_size)
        if x.ndim == 3:
            checks.finite("x", x, backend)
        steps, batch = x.shape[:2]
        checked = check_lengths(lengths, steps, batch)
        if state is None:
            return x, self._zero_state(batch), checked
        state = check_state("state", state, backend, self.cell, shape_of(batch))
        for k, part in enumerate(state):
            checks.finite(f"state[{k}]", part, backend)
        return x, state, checked

    def _zero_state(self, batch: int) -> Arrays:
        return zero_state(self.backend, self.cell, self.architecture.state_shape(batch))

    def _forward(
        self,
        x: Array,
        state: Arrays,
        lengths: tuple[int, ...] | None,
        *,
        save: bool,
        rng: Seed = None,
        recompute: bool = False,
    ) -> Run:
        drawn = None
        if save:
            drawn = self.rng if rng is None else generator(rng)
        return forward(
            self.architecture,
            self.backend,
            self._parameters,
            x,
            state,
            lengths,
            save=save,
            recompute=recompute,
            rng=drawn,
        )

    def _host_parameters(self) -> dict[str, HostArray]:
        return {name: self.backend.to_numpy(array) for name, array in self._parameters.items()}
