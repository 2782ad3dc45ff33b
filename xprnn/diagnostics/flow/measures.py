"""The measures of a backward pass, and the passes that they need."""

import math
from functools import cached_property
from typing import Any

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.types import Array
from xprnn.cells import Arrays, recurrent_blocks
from xprnn.diagnostics.flow.norms import aligned, change, norm, norms_of
from xprnn.diagnostics.flow.passes import Lengths, Watched, watched, watched_from_last
from xprnn.diagnostics.flow.result import Flow, reach_of
from xprnn.engine.arguments import zero_state
from xprnn.engine.network import RNN
from xprnn.engine.nonfinite import first_in_forward, first_on_the_way_back
from xprnn.engine.results import NetworkTape, Run


class Measuring:
    """A tape, with what flows into it, and the measures of both.

    Parameters
    ----------
    net : RNN
    tape : NetworkTape
    d_output : array
        Of the output, zero in the padding.
    d_state : tuple of array, (layers·D, B, H) each, or None
        Of the final state.
    window : int or None
    bound : float
        See `Flow.saturation`.

    Attributes
    ----------
    d_final : tuple of array
        ``d_state``, zero if that is None.
    whole : Watched
        The backward pass of the whole gradient.
    """

    def __init__(
        self,
        net: RNN,
        tape: NetworkTape,
        d_output: Array,
        d_state: Arrays | None,
        window: int | None,
        bound: float,
    ) -> None:
        self.net, self.tape, self.window = net, tape, window
        self.d_output, self.d_state = d_output, d_state
        self.architecture, self.backend = tape.architecture, tape.backend
        self.steps, self.batch = tape.x.shape[:2]
        if d_state is None:
            shape = self.architecture.state_shape(self.batch)
            d_state = zero_state(self.backend, self.architecture.cell, shape)
        self.d_final = d_state
        self.whole = self._watched(None, bound)

    @cached_property
    def ends(self) -> HostArray:
        """The last step of each sequence, (B,), -1 if it has none."""
        if self.tape.valid is None:
            return np.full(self.batch, self.steps - 1)
        ends: HostArray = np.sum(self.backend.to_numpy(self.tape.valid)[..., 0], axis=0) - 1
        return ends

    @cached_property
    def losses(self) -> HostArray:
        """At which steps a gradient enters, (T, B) of bool."""
        losses = np.zeros((self.steps, self.batch), bool)
        if self.architecture.returns == "sequence":
            enters = ~self.backend.xp.all(self.d_output == 0, axis=-1)
            losses = np.array(self.backend.to_numpy(enters))
            if self.d_state is not None and self.architecture.bidirectional:
                losses[0] = self.ends >= 0
        if self.d_state is not None or self.architecture.returns == "last":
            some = np.flatnonzero(self.ends >= 0)
            losses[self.ends[some], some] = True
        return losses

    def flow(self, value: float | None) -> Flow:
        """Return everything but what is computed on demand."""
        net, to_host, stack = self.net, self.backend.to_numpy, self.architecture.stack
        width, parameters = self.architecture.width, net.parameters
        lengths = self._lengths(self.whole.lengths)
        decay = self._decay(lengths)
        values = [self.whole.parameters[name] for name in parameters]
        sizes = norms_of(self.backend, [*values, *parameters.values()])
        blocks = recurrent_blocks(net.cell)
        # Units that a smaller layer lacks have zeros.
        recurrent = np.zeros((len(stack), blocks, width, width))
        for all_of_it, layer in zip(recurrent, self.tape.layers if blocks else (), strict=False):
            # The loop's, which is U P where h is projected.
            U = to_host(layer.weights.U)
            H = U.shape[1]
            all_of_it[:, :H, :H] = U.reshape(blocks, H, H)
        return Flow(
            tuple([f"layer {d.layer}" + " reversed" * d.reverse for d in stack]),
            value,
            norm(lengths, axis=2),
            decay,
            *reach_of(decay),
            self._saturation(),
            recurrent,
            tuple(parameters),
            sizes[: len(values)],
            sizes[len(values) :],
        )

    def _saturation(self) -> HostArray:
        """Return the share of saturated entries, (layers·D, G)."""
        stack, flat = self.architecture.stack, self.whole.saturated
        if flat is None:
            return np.full((len(stack), self.architecture.cell.gates), math.nan)
        count = self.steps * self.batch
        if self.tape.valid is not None:
            count = int(np.sum(self.ends + 1))
        entries = np.array([[float(count * direction.hidden_size)] for direction in stack])
        shares: HostArray = self.backend.to_numpy(flat) / entries
        return shares

    def finite(self, flow: Flow) -> bool:
        """Whether everything that flows is finite."""
        # The largest of several numbers is NaN if one of them is.
        return math.isfinite(flow.norms.max()) and math.isfinite(flow.gradient_norms.max())

    def first_not_finite(self, run: Run) -> str:
        """Return where the first NaN or infinity arises."""
        parameters = self.net.parameters
        given = self.d_output, self.d_final, self.window
        return (
            first_in_forward(parameters, run)
            or first_on_the_way_back(parameters, run, *given)
            or "the loss (every output is finite)"
        )

    def matrix(self) -> HostArray:
        """Return ‖∂L_s/∂h(t)‖, (layers·D, T, T)."""
        if self.architecture.returns == "last":
            lengths = self._lengths(self.whole.lengths)
            rows = [lengths * (self.ends == s) for s in range(self.steps)]
        else:
            rows = []
            for s in range(self.steps):
                mask = np.zeros_like(self.losses)
                mask[s] = self.losses[s]
                found = self._watched(mask, None) if mask.any() else None
                rows.append(None if found is None else self._lengths(found.lengths))
            nothing = np.zeros((len(self.architecture.stack), self.steps, self.batch))
            rows = [nothing if row is None else row for row in rows]
        return np.stack([norm(row, axis=2) for row in rows], axis=1)

    def update_ratios(self, optimizer: Any) -> HostArray:
        """Return the norm of an optimizer's first update of each parameter, divided by its own."""
        old, gradients = self.net.parameters, self.whole.parameters
        if not np.all(np.isfinite(norms_of(self.backend, list(gradients.values())))):
            return np.full(len(old), math.nan)
        new, _ = optimizer.update(gradients, optimizer.init(old), old)
        return change(old, new)

    def _watched(self, mask: HostArray | None, bound: float | None) -> Watched:
        """Return a backward pass of the gradients that enter at some steps.

        Parameters
        ----------
        mask : host array of bool, (T, B), or None
            None: at all steps.
        bound : float or None
            See `watched`.
        """
        return watched(
            self.net.parameters,
            self.tape,
            self.d_output if mask is None else self._entering(mask),
            self.d_final if mask is None else self._final(mask),
            window=self.window,
            bound=bound,
        )

    def _entering(self, mask: HostArray) -> Array:
        """Return the gradient of the output at these steps, zero elsewhere."""
        d_output, backend, xp = self.d_output, self.backend, self.backend.xp
        first = int(np.argmax(mask.any(axis=1)))
        if np.all(mask[first]) and np.count_nonzero(mask) == self.batch:
            # The usual case, one step of all sequences, without a pass over everything.
            only = slice(first, first + 1)
            zeros = backend.library.zeros(tuple(d_output.shape), backend.dtype, backend.device)
            return backend.library.put_rows(zeros, only, d_output[only, ...])
        keep = backend.asarray(mask[..., None])
        return xp.where(keep, d_output, xp.zeros_like(d_output))

    def _final(self, mask: HostArray) -> Arrays:
        """Return the gradient of the final state where it enters at these steps."""
        architecture, backend, d_state = self.architecture, self.backend, self.d_state
        if d_state is None:
            return self.d_final
        last, xp = mask[self.ends, np.arange(self.batch)], backend.xp
        rows = np.stack([mask[0] if d.reverse else last for d in architecture.stack])
        keep = backend.asarray(rows[..., None])
        return tuple([xp.where(keep, part, xp.zeros_like(part)) for part in d_state])

    def _lengths(self, found: tuple[Lengths, ...]) -> HostArray:
        """Return the length of ∂L/∂h of every layer, step and sequence, (layers·D, T, B)."""
        each = [lengths.on_host(self.backend) for lengths in found]
        return each[0][None] if len(each) == 1 else np.stack(each)

    def _decay(self, whole: HostArray) -> HostArray:
        """Return what the last loss alone sends back; see `Flow`."""
        stack, rows = self.architecture.stack, []
        from_last = self._from_last()
        if from_last is not None:
            return norm(from_last[:, ::-1], axis=2)
        by_mask: dict[bytes, HostArray] = {self.losses.tobytes(): whole}
        for k, direction in enumerate(stack):
            losses = self.losses[::-1] if direction.reverse else self.losses
            # The first step that has one, in the order in which the gradient travels.
            start = np.argmax(losses[::-1], axis=0)
            some = np.asarray(losses.any(axis=0))
            mask = np.zeros_like(losses)
            mask[self.steps - 1 - start[some], np.flatnonzero(some)] = True
            mask = mask[::-1] if direction.reverse else mask
            if self.architecture.returns == "last":
                lengths = whole[k]
                start = np.zeros_like(start) if direction.reverse else self.steps - 1 - self.ends
            else:
                known = by_mask.get(mask.tobytes())
                if known is None:
                    known = self._lengths(self._watched(mask, None).lengths)
                    by_mask[mask.tobytes()] = known
                lengths = known[k]
            travel = lengths if direction.reverse else lengths[::-1]
            limit = self.ends + 1 if direction.reverse else np.full(self.batch, self.steps)
            rows.append(aligned(travel, start, limit, some))
        return np.stack(rows)

    def _from_last(self) -> HostArray | None:
        """Return what the last step sends back, (layers, T, B), if that is every last loss.

        None if some sequence has no loss there, or ends earlier, or if a window or a reversed
        direction make it less simple.
        """
        architecture, tape = self.architecture, self.tape
        if (
            architecture.returns == "last"
            or architecture.bidirectional
            or tape.valid is not None
            or (self.window is not None and self.window < self.steps - 1)
        ):
            return None
        d_last = self.d_output[-1, ...]
        found = self._lengths(watched_from_last(self.net.parameters, tape, d_last, self.d_final))
        # A gradient that is not zero comes from a loss.  To look at the gradient costs less than
        # to look at the outputs.
        return found if self.d_state is not None or (found[-1, -1] > 0).all() else None
