"""The operands of ONNX's nodes RNN, GRU and LSTM, and the parameters of a layer.

Shapes are those of ONNX: D directions, W (D, G·H, I), R (D, G·H, H), B (D, 2·G·H): the biases of
the input's product, then those of the state's; P (D, 3·H).  Here a gate has one bias, except the
candidate n of the GRU, where the reset gate stands between the two (unless it comes before the
product, as in `GRUResetBefore`)::

    b = b_input + b_state                               (1)   all gates but n
    b = b_input,  b_hn = b_state                        (2)   n

`operands_of` writes b as b_input and zeros as b_state (for n: b_hn), so `parameters_of` gives the
same bits again.
"""

from collections.abc import Mapping, Sequence

from xprnn.backend.host.arrays import HostArray, np
from xprnn.cells import GRU, LSTM, Cell, Elman, GRUResetBefore, unit_names

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}

ORDER = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}
"""Which of a node's gates each of ours is: r z n among z r h, and i f g o among i o f c."""

PEEPHOLES = (0, 2, 1)
"""The same of the peepholes: i f o among i o f."""

ACTIVATIONS = {"tanh": "Tanh", "logistic": "Sigmoid", "relu": "Relu"}
"""By name here, the activations of RNN."""

USUAL = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
"""The activations of each node that are its defaults."""


def node_of(cell: Cell) -> tuple[str, dict[str, object]] | None:
    """Return the node that computes what a cell does, and its attributes; None if there is none."""
    if type(cell) is Elman and isinstance(cell.activation, str) and cell.activation in ACTIVATIONS:
        return "RNN", {"activations": [ACTIVATIONS[cell.activation]]}
    if type(cell) is GRU:
        return "GRU", {"linear_before_reset": 1}
    if type(cell) is GRUResetBefore:
        return "GRU", {"linear_before_reset": 0}
    if type(cell) is LSTM and not cell.layer_norm:
        return "LSTM", {}
    return None


def operands_of(kind: str, directions: Sequence[Mapping[str, HostArray]]) -> dict[str, HostArray]:
    """Return W, R, B and P of a layer, of those that it has.

    Parameters
    ----------
    kind : {"RNN", "GRU", "LSTM"}
    directions : sequence of mapping
        Each direction's parameters, by their names without the ending: ``"weight_ih"``, ...
    """
    each = [_direction_operands(kind, parameters) for parameters in directions]
    return {name: np.stack([operands[name] for operands in each]) for name in each[0]}


def _direction_operands(kind: str, parameters: Mapping[str, HostArray]) -> dict[str, HostArray]:
    order = np.argsort(ORDER[kind]).tolist()
    operands = {
        "W": _ordered(parameters["weight_ih"], order),
        "R": _ordered(parameters["weight_hh"], order),
    }
    if "bias" in parameters:
        b = parameters["bias"]
        of_state = np.zeros_like(b)
        if "bias_hn" in parameters:
            of_state[-len(b) // 3 :] = parameters["bias_hn"]  # (2)
        operands["B"] = np.concatenate([_ordered(b, order), _ordered(of_state, order)])
    if "peephole_i" in parameters:
        blocks = [parameters[name] for name in unit_names(LSTM(peepholes=True))]
        operands["P"] = _ordered(np.concatenate(blocks), np.argsort(PEEPHOLES).tolist())
    return operands


def parameters_of(
    kind: str, operands: Mapping[str, HostArray], k: int, cell: Cell
) -> dict[str, HostArray]:
    """Return the parameters of direction k, by their names without the ending."""
    order = ORDER[kind]
    parameters = {
        "weight_ih": _ordered(operands["W"][k], order),
        "weight_hh": _ordered(operands["R"][k], order),
    }
    if "B" in operands:
        of_input, of_state = (_ordered(half, order) for half in np.split(operands["B"][k], 2))
        if type(cell) is GRU:
            parameters["bias_hn"] = of_state[-len(of_state) // 3 :].copy()  # (2)
            of_state[-len(of_state) // 3 :] = 0
        # Not b + 0, which turns -0 into 0.
        parameters["bias"] = np.where(of_state == 0, of_input, of_input + of_state)  # (1)
    if "P" in operands:
        blocks = np.split(_ordered(operands["P"][k], PEEPHOLES), 3)
        parameters |= zip(unit_names(LSTM(peepholes=True)), blocks, strict=True)
    return parameters


def spread(U: HostArray, heads: int) -> HostArray:
    """Return the recurrent matrix (G·H, H) of a layer with heads, given U (G·H, H/n)."""
    K = U.shape[1]
    M = np.zeros((len(U) // (heads * K), heads, K, heads, K), U.dtype)
    each = np.arange(heads)
    M[:, each, :, each, :] = U.reshape(-1, heads, K, K).swapaxes(0, 1)
    return M.reshape(len(U), heads * K)


def gathered(M: HostArray, heads: int) -> HostArray:
    """Return U (G·H, H/n), given the recurrent matrix (G·H, H) of a layer with heads."""
    K = M.shape[1] // heads
    each = np.arange(heads)
    blocks = M.reshape(-1, heads, K, heads, K)[:, each, :, each, :].swapaxes(0, 1)
    return np.ascontiguousarray(blocks).reshape(len(M), K)


def _ordered(a: HostArray, order: Sequence[int]) -> HostArray:
    """Return an array's blocks of rows, one per gate, in another order."""
    blocks = np.split(a, len(order))
    return np.concatenate([blocks[k] for k in order])
