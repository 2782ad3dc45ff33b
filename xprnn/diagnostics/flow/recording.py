"""`GradientFlow`: a callback that measures how the gradient flows, over a training."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.quoting import quoted
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.diagnostics.flow.measuring import gradient_flow
from xprnn.diagnostics.flow.norms import change
from xprnn.diagnostics.flow.result import Flow
from xprnn.engine.architecture import layer_of
from xprnn.engine.network import RNN
from xprnn.losses import Loss


class FlowRecord(NamedTuple):
    """How the gradient flowed in an epoch, measured on its first batch, before the batch's update.

    Arrays are those of `Flow`, of the same names.

    Attributes
    ----------
    epoch : int
        From 1.
    loss : float
    norms, decay, reach, extent, saturation : array
    eigenvalues : array, (layers·D, G, H), complex, or None
        Of U.
    gradient_norms, weight_norms : array, (P,)
    update_ratios : array, (P,), or None
        How far each parameter moved in the whole epoch, divided by its norm before; None until the
        epoch is over.
    gradient_norm : float
        Of the gradients of all parameters together, before clipping.
    clip_norm : float or None
    nonfinite : str
        Where the first NaN or infinity arises; else empty.
    limited_norm : float or None
        The norm that ``clip_norm`` limited: the largest of the layers' or of the parameters' norms.
        None if that is ``gradient_norm``.
    """

    epoch: int
    loss: float
    norms: HostArray
    decay: HostArray
    reach: HostArray
    extent: HostArray
    saturation: HostArray
    eigenvalues: HostArray | None
    gradient_norms: HostArray
    weight_norms: HostArray
    update_ratios: HostArray | None
    gradient_norm: float
    clip_norm: float | None
    nonfinite: str
    limited_norm: float | None = None

    @property
    def clipped(self) -> bool:
        """Whether the gradient was scaled down to ``clip_norm``."""
        norm = self.gradient_norm if self.limited_norm is None else self.limited_norm
        return self.clip_norm is not None and not norm <= self.clip_norm


class GradientFlow:
    """A callback of `xprnn.fit` that records how the gradient flows over a training.

    It measures on the first batch of an epoch, with that batch's state, lengths, loss, window and
    dropout, before its update; the training's numbers are the same with and without it.  Its
    records are part of a checkpoint.

    Parameters
    ----------
    every : int
        Measure in epochs 1, 1 + every, 1 + 2 every, ...
    eigenvalues : bool
        Whether to compute those of U, too: for a large H that takes longer than everything else.
    bound : float
        See `gradient_flow`.

    Attributes
    ----------
    names : tuple of str
        Of the rows of the arrays: ``"layer 0"``, ...; empty before the first record.
    parameters : tuple of str
        The parameters' names.
    records : list of FlowRecord

    Examples
    --------
    >>> import xprnn
    >>> x, target = xprnn.data.sine(rng=0)
    >>> net = xprnn.RNN(1, 8, 1, dtype="float64", rng=0)
    >>> recorder = GradientFlow(every=10)
    >>> history = xprnn.fit(net, (x / 10, target), epochs=21, clip_norm=0.1, callbacks=[recorder])
    >>> [record.epoch for record in recorder.records]
    [1, 11, 21]
    >>> recorder.records[0].norms.shape, recorder.records[0].clipped
    ((1, 200), True)
    """

    def __init__(self, every: int = 1, *, eigenvalues: bool = True, bound: float = 0.1) -> None:
        self.every = checks.positive_int("every", every)
        self.eigenvalues = checks.boolean("eigenvalues", eigenvalues)
        self.bound = checks.number("bound", bound, below=1.0)
        self.names: tuple[str, ...] = ()
        self.parameters: tuple[str, ...] = ()
        self.records: list[FlowRecord] = []
        # The weights at the beginning of the epoch whose record is not complete.
        self._before: dict[str, Array] | None = None

    def watch(
        self,
        net: RNN,
        epoch: int,
        x: Array,
        target: Array,
        *,
        state: Arrays | None,
        lengths: Sequence[int] | None,
        loss: Loss,
        window: int | None,
        clip_norm: float | None,
        clip_by: str = "network",
        mask: Array | None = None,
    ) -> None:
        """Measure, if it is this epoch's turn; `xprnn.fit` calls it with an epoch's first batch."""
        if (epoch - 1) % self.every:
            return
        flow = gradient_flow(
            net,
            x,
            target,
            loss=loss,
            state=state,
            lengths=lengths,
            mask=mask,
            window=window,
            # A copy, which draws the masks that the step will draw.
            rng=copy.deepcopy(net.rng),
            bound=self.bound,
        )
        self.names, self.parameters = flow.names, flow.parameters
        self._before = dict(net.parameters)
        self.records.append(
            FlowRecord(
                epoch,
                math.nan if flow.loss is None else flow.loss,
                flow.norms,
                flow.decay,
                flow.reach,
                flow.extent,
                flow.saturation,
                flow.eigenvalues if self.eigenvalues else None,
                flow.gradient_norms,
                flow.weight_norms,
                None,
                flow.gradient_norm,
                clip_norm,
                flow.nonfinite,
                _limited(flow, clip_by) if clip_norm is not None else None,
            )
        )

    def __call__(self, net: RNN, record: object) -> None:
        """Complete the epoch's record with how far the weights moved."""
        del record
        if self._before is not None:
            moved = change(self._before, net.parameters)
            self.records[-1] = self.records[-1]._replace(update_ratios=moved)
            self._before = None

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {
            "names": list(self.names),
            "parameters": list(self.parameters),
            "records": [_packed(record) for record in self.records],
            "before": self._before,
        }

    def restore(self, state: Any) -> None:
        """Go back to a state.

        Raises
        ------
        ValueError
            If it is not the state of a `GradientFlow`.
        """
        try:
            names, parameters = tuple(state["names"]), tuple(state["parameters"])
            records = [_unpacked(each) for each in state["records"]]
            before = None if state["before"] is None else dict(state["before"])
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"the state of GradientFlow is damaged: {quoted(error)}") from error
        self.names, self.parameters = names, parameters
        self.records, self._before = records, before


