"""The moving average of the weights, beside an optimizer."""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from xprnn import checks
from xprnn.backend import namespace_of
from xprnn.backend.entry import entry
from xprnn.backend.types import Array
from xprnn.optim.arguments import (
    check_gradients,
    check_mapping,
    check_memory,
    check_state_type,
)
from xprnn.optim.counting import one_minus_power
from xprnn.optim.protocol import (
    Gradients,
    InPlaceOptimizer,
    Optimizer,
    Parameters,
    Updated,
    check_inner_state,
    scaled,
    updated,
)
from xprnn.optim.registry import get_optimizer
from xprnn.optim.walk import update_each


class AveragedState(NamedTuple):
    """The averaged weights, and the optimizer's state.

    Attributes
    ----------
    iteration : int
        Updates done.
    average : dict of array
        The average of the parameters, ready to be used in their place.
    optimizer : object
        The optimizer's state.
    """

    iteration: int
    average: dict[str, Array]
    optimizer: Any


@dataclass(frozen=True)
class Averaged(InPlaceOptimizer):
    """An optimizer that also keeps the exponential moving average of the weights.

    ::

        c = (1 - decay) / (1 - decayᵗ)     of update t = 1, 2, ...    (1)
        c = 1 / t                          if decay is 1              (1')
        a = a + c (θ - a)                                             (2)

    Training goes on from θ as it would without the average.  The average, ``state.average``, lies
    closer to the centre of the region in which noisy updates move the weights, and is often the
    better network.

    Parameters
    ----------
    optimizer : Optimizer or str
    decay : float
        From 0 (the newest weights alone) to 1 (the mean of all weights so far); the average
        reaches back over about 1 / (1 - decay) updates.
    corrected : bool
        True: (1), which leaves the initial weights out of the average, as Adam corrects its
        moments.  False: c = 1 - decay, and the average starts at the initial weights.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type, or out of range.

    Notes
    -----
    The average moves at every update, also in rows that a sparse gradient does not hold.

    References
    ----------
    B. Polyak and A. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM Journal
    on Control and Optimization 30 (1992), for ``decay=1``.
    D. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, section 7.2, for
    the moving average and its correction.

    Examples
    --------
    >>> import numpy as np
    >>> averaged, p = Averaged("sgd", decay=1.0), {"w": np.array([1.0])}
    >>> state = averaged.init(p)
    >>> for _ in range(3):
    ...     p, state = averaged.update({"w": np.array([100.0])}, state, p)
    >>> p["w"], state.average["w"]
    (array([-2.]), array([-1.]))
    """

    optimizer: Optimizer | str
    decay: float = 0.999
    corrected: bool = True

    def __post_init__(self) -> None:
        decay = checks.number("decay", self.decay)
        if decay > 1:
            raise ValueError(f"decay is {decay!r}: expected a number from 0 to 1")
        if decay == 1 and not checks.boolean("corrected", self.corrected):
            raise ValueError(
                "decay is 1, but corrected is False: the average would stay at the initial weights"
            )
        object.__setattr__(self, "optimizer", get_optimizer(self.optimizer))
        object.__setattr__(self, "decay", decay)
        object.__setattr__(self, "corrected", checks.boolean("corrected", self.corrected))

    @entry
    def init(self, parameters: Parameters) -> AveragedState:
        check_mapping("parameters", parameters)
        # Copies, because an update with ``into`` may write into the parameters.
        average = {k: namespace_of(p).asarray(p, copy=True) for k, p in parameters.items()}
        return AveragedState(0, average, self._rule.init(parameters))

    @entry
    def update(
        self,
        gradients: Gradients,
        state: AveragedState,
        parameters: Parameters,
        *,
        into: Updated | None = None,
    ) -> tuple[dict[str, Array], AveragedState]:
        check_gradients(gradients, parameters)
        self.check_state(state, parameters)
        within = None if into is None else (into[0], into[1].optimizer)
        moved, memory = updated(self._rule, gradients, state.optimizer, parameters, within)
        t = state.iteration + 1
        weight = self._weight(t)

        def formula(p: Array, a: Array) -> tuple[Array]:
            return (a + weight * (p - a),)  # (2)

        (average,) = update_each(
            dict.fromkeys(moved, formula),
            moved,
            state.average,
            lazy=False,
            into=None if into is None else (into[1].average,),
        )
        return moved, AveragedState(t, average, memory)

    def check_state(self, state: Any, parameters: Parameters) -> None:
        check_state_type(self, state, AveragedState)
        check_memory(self, "average", state.average, parameters, kept=True)
        check_inner_state(self._rule, state.optimizer, parameters)

    def scaled(self, state: AveragedState, factor: float) -> AveragedState:
        """Return the state with the rate of all later updates multiplied by the factor.

        Raises
        ------
        TypeError
            If the optimizer has no learning rate.
        """
        return state._replace(optimizer=scaled(self._rule, state.optimizer, factor))

    @property
    def _rule(self) -> Optimizer:
        return cast("Optimizer", self.optimizer)

    def _weight(self, t: int | Array) -> float | Array:
        if not self.corrected:
            return 1 - self.decay
        if self.decay == 1:
            return 1 / t  # (1')
        return (1 - self.decay) / one_minus_power(self.decay, t)  # (1)
