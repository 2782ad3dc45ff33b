"""The recurrent network: parameters, a recurrent layer, a readout; forward and backward."""

import copy
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from xprnn import checks
from xprnn.backend import Backend, get_backend
from xprnn.backend.host import Generator, HostArray, Seed, generator, np
from xprnn.backend.types import Array, Device, DType
from xprnn.bptt import (
    Tape,
    Weights,
    check_input,
    check_state,
    check_window,
    run_layer,
    run_layer_backward,
    zero_state,
)
from xprnn.cells import Arrays, Cell, cell_config, cell_from_config, get_cell
from xprnn.initializers import Initializer, get_initializer
from xprnn.interop.safetensors import read_model, write_model
from xprnn.losses import Loss, get_loss
from xprnn.parameters import Parameters
from xprnn.readout import read_out, read_out_backward
from xprnn.sparse import GradientArray

RETURNS = ("sequence", "last")


class Run(NamedTuple):
    """A forward pass.

    Attributes
    ----------
    output : array
        (T, B, O), or (B, O) if the network returns the last output only; without a readout O = H.
    state : tuple of array, (1, B, H) each
        The final state.
    tape : Tape
        What `RNN.backward` needs.
    """

    output: Array
    state: Arrays
    tape: Tape


class Gradient(NamedTuple):
    """The gradients of a loss.

    Attributes
    ----------
    parameters : dict of array
        Of the names and shapes of the network's parameters; that of W is a
        `xprnn.sparse.SparseGradient` if the input was integers.
    input : array, (T, B, I), or None
        None if the input was integers.
    state : tuple of array, (1, B, H) each
        Of the initial state.
    """

    parameters: dict[str, GradientArray]
    input: Array | None
    state: Arrays


