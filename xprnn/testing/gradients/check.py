"""The check itself: the gradients of a function against its numeric derivatives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from xprnn import checks
from xprnn.backend.differentiation import Kink
from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.testing.contract import ContractError
from xprnn.testing.gradients.compare import (
    CENTRAL,
    COMPLEX,
    FORWARD,
    FORWARD_ROUNDINGS,
    ROUNDINGS,
    Directions,
    Entries,
    Gradients,
    compare,
    random_directions,
)
from xprnn.testing.gradients.forward_mode import forward_mode
from xprnn.testing.gradients.numeric import (
    EPS,
    Function,
    Slopes,
    central,
    complex_step,
    rounding_of,
    why_not_complex,
)
from xprnn.testing.gradients.report import AT_KINKS, Finding

Probe = Entries | Directions

MODES = ("auto", "central", "complex", "directions", "forward")
SHOWN = 3
"""The number of kinks whose places are shown."""
ENTRIES = 1000
"""With mode ``"auto"``, the number of entries up to which every entry is differentiated."""


@dataclass(frozen=True)
class Options:
    """The options of a check, checked themselves; see `check_gradients`.

    Attributes
    ----------
    mode : {"auto", "central", "complex", "directions", "forward"}
    directions : int
        The number of random directions of each array, and of all arrays together.
    tolerance : float or None
        None: the tolerance of the method, see `xprnn.testing.gradients.compare`.
    """

    mode: str
    directions: int
    tolerance: float | None

    def __post_init__(self) -> None:
        checks.choice("mode", self.mode, MODES)
        checks.positive_int("directions", self.directions)
        if self.tolerance is not None:
            checks.number("tolerance", self.tolerance, open_=True)


class Checked(NamedTuple):
    """The result of a check: what a `GradientReport` needs."""

    method: str
    tolerance: float
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def check(
    f: Function, gradients: Gradients, size: float, options: Options, rng: Generator
) -> Checked:
    """Compare gradients with numeric derivatives.

    Parameters
    ----------
    f : Function
    gradients : mapping of str to array
        One for each variable of the function.
    size : float
        S of `xprnn.testing.gradients.compare`.
    options : Options
    rng : numpy.random.Generator
        For random directions.

    Raises
    ------
    ContractError
        If two evaluations of the function differ.
    ValueError
        If the complex step, or forward mode, is asked for but can't be used.
    """
    at_rest = f.terms({})
    _repeatable(f, at_rest, 64 * EPS * (size + f.grain))
    rounding = rounding_of(f, at_rest, rng)
    probes, every = _probes(f.variables, options, rng)
    judge = _judge(f, at_rest, rounding, options.mode, rng)
    tolerance = options.tolerance or judge.tolerance
    findings: list[Finding] = []
    kinks: list[Kink] = []
    for probe in probes:
        slopes, found = judge.along(probe, tolerance)
        kinks += found
        shape = f.variables[probe.name].shape if probe.name in f.variables else None
        findings.append(compare(probe, shape, gradients, slopes, tolerance, size, judge.roundings))
    where = "of every entry" if every else f"in {options.directions} random directions"
    notes = (*judge.notes, *_notes(findings, kinks))
    return Checked(f"{judge.method} {where}", tolerance, tuple(findings), notes)


class _Judge(NamedTuple):
    """A way to find derivatives: its name, its tolerance, and why none better was taken."""

    method: str
    tolerance: float
    along: Callable[[Probe, float], tuple[Slopes, tuple[Kink, ...]]]
    notes: tuple[str, ...] = ()
    roundings: int = ROUNDINGS


def _judge(f: Function, at_rest: HostArray, rounding: float, mode: str, rng: Generator) -> _Judge:
    """Return the most exact way that a mode allows.

    Raises
    ------
    ValueError
        If the mode names one that can't be used.
    """
    notes: list[str] = []
    if mode not in ("central", "complex"):
        forward, reason = forward_mode(f, at_rest, rounding, rng)
        if forward is not None:
            by_tangents = _Judge("forward mode", FORWARD, lambda probe, _: forward.along(probe))
            return by_tangents._replace(roundings=FORWARD_ROUNDINGS)
        _refused(mode, "forward", "forward mode", reason)
        notes.append(f"no forward mode: {reason}")
    if mode != "central":
        why = why_not_complex(f, at_rest, rounding, rng)
        if why is None:
            by_complex = _Judge("complex step", COMPLEX, lambda p, _: (complex_step(f, p), ()))
            return by_complex._replace(notes=tuple(notes))
        _refused(mode, "complex", "the complex step", why)
        notes.append(f"no complex step: {why}")

    def by_differences(probe: Probe, tolerance: float) -> tuple[Slopes, tuple[Kink, ...]]:
        return central(f, probe, at_rest, rounding, tolerance / 8), ()

    return _Judge("central differences", CENTRAL, by_differences, tuple(notes))


def _refused(mode: str, asked: str, words: str, reason: str) -> None:
    if mode == asked:
        raise ValueError(
            f"mode is {mode!r}, but {words} can't be used ({reason}): mode='central' takes any "
            "function"
        )


def _notes(findings: Sequence[Finding], kinks: Sequence[Kink]) -> tuple[str, ...]:
    """Return what the findings leave open."""
    notes = []
    unseen = [finding.name for finding in findings if finding.verdict == "unseen"]
    if unseen:
        notes.append(f"too small to be told from rounding: {', '.join(unseen)}")
    zero = [finding.name for finding in findings if finding.verdict == "zero"]
    if zero:
        notes.append(f"zero, as it should be, which shows little: {', '.join(zero)}")
    if any(finding.kinks for finding in findings):
        notes.append(AT_KINKS + _places(kinks))
    return tuple(notes)


def _places(kinks: Sequence[Kink]) -> str:
    """Return in words where kinks are; an empty text if it is not known."""
    places = list(dict.fromkeys(map(str, kinks)))
    more = f"; and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    return f": {'; '.join(places[:SHOWN])}{more}" if places else ""


def _probes(
    variables: Mapping[str, HostArray], options: Options, rng: Generator
) -> tuple[list[Entries] | list[Directions], bool]:
    """Return what to differentiate along, and whether that is every entry."""
    entries = sum(value.size for value in variables.values())
    every = options.mode in ("central", "complex", "forward") or (
        options.mode == "auto" and entries <= ENTRIES
    )
    if every:
        return [Entries(name, value) for name, value in variables.items()], True
    return random_directions(variables, options.directions, rng), False


def _repeatable(f: Function, at_rest: HostArray, allowed: float) -> None:
    """Refuse a function whose value changes from one evaluation to the next."""
    off = abs(float(np.sum(f.terms({}) - at_rest)))
    if off > allowed:
        raise ContractError(
            f"two forward passes with the same arguments differ by {off:.3g}: "
            "there is nothing to differentiate"
        )
