"""Ensembles: several networks merged into one, whose output is the mean of theirs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from xprnn.backend.host.arrays import HostArray, np
from xprnn.cells import has_layer_norm, has_recurrent_matrix
from xprnn.engine.network import RNN
from xprnn.engine.recurrent import formed


def merge(nets: Sequence[RNN]) -> RNN:
    """Return an ensemble as one network, whose output is the mean of the networks' outputs.

    The state of the merged network is their states side by side, so W and b are stacked gate by
    gate, U is block-diagonal, and the readout divides by the number of networks; projections become
    part of both, and heads of U.  The result is an ordinary network, which can be saved, moved and
    trained further.  The mean of networks that differ only in their initial weights forecasts
    better than most of them, because their errors partly cancel.

    Parameters
    ----------
    nets : sequence of RNN
        At least one, each with a readout.  Several must each have one layer in one direction, and
        may differ only in weights, hidden size, projection and heads.

    Returns
    -------
    RNN

    Raises
    ------
    ValueError
        If there is no network, a network has no readout, or the networks differ in more than
        weights and hidden size.

    References
    ----------
    L. K. Hansen and P. Salamon, "Neural network ensembles", IEEE PAMI 12 (1990), 993-1001.

    Examples
    --------
    >>> import numpy as np
    >>> nets = [RNN(1, 4, 1, dtype="float64", rng=seed) for seed in range(3)]
    >>> x = np.ones((5, 2, 1))
    >>> bool(np.allclose(merge(nets)(x)[0], np.mean([net(x)[0] for net in nets], axis=0)))
    True
    """
    if not nets:
        raise ValueError("nets is empty: expected at least one network")
    first = nets[0]
    for k, net in enumerate(nets):
        if net.output_size is None:
            raise ValueError(f"nets[{k}] has no readout, so its output can't be averaged: {net}")
        if len(nets) > 1 and not _is_plain(net):
            raise ValueError(
                f"nets[{k}] is {net}: expected one layer in one direction, without embedding and "
                "without layer normalisation"
            )
        for name, mine, theirs in _compared(net, first):
            if mine != theirs:
                raise ValueError(
                    f"nets[{k}].{name} is {mine}, nets[0].{name} is {theirs}: "
                    "only weights and hidden size may differ"
                )
    backend, gates, hidden = (
        first.backend,
        first.cell.gates,
        [net.architecture.width for net in nets],
    )
    if len(nets) == 1:
        copies = {k: backend.to_numpy(p).copy() for k, p in first.parameters.items()}
        return RNN.assembled(first.architecture, backend, copies)
    host = [_written_out(net) for net in nets]
    arrays = {
        "weight_ih_l0": _by_gate([p["weight_ih_l0"] for p in host], gates),
        "readout.weight": np.concatenate([p["readout.weight"] for p in host], axis=1) / len(nets),
    }
    if has_recurrent_matrix(first.cell):
        arrays["weight_hh_l0"] = _block_diagonal([p["weight_hh_l0"] for p in host], gates)
    if first.bias:
        arrays["bias_l0"] = _by_gate([p["bias_l0"] for p in host], gates)
        arrays["readout.bias"] = np.mean([p["readout.bias"] for p in host], axis=0)
    for name in first.architecture.units():
        arrays[f"{name}_l0"] = np.concatenate([p[f"{name}_l0"] for p in host])
    architecture = replace(first.architecture, hidden_size=sum(hidden), projection=None, heads=1)
    return RNN.assembled(architecture, backend, arrays)


ALIKE = (
    "input_size",
    "output_size",
    "cell",
    "bias",
    "returns",
    "dropout",
    "recurrent_dropout",
)


def _compared(net: RNN, first: RNN) -> Iterator[tuple[str, object, object]]:
    """Yield what must be the same of both networks: its name and their values."""
    for name in ALIKE:
        yield name, getattr(net.architecture, name), getattr(first.architecture, name)
    yield "backend", net.backend, first.backend


def _is_plain(net: RNN) -> bool:
    """Whether U, W and b of one layer in one direction are all that comes before the readout."""
    return not (
        net.layers > 1 or net.bidirectional or net.embedding_size or has_layer_norm(net.cell)
    )


def _written_out(net: RNN) -> dict[str, HostArray]:
    """Return the parameters of the same network without projection and heads."""
    backend, found = net.backend, dict(net.parameters)
    P = found.pop("weight_hr_l0", None)
    if net.architecture.forms_recurrent:
        found["weight_hh_l0"] = formed(backend, found["weight_hh_l0"], P, net.heads)
    if P is not None:
        found["readout.weight"] = backend.library.product(found["readout.weight"], P)
    return {name: backend.to_numpy(array) for name, array in found.items()}


def _by_gate(parts: Sequence[HostArray], gates: int) -> HostArray:
    """Stack (G·H₁, ...), (G·H₂, ...), ... to (G·ΣH, ...), gate by gate."""
    blocks = [part.reshape(gates, -1, *part.shape[1:]) for part in parts]
    joined = np.concatenate(blocks, axis=1)
    return joined.reshape(-1, *parts[0].shape[1:])


def _block_diagonal(parts: Sequence[HostArray], gates: int) -> HostArray:
    """Return U of the merged network: each network's U (G·H, H) on the diagonal of every gate."""
    total, start, columns = sum(part.shape[1] for part in parts), 0, []
    for part in parts:
        hidden = part.shape[1]
        wide = np.zeros((part.shape[0], total), dtype=part.dtype)
        wide[:, start : start + hidden] = part
        columns.append(wide)
        start += hidden
    return _by_gate(columns, gates)
