"""The table of optimizers: each row is compared with torch and runs on every backend."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from xprnn.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, Rprop


@dataclass(frozen=True)
class Row:
    """An optimizer and its judge.

    Attributes
    ----------
    theirs : callable
        ``theirs(groups)`` makes torch's.
    weight_decay : float
        The weight decay of the parameters with two axes.
    exact : bool
        Whether a sparse gradient gives the update of its dense form.
    """

    id: str
    ours: Optimizer
    theirs: Callable[..., Any]
    weight_decay: float = 0.0
    exact: bool = False

    def judge(self, parameters: dict[str, Any]) -> Any:
        """Return torch's optimizer: biases are a group without weight decay."""
        groups = [
            {"params": [p], "weight_decay": self.weight_decay * (p.ndim >= 2)}
            for p in parameters.values()
        ]
        return self.theirs(groups)


def _torch() -> Any:
    """Import torch, which a machine that runs the other tests may lack."""
    return import_module("torch")


def _row(name: str, kind: Any, judge: str, mine: dict, theirs: dict, **options: Any) -> Row:
    if "weight_decay" in mine:
        options["weight_decay"] = mine["weight_decay"]
    return Row(name, kind(**mine), lambda groups: _theirs(judge, groups, **theirs), **options)


def _theirs(judge: str, groups: list[dict], **options: Any) -> Any:
    return getattr(_torch().optim, judge)(groups, **options)


_sgd = partial(_row, kind=SGD, judge="SGD", exact=True)
_adam = partial(_row, kind=Adam, judge="Adam")
_adamw = partial(_row, kind=AdamW, judge="AdamW")
_rmsprop = partial(_row, kind=RMSprop, judge="RMSprop")
_adagrad = partial(_row, kind=Adagrad, judge="Adagrad")


def _same(rate: float, **options: Any) -> dict[str, dict]:
    """Return options that have the same names on both sides, except for two."""
    short = {"learning_rate": "lr", "epsilon": "eps"}
    mine = {"learning_rate": rate, **options}
    return {"mine": mine, "theirs": _without_decay({short.get(k, k): v for k, v in mine.items()})}


def _without_decay(options: dict) -> dict:
    return {k: v for k, v in options.items() if k != "weight_decay"}


RULES = (
    _sgd("sgd", **_same(0.02)),
    _sgd("sgd-momentum", **_same(0.02, momentum=0.9)),
    _sgd("sgd-nesterov", **_same(0.02, momentum=0.9, nesterov=True)),
    _sgd("sgd-decay", **_same(0.02, weight_decay=0.3)),
    _sgd("sgd-momentum-decay", **_same(0.02, momentum=0.9, weight_decay=0.3)),
    _sgd("sgd-nesterov-decay", **_same(0.02, momentum=0.9, nesterov=True, weight_decay=0.3)),
    _adam("adam", **_same(0.05)),
    _adam("adam-options", **_same(0.05, betas=(0.8, 0.95), epsilon=0.01, weight_decay=0.3)),
    _adam("adam-amsgrad", **_same(0.05, betas=(0.9, 0.8), amsgrad=True)),
    _adamw("adamw", **_same(0.05, weight_decay=0.3)),
    _adamw("adamw-amsgrad", **_same(0.05, betas=(0.9, 0.8), amsgrad=True, weight_decay=0.3)),
    _rmsprop("rmsprop", **_same(0.005)),
    _rmsprop("rmsprop-momentum", **_same(0.002, alpha=0.9, momentum=0.9, epsilon=0.01)),
    _rmsprop("rmsprop-centered", **_same(0.005, centered=True, epsilon=0.1)),
    _rmsprop(
        "rmsprop-all",
        **_same(0.002, alpha=0.9, centered=True, momentum=0.5, epsilon=0.1, weight_decay=0.3),
    ),
    _adagrad("adagrad", **_same(0.1), exact=True),
    _adagrad(
        "adagrad-options",
        mine={
            "learning_rate": 0.3,
            "decay": 0.02,
            "initial": 0.1,
            "epsilon": 0.01,
            "weight_decay": 0.3,
        },
        theirs={"lr": 0.3, "lr_decay": 0.02, "initial_accumulator_value": 0.1, "eps": 0.01},
    ),
    Row("rprop", Rprop(), lambda groups: _theirs("Rprop", _bare(groups), lr=0.01), exact=True),
)


def _bare(groups: list[dict]) -> list[Any]:
    return [p for group in groups for p in group["params"]]


KINDS = tuple(
    row
    for row in RULES
    if row.id
    in ("sgd-nesterov-decay", "adam-amsgrad", "adamw", "rmsprop-all", "adagrad-options", "rprop")
)
"""Every rule once, for costly tests."""

LAZY = tuple(row for row in RULES if not row.exact)
"""The rules that do not change the rows that a sparse gradient does not hold."""

each_rule = pytest.mark.parametrize("row", RULES, ids=lambda row: row.id)
each_lazy_rule = pytest.mark.parametrize("row", LAZY, ids=lambda row: row.id)


def walk(row: Row, steps: int) -> tuple[list[dict], list[dict]]:
    """Return both sides' parameters after every step downhill on Σ sin²(p A)."""
    rng = np.random.default_rng(0)
    A = np.eye(4) + 0.3 * rng.normal(size=(4, 4))
    ours = {"bias": rng.normal(size=4), "weight": rng.normal(size=(2, 4))}
    torch = _torch()
    theirs = {name: torch.tensor(p, requires_grad=True) for name, p in ours.items()}
    judge, state = row.judge(theirs), row.ours.init(ours)
    found, wanted = [], []
    for _ in range(steps):
        judge.zero_grad()
        sum((torch.sin(p @ torch.tensor(A)) ** 2).sum() for p in theirs.values()).backward()
        judge.step()
        wanted.append({name: p.detach().numpy().copy() for name, p in theirs.items()})
        gradients = {name: np.sin(2 * (p @ A)) @ A.T for name, p in ours.items()}
        ours, state = row.ours.update(gradients, state, ours)
        found.append(ours)
    return found, wanted
