"""Initial weights.

Every initializer draws on the host, in float64, from one generator, so a seed gives the same
weights on every backend, rounded to the network's dtype.

An initializer may have an attribute ``kinds``, the kinds of parameters that it is made for, such as
``("U", "b")``.  Given for a whole network, it draws these, and `Uniform` draws the others.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

from xprnn import checks
from xprnn.backend.host.arrays import Generator, HostArray, np


@runtime_checkable
class Initializer(Protocol):
    """Draws one parameter, or one gate's block of it."""

    def __call__(self, rng: Generator, shape: tuple[int, ...], fan_in: int) -> HostArray:
        """Return float64 values; ``fan_in`` counts the connections that enter one unit."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Uniform in ±1/√n, with n the number of incoming connections; the default.

    This holds for biases, too, as in ``torch.nn.RNN``.

    References
    ----------
    Y. LeCun, L. Bottou, G. Orr and K.-R. Müller, "Efficient BackProp" (1998), section 4.6.
    """

    def __call__(self, rng: Generator, shape: tuple[int, ...], fan_in: int) -> HostArray:
        bound = 1 / math.sqrt(fan_in)
        return rng.uniform(-bound, bound, shape)


@dataclass(frozen=True)
class Normal:
    """Normal with mean zero.

    Parameters
    ----------
    std : float
        The standard deviation.
    """

    std: float = 0.1

    def __post_init__(self) -> None:
        checks.number("std", self.std)

    def __call__(self, rng: Generator, shape: tuple[int, ...], fan_in: int) -> HostArray:
        del fan_in
        return rng.normal(0.0, self.std, shape)


