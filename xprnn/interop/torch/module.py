"""A network as a ``torch.nn.Module``, whose backward pass is the network's own."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from xprnn import checks
from xprnn.backend.trees import Fixed, Same
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.architecture import Architecture
from xprnn.engine.gradients import dense
from xprnn.engine.network import RNN
from xprnn.interop.torch.exchange import backend_for, to_array, to_tensor

Tensor = torch.Tensor
States = tuple[Tensor, ...]


class Module(torch.nn.Module):
    """A network inside a torch model: it computes both passes, and torch trains it.

    Autograd records one node for the whole network.  Its forward pass is `RNN.forward` and its
    backward pass `RNN.backward`, so a cell of one's own trains between torch's layers with its
    explicit derivatives.  Tensors go in and out without a copy (DLPack).

    Parameters
    ----------
    net : RNN
        On NumPy, CuPy, torch, or any other library that exchanges arrays by DLPack.  The module
        starts with copies of its parameters, on its device.
    batch_first : bool
        Whether x and the output are (B, T, ...), as in torch's own modules, instead of (T, B, ...).
        A state is (layers·D, B, H) in both.

    Attributes
    ----------
    net : RNN
        The network with the weights that the module has now, in shared memory: to save it, say.

    Raises
    ------
    ImportError
        If torch is not installed.
    TypeError
        If ``net`` is not an `RNN`.

    Notes
    -----
    The parameters have the network's names, so ``state_dict()`` has them, too.  ``to``, ``cuda``,
    ``double`` and their kin move the module as any other; a network of NumPy's computes on CuPy
    where its parameters are on a CUDA device, and the other way round.

    Dropout is active while the module is in training mode; its masks follow from torch's random
    generator, and so from ``torch.manual_seed``.

    Gradients of gradients are refused, since the backward pass has no graph of its own; `RNN.hvp`
    gives products with the Hessian.

    Examples
    --------
    >>> import torch, xprnn
    >>> net = xprnn.RNN(8, 16, cell="gru", rng=0)
    >>> rnn = xprnn.interop.torch.Module(net)
    >>> encode, decode = torch.nn.Linear(3, 8), torch.nn.Linear(16, 1)
    >>> h, state = rnn(encode(torch.zeros(5, 2, 3)))
    >>> decode(h).square().mean().backward()
    >>> rnn.weight_hh_l0.grad.shape
    torch.Size([48, 16])
    """

    def __init__(self, net: RNN, *, batch_first: bool = False) -> None:
        super().__init__()
        if not isinstance(net, RNN):
            raise TypeError(f"net is {type(net).__name__}: expected an xprnn.RNN")
        self.batch_first = checks.boolean("batch_first", batch_first)
        self.architecture: Architecture = net.architecture
        self._library = net.backend.name
        self._metadata, self._rng = net.metadata, copy.deepcopy(net.rng)
        for name, array in net.parameters.items():
            # A name with a dot is a parameter of a child.
            *owners, last = name.split(".")
            owner: torch.nn.Module = self
            for part in owners:
                if part not in dict(owner.named_children()):
                    owner.add_module(part, torch.nn.Module())
                owner = owner.get_submodule(part)
            own = to_tensor(net.backend, array).detach().clone()
            owner.register_parameter(last, torch.nn.Parameter(own))

    @property
    def net(self) -> RNN:
        """The network with the module's weights of now, in shared memory."""
        return self._network(self.architecture, [p.detach() for p in self._ordered()])

    def extra_repr(self) -> str:
        """Return what ``print`` shows of the module."""
        return f"{self.net!r}, batch_first={self.batch_first}"

    # Dynamo would trace NumPy's functions as torch's, through which no gradient of ours would go.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(
        self,
        x: Tensor,
        state: States | Tensor | None = None,
        lengths: Sequence[int] | None = None,
        *,
        mask: Tensor | None = None,
        window: int | None = None,
        recompute: bool = False,
    ) -> tuple[Tensor, States]:
        """Return output and final state; see `RNN.forward`.

        Parameters
        ----------
        x : tensor, (T, B, I), or of integers, (T, B)
            With ``batch_first``, (B, T, I) or (B, T).
        state : tuple of tensor, (layers·D, B, H) each, optional
            The initial state; None for zero.  A cell with one state takes the tensor alone, too.
        lengths : sequence of int, optional
            The number of steps of each sequence.
        mask : tensor of bool, (T, B), optional
            Which steps exist, instead of lengths; with ``batch_first``, (B, T).  It is read on the
            host.  See `RNN.forward`.
        window : int, optional
            Of windowed truncation in the backward pass; see `RNN.backward`.
        recompute : bool
            Gradient checkpointing; see `RNN.forward`.

        Returns
        -------
        output : tensor, (T, B, O), or (B, O) if the network returns the last output only
        state : tuple of tensor, (layers·D, B, H) each

        Raises
        ------
        TypeError, ValueError
            If an argument is not what the network takes.
        """
        if isinstance(x, torch.nn.utils.rnn.PackedSequence):
            raise TypeError(
                "x is a PackedSequence: expected padded sequences and their lengths, as in "
                "x, lengths = torch.nn.utils.rnn.pad_packed_sequence(packed); rnn(x, None, lengths)"
            )
        if not isinstance(x, Tensor):
            raise TypeError(f"x is {type(x).__name__}: expected a tensor")
        if self.batch_first:
            if x.ndim < 2:
                raise ValueError(f"x has the shape {tuple(x.shape)}: expected (B, T, I) or (B, T)")
            x = x.transpose(0, 1)
        if mask is not None and x.ndim >= 2:
            mask = self._mask(mask, x)
        given = (state,) if isinstance(state, Tensor) else tuple(state or ())
        options = _Options(state is not None, lengths, mask, window, recompute)
        output, *final = _compute(self, options, x, *given)
        if self.batch_first and self.architecture.returns == "sequence":
            output = output.transpose(0, 1)
        return output, tuple(final)

    def _mask(self, mask: object, x: Tensor) -> Tensor:
        """Return a mask, (T, B), on the host if it was where x is."""
        if not isinstance(mask, Tensor):
            raise TypeError(f"mask is {type(mask).__name__}: expected a tensor of bool")
        steps, batch = x.shape[:2]
        shape = (batch, steps) if self.batch_first else (steps, batch)
        if tuple(mask.shape) != shape:
            raise ValueError(f"mask has the shape {tuple(mask.shape)}: expected {shape}")
        if mask.device == x.device:
            mask = mask.cpu()
        return mask.transpose(0, 1) if self.batch_first else mask

    def _ordered(self) -> list[torch.nn.Parameter]:
        """Return the parameters in the network's order."""
        return [self.get_parameter(name) for name in self.architecture.shapes()]

    def _network(self, architecture: Architecture, weights: Sequence[Tensor]) -> RNN:
        """Return a network that computes with these tensors, in their memory."""
        backend = backend_for(self._library, weights[0])
        fixed = Fixed(architecture, backend, Same(self._rng), Same(self._metadata))
        return RNN.unflattened(fixed, [to_array(backend, w) for w in weights])