class RNN:
    """A recurrent network with explicit gradients.

    ::

        h(t) = cell(W x(t) + b, U h(t-1))
        y(t) = R h(t) + r

    Arrays are time-major: x is (T, B, I), y is (T, B, O), for T steps, B sequences, I inputs, H
    hidden units and O outputs.  An x of integers, (T, B), stands for one-hot vectors of length I,
    which are never made.  The state is explicit, passed in and returned, never kept.

    Parameters
    ----------
    input_size, hidden_size : int
        I and H.
    output_size : int, optional
        O.  None: no readout, the output is h.
    cell : str or Cell
        ``"elman"``, or an instance such as ``xprnn.cells.Elman("logistic")``.
    bias : bool
        Whether there are b and r.
    returns : {"sequence", "last"}
        The outputs of all steps, or of the last one.
    backend : str or Backend
        See `get_backend`.
    device, dtype : optional
        See `get_backend`.  Everything is computed in this dtype: floats of another precision are
        cast to it when they enter.
    rng : int, numpy.random.Generator or None
        Where the initial weights are drawn from; None for fresh ones at every call.
    initializer : str or Initializer
        ``"uniform"`` (in ±1/√n, n the number of incoming connections), ``"normal"``,
        ``"orthogonal"``, ``"zeros"``, or an instance of `xprnn.initializers`.

    Attributes
    ----------
    backend : Backend
    cell : Cell
    input_size, hidden_size, output_size, bias, returns
        As given.
    parameters : dict of array
        ``"weight_ih_l0"`` W (G·H, I), ``"weight_hh_l0"`` U (G·H, H), ``"bias_l0"`` b (G·H,),
        ``"readout.weight"`` R (O, H), ``"readout.bias"`` r (O,); G is the cell's number of gates.
        Assignable, one by one or all at once.
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
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        *,
        cell: str | Cell = "elman",
        bias: bool = True,
        returns: str = "sequence",
        backend: str | Backend = "numpy",
        device: Device | None = None,
        dtype: str | DType | None = None,
        rng: Seed = None,
        initializer: str | Initializer = "uniform",
    ) -> None:
        self.input_size = checks.positive_int("input_size", input_size)
        self.hidden_size = checks.positive_int("hidden_size", hidden_size)
        self.output_size = (
            None if output_size is None else checks.positive_int("output_size", output_size)
        )
        self.cell = get_cell(cell)
        self.bias = bool(bias)
        self.returns = checks.choice("returns", returns, RETURNS)
        self.backend = get_backend(backend, device, dtype)
        self.metadata: dict[str, Any] = {}
        draw, random = get_initializer(initializer), generator(rng)
        self.parameters = {
            name: self.backend.asarray(self._draw(draw, random, name, shape))
            for name, shape in self._shapes().items()
        }

    def __repr__(self) -> str:
        return (
            f"RNN({self.input_size}, {self.hidden_size}, {self.output_size}, cell={self.cell}, "
            f"bias={self.bias}, returns={self.returns!r}, backend={self.backend.name!r}, "
            f"device={str(self.backend.device)!r}, dtype={self.backend.dtype_name!r})"
        )

    @property
    def parameters(self) -> Parameters:
        """The parameters by name; see the class."""
        return self._parameters

    @parameters.setter
    def parameters(self, arrays: Mapping[str, Array]) -> None:
        self._parameters = Parameters(self.backend, self._shapes(), arrays)

    def __call__(self, x: Array, state: Arrays | None = None) -> tuple[Array, Arrays]:
        """Return output and final state, without a tape: inference.

        Parameters
        ----------
        x : array, (T, B, I)
        state : tuple of array, (1, B, H) each, optional
            The initial state; None for zero.

        Returns
        -------
        output : array, (T, B, O) or (B, O)
        state : tuple of array, (1, B, H) each

        Raises
        ------
        TypeError
            If an array is not floating, or not of this network's backend.
        ValueError
            If an array has the wrong shape or device, is not finite, or has no steps.
        """
        run = self._forward(*self._check_input(x, state), save=False)
        return run.output, run.state

    def forward(self, x: Array, state: Arrays | None = None) -> Run:
        """Return output, final state, and the tape that `backward` needs.

        Parameters, shapes and errors are those of calling the network.  The tape refers to ``x``
        and to nothing else of the caller's: don't write into it before `backward`.
        """
        return self._forward(*self._check_input(x, state), save=True)

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
        d_state : tuple of array, (1, B, H) each, optional
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
            If a gradient has the wrong type, backend, dtype or shape.
        """
        if not isinstance(run, Run):
            raise TypeError(f"run is {type(run).__name__}: expected what forward returned")
        backend, cell = self.backend, self.cell
        d_output = checks.array("d_output", d_output, backend, tuple(run.output.shape))
        batch = run.tape.x.shape[1]
        if d_state is None:
            d_final = zero_state(backend, cell, (batch, self.hidden_size))
        else:
            shape = (1, batch, self.hidden_size)
            d_final = _bottom(check_state("d_state", d_state, backend, cell, shape))
        return self._backward(run, d_output, d_final, check_window(window))

    def value_and_grad(
        self,
        x: Array,
        target: Array,
        loss: str | Loss = "squared_error",
        state: Arrays | None = None,
        window: int | None = None,
    ) -> tuple[Array, Gradient]:
        """Return a loss and its gradients: `forward`, the loss, `backward`.

        Parameters
        ----------
        x : array, (T, B, I)
        target : array
            What the loss compares the output with; for squared error, of the output's shape.
        loss : str or Loss
        state : tuple of array, (1, B, H) each, optional
        window : int, optional
            See `backward`.

        Returns
        -------
        value : array, zero-dimensional
            Of the loss; ``float(value)`` brings it to the host.
        gradient : Gradient
        """
        value, gradient, _ = self.loss_and_grad(x, target, get_loss(loss), state, window)
        return value, gradient

    def loss_and_grad(
        self,
        x: Array,
        target: Array,
        loss: Loss,
        state: Arrays | None = None,
        window: int | None = None,
    ) -> tuple[Array, Gradient, Arrays]:
        """`value_and_grad`, and the final state, which the next chunk of a sequence starts from."""
        window = check_window(window)
        x, state = self._check_input(x, state)
        target = loss.check(self._output_shape(x), target, self.backend)
        run = self._forward(x, state, save=True)
        # Without a readout the output is part of the tape, and can't be given up.
        mine = self.output_size is not None
        value, d_output = loss.value_and_grad(run.output, target, overwrite=mine)
        d_final = zero_state(self.backend, self.cell, (x.shape[1], self.hidden_size))
        return value, self._backward(run, d_output, d_final, window), run.state

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
        config = self._config() | {"cell": self.cell}
        # Copies, because a host array may share the memory of this network's.
        arrays = {name: array.copy() for name, array in self._host_parameters().items()}
        return _assemble(config, arrays, get_backend(backend, device, dtype))

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
        write_model(path, self._host_parameters(), self._config())

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
        try:
            return _load(arrays, config, backend, device, dtype, cell)
        except (KeyError, TypeError) as error:
            reason = error.args[0] if error.args else error
            raise ValueError(f"{str(path)!r} holds no complete network: {reason}") from error

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        rows = self.cell.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih_l0": (rows, self.input_size),
            "weight_hh_l0": (rows, self.hidden_size),
        }
        if self.bias:
            shapes["bias_l0"] = (rows,)
        if self.output_size is not None:
            shapes["readout.weight"] = (self.output_size, self.hidden_size)
            if self.bias:
                shapes["readout.bias"] = (self.output_size,)
        return shapes

    def _draw(
        self, draw: Initializer, rng: Generator, name: str, shape: tuple[int, ...]
    ) -> HostArray:
        """Return a parameter's initial values, each gate's block drawn by itself."""
        fan_in = self.input_size if name == "weight_ih_l0" else self.hidden_size
        gates = 1 if name.startswith("readout.") else self.cell.gates
        block = (shape[0] // gates, *shape[1:])
        return np.concatenate([draw(rng, block, fan_in) for _ in range(gates)])

    def _weights(self) -> Weights:
        p = self._parameters
        return Weights(p["weight_ih_l0"], p["weight_hh_l0"], p.get("bias_l0"))

    def _check_input(self, x: Array, state: Arrays | None) -> tuple[Array, Arrays]:
        backend, hidden = self.backend, self.hidden_size
        x = check_input("x", x, backend, self.input_size)
        if x.ndim == 3:
            checks.finite("x", x, backend)
        batch = x.shape[1]
        if state is None:
            return x, zero_state(backend, self.cell, (batch, hidden))
        state = check_state("state", state, backend, self.cell, (1, batch, hidden))
        for k, part in enumerate(state):
            checks.finite(f"state[{k}]", part, backend)
        return x, _bottom(state)

    def _output_shape(self, x: Array) -> tuple[int, ...]:
        size = self.hidden_size if self.output_size is None else self.output_size
        steps, batch = x.shape[:2]
        return (batch, size) if self.returns == "last" else (steps, batch, size)

    def _forward(self, x: Array, state: Arrays, *, save: bool) -> Run:
        xp, p = self.backend.xp, self._parameters
        h, final, tape = run_layer(self.backend, self.cell, self._weights(), x, state, save=save)
        output = final[0] if self.returns == "last" else h
        if self.output_size is not None:
            output = read_out(xp, p["readout.weight"], p.get("readout.bias"), output)
        return Run(output, tuple(part[None, ...] for part in final), tape)

    def _backward(self, run: Run, d_output: Array, d_final: Arrays, window: int | None) -> Gradient:
        xp, p = self.backend.xp, self._parameters
        states = run.tape.trajectory.states
        gradients: dict[str, GradientArray] = {}
        dh = d_output
        if self.output_size is not None:
            h = states[0][-1, ...] if self.returns == "last" else states[0][1:, ...]
            readout = read_out_backward(xp, p["readout.weight"], p.get("readout.bias"), h, d_output)
            dh = readout.h
            gradients["readout.weight"] = readout.weight
            if readout.bias is not None:
                gradients["readout.bias"] = readout.bias
        if self.returns == "last":
            # The output is the final state, so its gradient enters there and at no step before.
            d_final, dh = (d_final[0] + dh, *d_final[1:]), None
        layer = run_layer_backward(self.cell, self._weights(), run.tape, dh, d_final, window)
        gradients["weight_ih_l0"] = layer.weights.W
        gradients["weight_hh_l0"] = layer.weights.U
        if layer.weights.b is not None:
            gradients["bias_l0"] = layer.weights.b
        return Gradient(
            {name: gradients[name] for name in p},
            layer.x,
            tuple(part[None, ...] for part in layer.state),
        )

    def _host_parameters(self) -> dict[str, HostArray]:
        return {name: self.backend.to_numpy(array) for name, array in self._parameters.items()}

    def _config(self) -> dict[str, Any]:
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "output_size": self.output_size,
            "cell": cell_config(self.cell),
            "bias": self.bias,
            "returns": self.returns,
            "dtype": self.backend.dtype_name,
            "metadata": self.metadata,
        }


