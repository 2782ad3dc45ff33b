"""State dicts of ``torch.nn.RNN``, ``torch.nn.GRU`` and ``torch.nn.LSTM``, without torch.

A layer of torch has two biases, b_ih beside W x and b_hh beside U h.  Here it has one, because the
two occur only as their sum.  The exception is the candidate n of the GRU, where the reset gate
stands between them::

    b = b_ih + b_hh                                     (1)   all gates but n
    b = b_ih,  b_hn = b_hh                              (2)   n

`to_state_dict` writes b as b_ih and zeros as b_hh (for n: b_hn), so `from_state_dict` gives the
same bits again.  The weights have the same shapes in both, (G·H, I) and (G·H, H), and the same
order of gates.
"""

from collections.abc import Mapping
from typing import Any

from xprnn.backend import Backend, get_backend
from xprnn.backend.host.arrays import HostArray, Seed, np
from xprnn.backend.host.floats import host_float
from xprnn.backend.types import Device, DType
from xprnn.cells import Cell
from xprnn.engine.network import RNN
from xprnn.interop.torch.state_dict import (
    Names,
    architecture_of,
    check_cell,
    check_projection,
    host_arrays,
)


def to_state_dict(
    net: RNN,
    *,
    rnn: str = "",
    readout: str | None = "readout",
    embedding: str | None = "embedding",
) -> dict[str, HostArray]:
    """Return a network's parameters under torch's names.

    Parameters
    ----------
    net : RNN
        On any backend.
    rnn : str
        The name of the ``torch.nn.RNN``, ``GRU`` or ``LSTM`` in the torch module: the prefix of its
        parameters' names, with or without the dot.  ``""``: it is the module itself.
    readout, embedding : str or None
        The names of the ``torch.nn.Linear`` behind it and of the ``torch.nn.Embedding`` before it,
        if the network has them.  None: leave the parameters out.

    Returns
    -------
    dict of host array
        Copies, in the network's dtype (bfloat16 in float32), in the order of the torch module's own
        state dict.  Torch takes ``{name: torch.from_numpy(a) for name, a in state.items()}``.

    Raises
    ------
    TypeError
        If ``net`` is not a network, or a name not a string.
    ValueError
        If torch has no such cell, two parts have the same name, layers differ in size, there are
        residual connections or heads, or there is a projection and the cell is no LSTM.

    Notes
    -----
    Torch trains both biases.  Each gets the gradient that b gets here, so their sum moves twice as
    far.  To train as here, freeze ``bias_hh`` (in a GRU, except its part of n).

    A state dict does not hold dropout and ``returns``.

    Examples
    --------
    >>> net = RNN(3, 5, 2, cell="lstm", rng=0)
    >>> for name, array in to_state_dict(net, rnn="lstm", readout="head").items():
    ...     print(name, array.shape)
    lstm.weight_ih_l0 (20, 3)
    lstm.weight_hh_l0 (20, 5)
    lstm.bias_ih_l0 (20,)
    lstm.bias_hh_l0 (20,)
    head.weight (2, 5)
    head.bias (2,)
    """
    if not isinstance(net, RNN):
        raise TypeError(f"net is {type(net).__name__}: expected an RNN")
    check_cell(net.cell)
    names = Names.checked(rnn, readout, embedding)
    # Copies, because a host array may be read-only, or the parameter itself.
    host = {k: np.array(net.backend.to_numpy(a), order="C") for k, a in net.parameters.items()}
    a = net.architecture
    check_projection(a.cell, a.projection)
    if a.heads > 1:
        raise ValueError(f"heads is {a.heads}: torch's layers have none; expected 1")
    if isinstance(a.hidden_size, tuple) or (a.residual and a.layers > 1):
        raise ValueError(
            f"hidden_size is {a.hidden_size}, residual is {a.residual}: the layers of a "
            "torch.nn.RNN, GRU or LSTM have one size, and no residual connections"
        )
    state: dict[str, HostArray] = {}
    for name, array in host.items():
        theirs = names.of(name)
        if len(theirs) == 2:
            b_hn = host.get(_bias_hn(name), array[:0])
            zero = np.zeros(len(array) - len(b_hn), array.dtype)
            state |= zip(theirs, (array, np.concatenate([zero, b_hn])), strict=True)  # (1), (2)
        else:
            state |= dict.fromkeys(theirs, array)
            if name == net.architecture.readout_weight != "readout.weight":
                state |= {tied: array.copy() for tied in names.of("readout.weight")}
    return state