class _Options(NamedTuple):
    """The arguments of a pass that are not tensors."""

    has_state: bool
    lengths: Sequence[int] | None
    mask: Tensor | None
    window: int | None
    recompute: bool


def _compute(module: Module, options: _Options, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
    """Return output and final state."""
    weights = module._ordered()
    _check_devices(weights[0].device, x, state)
    tensors = (x, *state, *weights)
    if torch.is_grad_enabled() and any(a.requires_grad for a in tensors):
        apply: Any = _Passes.apply
        found: tuple[Tensor, ...] = apply(module, options, len(state), *tensors)
        return found
    net, rng = _network_and_rng(module, weights)
    arrays, initial = _inputs(net, options, x, state)
    lengths, mask = options.lengths, options.mask
    if rng is None:
        output, final = net(arrays, initial, lengths, mask=mask)
    else:
        output, final, _ = net.forward(arrays, initial, lengths, rng=rng, mask=mask)
    return tuple(to_tensor(net.backend, a) for a in (output, *final))


class _Passes(torch.autograd.Function):
    """The node of the graph."""

    @staticmethod
    def forward(
        ctx: Any, module: Module, options: _Options, states: int, x: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        state, weights = others[:states], others[states:]
        net, rng = _network_and_rng(module, weights)
        arrays, initial = _inputs(net, options, x, state)
        run = net.forward(
            arrays,
            initial,
            options.lengths,
            rng=rng,
            recompute=options.recompute,
            mask=options.mask,
        )
        ctx.net, ctx.run, ctx.options, ctx.states = net, run, options, states
        # Torch then refuses a backward pass after one of them was written into.
        ctx.save_for_backward(x, *others)
        output, *final = (to_tensor(net.backend, a) for a in (run.output, *run.state))
        # Torch doesn't keep NumPy's promise not to write into the tape.
        return (output.clone() if run.tape.shares_output else output), *final

    @staticmethod
    def backward(ctx: Any, d_output: Tensor, *d_state: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            # With create_graph=True, which would take these gradients for constants.
            raise RuntimeError(
                "create_graph=True asks for gradients of gradients, which an xprnn network in a "
                "torch model does not have; RNN.hvp gives products with the Hessian"
            )
        net, options = ctx.net, ctx.options
        given = ctx.saved_tensors
        arrays = [to_array(net.backend, d) for d in (d_output, *d_state)]
        gradient = net.backward(ctx.run, arrays[0], tuple(arrays[1:]), options.window)
        found = [
            gradient.input,
            *gradient.state[: ctx.states],
            # By name, because JAX sorts them.
            *(dense(gradient.parameters[name]) for name in net.parameters),
        ]
        # Autocast, for one, computes x in another dtype than the weights have.
        tensors = [
            to_tensor(net.backend, g).to(a.dtype) if wanted else None
            for g, a, wanted in zip(found, given, ctx.needs_input_grad[3:], strict=True)
        ]
        return None, None, None, *tensors


def _check_devices(where: torch.device, x: Tensor, state: Sequence[Tensor]) -> None:
    for name, a in (("x", x), *((f"state[{k}]", h) for k, h in enumerate(state))):
        if not isinstance(a, Tensor):
            raise TypeError(f"{name} is {type(a).__name__}: expected a tensor")
        if a.device != where:
            raise ValueError(f"{name} is on {a.device}: expected {where}, where the module is")


def _network_and_rng(module: Module, weights: Sequence[Tensor]) -> tuple[RNN, int | None]:
    """Return the network, and the seed of its dropout masks if there is dropout."""
    architecture = module.architecture
    if not (architecture.dropout or architecture.recurrent_dropout):
        return module._network(architecture, weights), None
    if not module.training:
        architecture = replace(architecture, dropout=0.0, recurrent_dropout=0.0)
        return module._network(architecture, weights), None
    # Of torch's generator, so that its seed and its states decide.
    return module._network(architecture, weights), int(torch.randint(2**62, ()))


def _inputs(
    net: RNN, options: _Options, x: Tensor, state: Sequence[Tensor]
) -> tuple[Array, Arrays | None]:
    initial = tuple(to_array(net.backend, h) for h in state) if options.has_state else None
    return to_array(net.backend, x), initial
