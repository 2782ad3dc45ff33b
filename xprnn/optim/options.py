"""Options of a rule, each declared with the check that it has to pass.

A rule is a frozen dataclass that derives from `Checked` and declares its options as fields::

    momentum: float = number(0.0, below=1.0)

Anything out of range is refused when the rule is made, with the option's name in the message.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from xprnn import checks
from xprnn.optim.decay import check_decayed
from xprnn.optim.schedules import as_schedule


@dataclass(frozen=True)
class Checked:
    """A dataclass that checks and normalises its fields when it is made."""

    def __post_init__(self) -> None:
        for option in fields(self):
            check = option.metadata["check"]
            object.__setattr__(self, option.name, check(option.name, getattr(self, option.name)))


def number(
    default: float, *, least: float = 0.0, below: float = math.inf, open_: bool = False
) -> Any:
    """Declare a finite number in [least, below), or in (least, below) if ``open_``."""
    return _option(default, partial(checks.number, least=least, below=below, open_=open_))


def flag(*, default: bool) -> Any:
    """Declare True or False."""
    return _option(default, checks.boolean)


def rate(default: float) -> Any:
    """Declare a learning rate: a number above zero, or a schedule."""
    return _option(default, _check_rate)


def pair(default: tuple[float, float], *, below: float) -> Any:
    """Declare two numbers in [0, below)."""
    return _option(default, partial(_check_pair, below=below))


def decayed() -> Any:
    """Declare which parameters decay: None by default, or what `decaying_names` takes."""
    return _option(None, check_decayed)


def _option(default: object, check: Callable[[str, Any], object]) -> Any:
    # Any, because a type checker has to see the default and not the field.
    return field(default=default, metadata={"check": check})


def _check_rate(name: str, value: Any) -> Any:
    as_schedule(name, value)
    return value


def _check_pair(name: str, values: object, *, below: float) -> tuple[float, float]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 2:
        raise TypeError(f"{name} is {values!r}: expected two numbers")
    first, second = (checks.number(f"{name}[{i}]", v, below=below) for i, v in enumerate(values))
    return first, second