def _limited(flow: Flow, by: str) -> float | None:
    """Return the largest norm of those that are limited, None if it is that of all gradients."""
    if by == "network":
        return None
    norms: dict[str, float] = {}
    for name, norm in zip(flow.parameters, flow.gradient_norms, strict=True):
        group = layer_of(name) if by == "layer" else name
        norms[group] = math.hypot(norms.get(group, 0.0), float(norm))
    # NaN is the largest of all, as no limit holds it.
    return max(norms.values(), key=lambda norm: (math.isnan(norm), norm))


def _packed(record: FlowRecord) -> dict[str, Any]:
    """Return a record as plain data; a checkpoint has no complex numbers."""
    packed = record._asdict()
    if record.eigenvalues is not None:
        packed["eigenvalues"] = [record.eigenvalues.real, record.eigenvalues.imag]
    return packed


def _unpacked(packed: Mapping[str, Any]) -> FlowRecord:
    record = FlowRecord(**packed)
    if record.eigenvalues is not None:
        real, imaginary = (np.asarray(part, dtype=np.float64) for part in record.eigenvalues)
        record = record._replace(eigenvalues=real + 1j * imaginary)
    for name in _ARRAYS:
        if not isinstance(getattr(record, name), np.ndarray):
            raise TypeError(f"{name} is {quoted(getattr(record, name))}: expected an array")
    if type(record.epoch) is not int or not isinstance(record.gradient_norm, float):
        raise TypeError(f"a record is {quoted(record)}: expected an epoch and a norm")
    return record


_ARRAYS = ("norms", "decay", "reach", "extent", "saturation", "gradient_norms", "weight_norms")
