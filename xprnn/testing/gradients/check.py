"""The check itself: the gradients of a function against its numeric derivatives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from xprnn import checks
from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.testing.contract import ContractError
from xprnn.testing.gradients.compare import (
    CENTRAL,
    COMPLEX,
    Directions,
    Entries,
    Gradients,
    compare,
    random_directions,
)
from xprnn.testing.gradients.numeric import (
    EPS,
    Function,
    central,
    complex_step,
    rounding_of,
    why_not_complex,
)
from xprnn.testing.gradients.report import Finding

MODES = ("auto", "central", "complex", "directions")
ENTRIES = 1000
"""With mode ``"auto"``, the number of entries up to which every entry is differentiated."""


@dataclass(frozen=True)
class Options:
    """The options of a check, checked themselves; see `check_gradients`.

    Attributes
    ----------
    mode : {"auto", "central", "complex", "directions"}
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
        If the complex step is asked for but can't be used.
    """
    at_rest = f.terms({})
    _repeatable(f, at_rest, 64 * EPS * (size + f.grain))
    rounding = rounding_of(f, at_rest, rng)
    probes, every = _probes(f.variables, options, rng)
    reason: str | None = "central differences were asked for"
    if options.mode != "central":
        reason = why_not_complex(f, at_rest, rounding, rng)
    if options.mode == "complex" and reason is not None:
        raise ValueError(
            f"mode is 'complex', but the complex step can't be used ({reason}): "
            "mode='central' needs no complex numbers"
        )
    exact = reason is None
    tolerance = options.tolerance or (COMPLEX if exact else CENTRAL)
    findings = []
    for probe in probes:
        slopes = (
            complex_step(f, probe) if exact else central(f, probe, at_rest, rounding, tolerance / 8)
        )
        shape = f.variables[probe.name].shape if probe.name in f.variables else None
        findings.append(compare(probe, shape, gradients, slopes, tolerance, size))
    method = "complex step" if exact else "central differences"
    where = "of every entry" if every else f"in {options.directions} random directions"
    notes = []
    if not exact and options.mode in ("auto", "directions"):
        notes.append(f"no complex step: {reason}")
    unseen = [finding.name for finding in findings if finding.verdict == "unseen"]
    if unseen:
        notes.append(f"too small to be told from rounding: {', '.join(unseen)}")
    zero = [finding.name for finding in findings if finding.verdict == "zero"]
    if zero:
        notes.append(f"zero, as it should be, which shows little: {', '.join(zero)}")
    if any(finding.kinks for finding in findings):
        notes.append("at a kink there is no derivative to compare with")
    return Checked(f"{method} {where}", tolerance, tuple(findings), tuple(notes))


def _probes(
    variables: Mapping[str, HostArray], options: Options, rng: Generator
) -> tuple[list[Entries] | list[Directions], bool]:
    """Return what to differentiate along, and whether that is every entry."""
    entries = sum(value.size for value in variables.values())
    every = options.mode in ("central", "complex") or (
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