@dataclass(frozen=True)
class Orthogonal:
    """Random orthogonal blocks; biases are zero.

    The gates' blocks, H rows each of W and U, are drawn one by one.  A block that is not square has
    orthonormal rows or columns.

    Parameters
    ----------
    gain : float
        The factor that multiplies every block, and so the block's singular values.

    References
    ----------
    A. Saxe, J. McClelland and S. Ganguli, "Exact solutions to the nonlinear dynamics of learning
    in deep linear neural networks", ICLR 2014.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        checks.number("gain", self.gain)

    def __call__(self, rng: Generator, shape: tuple[int, ...], fan_in: int) -> HostArray:
        del fan_in
        if len(shape) == 1:
            return np.zeros(shape)
        rows, columns = shape
        q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
        # The signs make the distribution uniform (Haar); QR alone does not.
        q *= np.sign(np.diagonal(r))
        return self.gain * (q if rows >= columns else q.T)


@dataclass(frozen=True)
class Zeros:
    """All zero."""

    def __call__(self, rng: Generator, shape: tuple[int, ...], fan_in: int) -> HostArray:
        del rng, fan_in
        return np.zeros(shape)


@dataclass(frozen=True)
class Identity:
    """The identity matrix times a factor, gate by gate; biases are zero.

    Given for a whole network, it draws U and b.  An Elman network of rectified units then begins as
    one that adds its inputs up, and gradients neither vanish nor explode (IRNN).

    Parameters
    ----------
    gain : float
        The factor: with less than 1, the memory begins to fade.

    References
    ----------
    Q. Le, N. Jaitly and G. Hinton, "A simple way to initialize recurrent networks of rectified
    linear units" (2015), arXiv:1504.00941.
    """

    gain: float = 1.0

    kinds: ClassVar[tuple[str, ...]] = ("U", "b")

    def __post_init__(self) -> None:
        checks.number("gain", self.gain)

    def __call__(self, rng: Generator, shape: tuple[int, ...], fan_in: int) -> HostArray:
        del rng, fan_in
        return np.zeros(shape) if len(shape) == 1 else self.gain * np.eye(shape[0], shape[1])


@dataclass(frozen=True)
class SpectralRadius:
    """Normal matrices, scaled so that the largest absolute value of their eigenvalues is given.

    Given for a whole network, it draws U, gate by gate.  Below 1, an Elman cell's memory of its
    beginning fades however long the sequence is, as an echo state network needs it.

    Parameters
    ----------
    radius : float
        The largest absolute value of the eigenvalues of each gate's block.

    References
    ----------
    H. Jaeger, "The echo state approach to analysing and training recurrent neural networks", GMD
    report 148 (2001).
    """

    radius: float = 0.9

    kinds: ClassVar[tuple[str, ...]] = ("U",)

    def __post_init__(self) -> None:
        checks.number("radius", self.radius)

    def __call__(self, rng: Generator, shape: tuple[int, ...], fan_in: int) -> HostArray:
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(
                f"a spectral radius is that of a square matrix, such as U: this parameter's blocks "
                f"have shape {shape}"
            )
        drawn = rng.normal(0.0, 1 / math.sqrt(fan_in), shape)
        drawn *= self.radius / np.max(np.abs(np.linalg.eigvals(drawn)))
        return drawn


@dataclass(frozen=True)
class Chrono:
    """Biases with which gates begin to remember for up to a number of steps.

    ::

        b_keep = log t,   t uniform in [1, steps - 1]
        b_take = -b_keep

    A unit whose gate is σ(log t) keeps its state for about t steps.  b_keep is the bias of gates
    that keep the state: f of an LSTM, z of a GRU; b_take is that of gates that let something new
    in: i of an LSTM, f of a `MinimalGated`.  The biases of other gates are zero, but for what the
    cell adds to them.  Given for a whole network, it draws b.

    Parameters
    ----------
    steps : int
        At least 2: the longest time to remember, such as the length of the sequences.

    References
    ----------
    C. Tallec and Y. Ollivier, "Can recurrent neural networks warp time?", ICLR 2018,
    arXiv:1804.11188.
    """

    steps: int

    kinds: ClassVar[tuple[str, ...]] = ("b",)

    def __post_init__(self) -> None:
        if checks.positive_int("steps", self.steps) < 2:
            raise ValueError(f"steps is {self.steps}: expected at least 2")

    def __call__(self, rng: Generator, shape: tuple[int, ...], fan_in: int) -> HostArray:
        del rng, fan_in
        raise ValueError(
            f"chrono draws the biases of gates, b: expected another initializer for this "
            f"parameter, whose blocks have shape {shape}"
        )

    def biases(self, rng: Generator, retention: tuple[int, ...], hidden: int) -> HostArray:
        """Return the biases of all gates, (G·H,).

        Parameters
        ----------
        retention : tuple of int
            For each gate: 1 if it keeps the state, -1 if it lets something new in, else 0.

        Raises
        ------
        ValueError
            If there is no such gate.
        """
        if not any(retention):
            raise ValueError(
                "chrono needs a cell with gates that keep the state: this one has none"
            )
        keep = np.log(rng.uniform(1, self.steps - 1, hidden))
        return np.concatenate([sign * keep for sign in retention])


INITIALIZERS: dict[str, type[Initializer]] = {
    "uniform": Uniform,
    "normal": Normal,
    "orthogonal": Orthogonal,
    "identity": Identity,
    "spectral_radius": SpectralRadius,
    "chrono": Chrono,
    "zeros": Zeros,
}

ByKind: TypeAlias = "str | Initializer | Mapping[str, str | Initializer]"
"""What a network takes: one initializer, or one for each kind of parameter."""

KINDS = {
    "weight_ih": "W",
    "weight_hh": "U",
    "weight_hr": "P",
    "bias": "b",
    "readout.weight": "R",
    "readout.bias": "r",
    "embedding.weight": "E",
}
"""The letters of kinds of parameters in the equations; others are called by their names."""


def get_initializer(initializer: str | Initializer) -> Initializer:
    """Return the initializer of that name, or the initializer itself.

    Parameters
    ----------
    initializer : str or Initializer
        A name may be followed by a colon and the initializer's option: ``"chrono:100"`` is
        ``Chrono(100)``.  Otherwise the option has its default value.

    Raises
    ------
    ValueError
        If there is no initializer of that name, its option is missing or no number, or it has none.
    TypeError
        If it is neither a name nor callable.
    """
    if isinstance(initializer, str):
        name, colon, option = initializer.partition(":")
        made = checks.known("initializer", name, INITIALIZERS)
        if colon or made is Chrono:
            return _with_option(made, name, option, initializer)
    return checks.instance(
        "initializer", initializer, INITIALIZERS, Initializer, "a name or an instance"
    )


def _with_option(made: type[Initializer], name: str, option: str, given: str) -> Initializer:
    number = {"chrono": 100}.get(name, 0.5)
    if name in ("uniform", "zeros"):
        raise ValueError(f"initializer is {given!r}: {name} has no option")
    try:
        value = type(number)(option)
    except ValueError:
        raise ValueError(
            f"initializer is {given!r}: expected {name!r} with "
            f"{'an integer' if name == 'chrono' else 'a number'} after a colon, as in "
            f"'{name}:{number}'"
        ) from None
    return made(value)  # type: ignore[call-arg]  # each has one option


def chosen_initializers(initializer: ByKind, kinds: Iterable[str]) -> dict[str, Initializer]:
    """Return the initializer of each kind of parameter.

    Parameters
    ----------
    initializer : str, Initializer or mapping
        One for all, or some by kind; `Uniform` draws the kinds that are left out.
    kinds : iterable of str
        The kinds of parameters of a network, as in its parameters' names: ``"weight_hh"``.

    Raises
    ------
    ValueError, TypeError
        If one of them is no initializer, or a kind is unknown.
    """
    names = {kind: KINDS.get(kind, kind) for kind in kinds}
    if not isinstance(initializer, Mapping):
        draw = get_initializer(initializer)
        of = getattr(draw, "kinds", None)
        if of is not None and not set(of) & set(names.values()):
            raise ValueError(
                f"initializer is {initializer!r}, for {' and '.join(of)}: the network has no such "
                f"parameter, only {', '.join(names.values())}"
            )
        return {
            kind: draw if of is None or name in of else Uniform() for kind, name in names.items()
        }
    for key in initializer:
        if key not in names and key not in names.values():
            raise ValueError(
                f"initializer has {key!r}: the network's kinds of parameters are "
                f"{', '.join(names.values())}"
            )
        if key in names and names[key] != key and names[key] in initializer:
            raise ValueError(f"initializer has both {key!r} and {names[key]!r}: expected one")
    given = {kind: initializer.get(name, initializer.get(kind)) for kind, name in names.items()}
    return {kind: Uniform() if g is None else get_initializer(g) for kind, g in given.items()}
