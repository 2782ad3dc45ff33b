"""The number that is differentiated, as a function of a network's parameters, input and state."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from xprnn.backend import Backend
from xprnn.backend.differentiation import dual_backend, lifted
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.gradients import dense
from xprnn.engine.network import RNN
from xprnn.testing.gradients.compare import Gradients
from xprnn.testing.gradients.goal import Goal
from xprnn.testing.gradients.numeric import Direction, Function, Pushed
from xprnn.testing.gradients.passes import (
    Call,
    Outputs,
    Point,
    analytic,
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
            self._push,
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
        real = not any(np.iscomplexobj(a) for a in moved.values())
        arrays = dict(self._arrays if real else self._complex_arrays)
        arrays |= {name: self._device(a) for name, a in moved.items()}
        if real:
            return self.goal.terms(self.net.backend, self._outputs(arrays, None))
        through = analytic(self.net.backend)
        outputs = self._outputs(arrays, through, lambda a: self._device(a + 0j))
        return self.goal.terms(self.net.backend, outputs)

    def _push(self, at: Direction, tangents: Direction) -> Pushed:
        dual = dual_backend(self.net.backend)

        def lift(name: str, a: HostArray) -> Array:
            along = None if name not in tangents else self._device(tangents[name])
            return lifted(dual, self._device(a), along)

        arrays = {name: lift(name, a) for name, a in at.items()}
        if INPUT not in arrays:
            arrays[INPUT] = lifted(dual, self.point.x)
        outputs = self._outputs(arrays, dual, lambda a: lift("", a))
        width = next(iter(tangents.values())).shape[0]
        return self.goal.push(dual, outputs, width)

    def _outputs(
        self,
        arrays: dict[str, Array],
        through: Backend | None,
        constant: Callable[[HostArray], Array] | None = None,
    ) -> Outputs:
        """Return output and final state; ``constant`` brings host arrays to the backend."""
        point = Point(
            {name: arrays[name] for name in self.point.parameters},
            arrays.get(INPUT, self.point.x),
            tuple(arrays[STATE + name] for name in self.net.cell.state),
            through,
        )
        if self.window is None or self._held is None:
            return run(self.net, point, self.call)
        held = tuple(map(constant or self._device, self._held))
        return run_windowed(self.net, point, self.call, self.window, held)

    def _device(self, a: HostArray) -> Array:
        # `Backend.asarray` refuses complex numbers.
        return self.net.backend.library.from_host(a, self.net.backend.device)

    def _named_state(self, state: Arrays) -> dict[str, Array]:
        names = (STATE + name for name in self.net.cell.state)
        return dict(zip(names, state, strict=True))