def _bottom(state: Arrays) -> Arrays:
    """Return the state of the one layer there is, (B, H) each, from that of the network."""
    return tuple(part[0, ...] for part in state)


def _load(
    arrays: dict[str, HostArray],
    config: dict[str, Any],
    backend: str | Backend,
    device: Device | None,
    dtype: str | DType | None,
    cell: Cell | None,
) -> RNN:
    saved = config["cell"]
    if saved is None and cell is None:
        raise ValueError("the network was saved with a cell of the user's own: pass it as `cell`")
    if saved is not None and cell is not None:
        raise ValueError(f"the file says which cell it needs ({saved}): don't pass `cell`")
    if dtype is None and not isinstance(backend, Backend):
        dtype = config["dtype"]
    made = cell if saved is None else cell_from_config(saved)
    return _assemble(config | {"cell": made}, arrays, get_backend(backend, device, dtype))


def _assemble(config: dict[str, Any], arrays: dict[str, HostArray], backend: Backend) -> RNN:
    """Make a network from its configuration and parameters."""
    net = RNN(
        config["input_size"],
        config["hidden_size"],
        config["output_size"],
        cell=config["cell"],
        bias=config["bias"],
        returns=config["returns"],
        backend=backend,
        initializer="zeros",
    )
    net.parameters = {name: backend.asarray(array) for name, array in arrays.items()}
    net.metadata = copy.deepcopy(dict(config["metadata"]))
    return net
