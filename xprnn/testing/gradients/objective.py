"""The number that is differentiated, as a function of a network's parameters, input and state."""

from dataclasses import dataclass
from functools import cached_property

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.gradients import dense
from xprnn.engine.network import RNN
from xprnn.testing.gradients.compare import Gradients
from xprnn.testing.gradients.goal import Goal
from xprnn.testing.gradients.numeric import Direction, Function
from xprnn.testing.gradients.passes import (
    Call,
    Point,
    run,
    run_windowed,
    states_before,
    truncates,
)

INPUT = "input"
STATE = "state "


@dataclass(frozen=True)
class Objective:
    """A number that depends on a network's arrays, at the point where it is differentiated.

    Attributes
    ----------
    net : RNN
        In float64.  Its parameters are changed.
    point : Point
        The arrays.
    call : Call
        The other arguments of the network.
    goal : Goal
        The number, as a function of the network's output and final state.
    window : int or None
    """

    net: RNN
    point: Point
    call: Call
    goal: Goal
    window: int | None

    @cached_property
    def function(self) -> Function:
        """The number as a function of host arrays: parameters, state, and input unless integers."""
        return Function(
            {name: self.net.backend.to_numpy(a) for name, a in self._arrays.items()},
            self._terms,
            self.goal.grain,
        )

    def gradients(self) -> Gradients:
        """Return the gradients under test, on the host, by the names of the variables."""
        found = self.goal.gradient(self.net, self.point, self.call, self.window)
        named = {**found.parameters, **self._named_state(found.state)}
        if INPUT in self._arrays:
            named[INPUT] = found.input
        return {name: self.net.backend.to_numpy(dense(named[name])) for name in self._arrays}

    @cached_property
    def _arrays(self) -> dict[str, Array]:
        arrays = dict(self.point.parameters)
        if self.point.x.ndim == 3:
            arrays[INPUT] = self.point.x
        return arrays | self._named_state(self.point.state)

    @cached_property
    def _complex_arrays(self) -> dict[str, Array]:
        return {name: self._device(a + 0j) for name, a in self.function.variables.items()}

    @cached_property
    def _held(self) -> tuple[HostArray, ...] | None:
        """The states that the windows start from; None if the window truncates nothing."""
        window = self.window
        steps = self.point.x.shape[0]
        if window is None or not truncates(self.net, window, steps, self.call):
            return None
        states = states_before(self.net, self.point, self.call, window)
        return tuple(self.net.backend.to_numpy(part) for part in states)

    def _terms(self, moved: Direction) -> HostArray:
        backend = self.net.backend
        real = not any(np.iscomplexobj(a) for a in moved.values())
        arrays = dict(self._arrays if real else self._complex_arrays)
        arrays |= {name: self._device(a) for name, a in moved.items()}
        point = Point(
            {name: arrays[name] for name in self.point.parameters},
            arrays.get(INPUT, self.point.x),
            tuple(arrays[STATE + name] for name in self.net.cell.state),
            real,
        )
        if self.window is None or self._held is None:
            outputs = run(self.net, point, self.call)
        else:
            held = tuple(self._device(part if real else part + 0j) for part in self._held)
            outputs = run_windowed(self.net, point, self.call, self.window, held)
        return self.goal.terms(backend, outputs)

    def _device(self, a: HostArray) -> Array:
        # `Backend.asarray` refuses complex numbers.
        return self.net.backend.library.from_host(a, self.net.backend.device)

    def _named_state(self, state: Arrays) -> dict[str, Array]:
        names = (STATE + name for name in self.net.cell.state)
        return dict(zip(names, state, strict=True))
