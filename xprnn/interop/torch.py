"""State dicts of ``torch.nn.RNN``, ``torch.nn.GRU`` and ``torch.nn.LSTM``, without torch.

A layer has one bias here and two there, b_ih beside W x and b_hh beside U h, which only ever occur
as their sum; but for the candidate n of the GRU, where the reset gate stands between them::

    b = b_ih + b_hh                                     (1)   all gates but n
    b = b_ih,  b_hn = b_hh                              (2)   n

On the way to torch b becomes b_ih, and b_hh is zero (n: b_hn), so the way back gives the same bits.
Weights are the same arrays in both: (G·H, I) and (G·H, H), gates in the same order.
"""

from collections.abc import Mapping
from typing import Any

from xprnn.backend import Backend, get_backend
from xprnn.backend.host.arrays import HostArray, Seed, np
from xprnn.backend.types import Device, DType
from xprnn.cells import Cell
from xprnn.engine.network import RNN
from xprnn.interop.state_dict import Names, architecture_of, check_cell, host_arrays


def to_state_dict(
    net: RNN,
    *,
    rnn: str = "",
    readout: str | None = "readout",
    embedding: str | None = "embedding",
) -> dict[str, HostArray]:
    """Return a network's parameters by torch's names.

    Parameters
    ----------
    net : RNN
        On any backend.
    rnn : str
        The name, in the torch module, of the ``torch.nn.RNN``, ``GRU`` or ``LSTM``; ``""``: it is
        the module itself.  What comes before a parameter's own name, that is, with or without the
        dot.
    readout, embedding : str or None
        The same of the ``torch.nn.Linear`` behind it and of the ``torch.nn.Embedding`` before it,
        as far as the network has them.  None: leave its parameters out.

    Returns
    -------
    dict of host array
        Copies, in the network's dtype, in the order of the torch module's own state dict.  Torch
        takes ``{name: torch.from_numpy(a) for name, a in state.items()}``.

    Raises
    ------
    TypeError
        If ``net`` is no network, or a name no text.
    ValueError
        If torch has no such cell, or two parts are given one name.

    Notes
    -----
    Torch trains both biases.  Each gets the gradient that b gets here, so their sum moves twice as
    far: for the same training, leave ``bias_hh`` as it is (but its part of n in a GRU).

    Dropout, and what the network returns, are not part of a state dict.

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
    # Copies, because a host array may be the parameter itself, or read-only.
    host = {k: np.array(net.backend.to_numpy(a), order="C") for k, a in net.parameters.items()}
    state: dict[str, HostArray] = {}
    for name, array in host.items():
        theirs = names.of(name)
        if len(theirs) == 2:
            b_hn = host.get(_hn(name), array[:0])
            zero = np.zeros(len(array) - len(b_hn), array.dtype)
            state |= zip(theirs, (array, np.concatenate([zero, b_hn])), strict=True)  # (1), (2)
        else:
            state |= dict.fromkeys(theirs, array)
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
    backend: str | Backend = "numpy",
    device: Device | None = None,
    dtype: str | DType | None = None,
    rng: Seed = None,
) -> RNN:
    """Return a network with the weights of a torch module.

    Sizes, layers, directions, biases, readout and embedding follow from the names and shapes.

    Parameters
    ----------
    state_dict : mapping of str to array
        ``module.state_dict()``, of torch tensors on any device, or the same of arrays of NumPy or
        of another library.
    cell : str or Cell, optional
        None: by the number of gates, 1 for ``"elman"`` with tanh, 3 for ``"gru"``, 4 for
        ``"lstm"``.  A ``torch.nn.RNN`` with ``nonlinearity="relu"`` needs
        ``xprnn.cells.Elman("relu")``: its weights don't tell.
    rnn, readout, embedding : str or None
        What the modules are called; see `to_state_dict`.  Without ``"readout"`` or ``"embedding"``
        in the state dict the network has none either; one by another name must be there.
    returns, dropout, recurrent_dropout
        See `RNN`; a state dict does not hold them.
    backend, device, dtype : optional
        Where the network is to compute; the dtype is that of the state dict unless given.
    rng : int, numpy.random.Generator or None
        What draws the network's dropout masks.

    Returns
    -------
    RNN
        With arrays of its own: the state dict's are copied.

    Raises
    ------
    KeyError
        If entries are missing, or there are others than those of one network; all are named.
    TypeError
        If it is no mapping of names to arrays of floats.
    ValueError
        If an entry has the wrong shape, there are projections (``proj_size``), the number of gates
        is not the cell's, or torch has no such cell.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shapes = {"weight_ih_l0": (15, 3), "weight_hh_l0": (15, 5)}
    >>> net = from_state_dict({name: rng.normal(size=shape) for name, shape in shapes.items()})
    >>> net
    RNN(3, 5, None, cell=GRU(), bias=False, returns='sequence', backend='numpy', device='cpu',
    dtype='float64')

    The weights alone, for a network that is there:

    >>> net.parameters = from_state_dict(to_state_dict(net), backend=net.backend).parameters
    """
    names = Names.checked(rnn, readout, embedding)
    state = host_arrays(state_dict)
    architecture = architecture_of(
        state, names, cell, returns=returns, dropout=dropout, recurrent_dropout=recurrent_dropout
    )
    if dtype is None and not isinstance(backend, Backend):
        dtype = np.result_type(*state.values()).name
    made = get_backend(backend, device, dtype)
    # Sums are taken in the wider precision, and rounded once.
    wide = np.result_type(made.dtype_name, *state.values())
    shapes, arrays = architecture.shapes(), {}
    for name in shapes:
        theirs = [state[their] for their in names.of(name)]
        if len(theirs) == 2:
            b_ih, b_hh = theirs
            apart = architecture.hidden_size if _hn(name) in shapes else 0
            arrays[name] = _folded(b_ih.astype(wide), b_hh.astype(wide), apart)
            if apart:
                arrays[_hn(name)] = b_hh[-apart:]
        elif theirs:
            (arrays[name],) = theirs
    return RNN.assembled(architecture, made, arrays, rng=rng)


def _hn(bias: str) -> str:
    """Return what b_hn is called beside this b."""
    return bias.replace("bias_", "bias_hn_")


def _folded(b_ih: HostArray, b_hh: HostArray, apart: int) -> HostArray:
    """Return b; the last ``apart`` entries of b_hh are b_hn."""
    added = b_hh.copy()
    added[len(added) - apart :] = 0  # (2)
    # A bias of -0 would become another one by adding 0.
    folded: HostArray = np.where(added == 0, b_ih, b_ih + added)  # (1)
    return folded