def from_state_dict(
    state_dict: Mapping[str, Any],
    *,
    cell: str | Cell | None = None,
    rnn: str = "",
    readout: str | None = "readout",
    embedding: str | None = "embedding",
    returns: str = "sequence",
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    tied: bool = False,
    backend: str | Backend = "numpy",
    device: Device | None = None,
    dtype: str | DType | None = None,
    rng: Seed = None,
) -> RNN:
    """Return a network with the weights of a torch module.

    Sizes, layers, directions, biases, readout and embedding follow from names and shapes.

    Parameters
    ----------
    state_dict : mapping of str to array
        ``module.state_dict()``, with torch tensors on any device, or with arrays of NumPy or of
        another library.
    cell : str or Cell, optional
        None: the number of gates decides, 1 for ``"elman"`` with tanh, 3 for ``"gru"``, 4 for
        ``"lstm"``.  A ``torch.nn.RNN`` with ``nonlinearity="relu"`` needs
        ``xprnn.cells.Elman("relu")``, because its weights look the same.
    rnn, readout, embedding : str or None
        The names of the modules; see `to_state_dict`.  If the state dict has no ``"readout"`` or
        ``"embedding"``, the network has none either; any other name must be in the state dict.
    returns, dropout, recurrent_dropout
        See `RNN`; a state dict does not hold them.
    tied : bool
        Whether embedding and readout share one weight, which the state dict has under both names.
    backend, device, dtype : optional
        Where the network computes; the default dtype is that of the state dict.
    rng : int, numpy.random.Generator or None
        The source of the network's dropout masks.

    Returns
    -------
    RNN
        Its parameters are copies of the state dict's arrays.

    Raises
    ------
    KeyError
        If entries are missing, or there are entries that do not belong to the network; the message
        names them.
    TypeError
        If ``state_dict`` is not a mapping of names to arrays of floats.
    ValueError
        If an entry has the wrong shape, tied weights differ, there are projections
        (``proj_size``) and the cell is no LSTM, the cell has another number of gates, or torch has
        no such cell.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shapes = {"weight_ih_l0": (15, 3), "weight_hh_l0": (15, 5)}
    >>> net = from_state_dict({name: rng.normal(size=shape) for name, shape in shapes.items()})
    >>> net
    RNN(3, 5, None, cell=GRU(), bias=False, returns='sequence', backend='numpy', device='cpu',
    dtype='float64')

    To load weights into an existing network:

    >>> net.parameters = from_state_dict(to_state_dict(net), backend=net.backend).parameters
    """
    names = Names.checked(rnn, readout, embedding)
    state = host_arrays(state_dict)
    architecture = architecture_of(
        state,
        names,
        cell,
        returns=returns,
        dropout=dropout,
        recurrent_dropout=recurrent_dropout,
        tied=tied,
    )
    if dtype is None and not isinstance(backend, Backend):
        dtype = np.result_type(*state.values()).name
    made = get_backend(backend, device, dtype)
    # Biases are added in the wider precision, and rounded once.
    wide = np.result_type(host_float(made.dtype_name), *state.values())
    shapes, arrays = architecture.shapes(), {}
    for name in shapes:
        theirs = [state[their] for their in names.of(name)]
        if len(theirs) == 2:
            b_ih, b_hh = theirs
            separate = architecture.width if _bias_hn(name) in shapes else 0
            arrays[name] = _sum_of_biases(b_ih.astype(wide), b_hh.astype(wide), separate)
            if separate:
                arrays[_bias_hn(name)] = b_hh[-separate:]
        elif theirs:
            (arrays[name],) = theirs
    return RNN.assembled(architecture, made, arrays, rng=rng)


def _bias_hn(bias: str) -> str:
    """Return the name of b_hn beside this b."""
    return bias.replace("bias_", "bias_hn_")


def _sum_of_biases(b_ih: HostArray, b_hh: HostArray, separate: int) -> HostArray:
    """Return b; the last ``separate`` entries of b_hh are b_hn."""
    added = b_hh.copy()
    added[len(added) - separate :] = 0  # (2)
    # Not b_ih + 0, which turns -0 into 0.
    b: HostArray = np.where(added == 0, b_ih, b_ih + added)  # (1)
    return b
