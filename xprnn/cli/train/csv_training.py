"""The trainings of ``xprnn train csv``: stopped by a tail of the training part, then on all."""

import argparse
import math
from typing import NamedTuple

from xprnn import checks
from xprnn.backend import Backend
from xprnn.backend.host.arrays import HostArray, generator, np
from xprnn.cli.train.options import chosen_optimizer, network_arguments
from xprnn.cli.train.session import Session
from xprnn.data.combination import Choice
from xprnn.data.drawn import window_batches
from xprnn.engine.network import RNN
from xprnn.models.ensemble import merge
from xprnn.models.forecaster import Forecaster
from xprnn.optim import Optimizer
from xprnn.training.checkpoint import Checkpoint

EPOCHS, PATIENCE = 40, 6
"""The most epochs of a training that stops early, and how many without a better one it waits."""
LEAST, MOST = 10, 50
"""The updates of such an epoch: several passes over few windows, a part of one over many."""
TAIL = 0.2
"""The share of the training part that tells when to stop."""
VALIDATION_BATCH = 512
CHANCE = 3.0
"""The squared correlation, times the number of values, that the networks may owe to chance."""


class Data(NamedTuple):
    """The series and what is done with it.

    Attributes
    ----------
    values : host array, (N, O)
    covariates : host array or None, (M, C)
    head, cut : int
        Where the tail begins that tells when to stop, and where the held-out part begins.
    """

    values: HostArray
    covariates: HostArray | None
    head: int
    cut: int

    def known(self, stop: int) -> HostArray | None:
        """Return the covariates before an index."""
        return None if self.covariates is None else self.covariates[:stop]


class Trainer:
    """Makes and trains forecasters of a series.

    Attributes
    ----------
    kept : list of RNN
        The networks of the first forecaster that were trained to their end; or the one that was
        not, if it is alone.
    first : Forecaster
        The forecaster that they belong to; its network is one of them.
    exact : bool
        Whether the linear part leaves nothing for a network to learn.
    updates : int
        The updates of each network: the best number on the tail; 0 if it supports none.
    evaluated : Forecaster or None
        The one that is compared, once it is known.
    shares : tuple of float
        How much of the networks' output each column takes.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        backend: Backend,
        data: Data,
        choice: Choice,
        files: list[Checkpoint | None],
    ) -> None:
        self.args, self.backend, self.data, self.choice = args, backend, data, choice
        self.count = checks.positive_int("--networks", args.networks)
        self._files = iter(files)
        self.stopping = args.epochs is None
        self.kept: list[RNN] = []
        self.best: list[int] = []
        self.updates = 0
        self.shares: tuple[float, ...] = ()
        self.evaluated: Forecaster | None = None
        self.first = self._forecaster(0, 0, data.head if self.stopping else data.cut)
        self.exact = bool(self.first.linear) and not any(self.first.residual)
        sample = self._batches(self.first, data.head if self.stopping else data.cut, None)
        self.length = len(sample)
        self.epochs: int = EPOCHS if args.epochs is None else args.epochs
        self.optimizer: Optimizer = chosen_optimizer(args, self.epochs * self.length)

    def train_first(self, session: Session) -> None:
        """Train the networks that are compared; they stop when the loss on the tail has risen."""
        data = self.data
        for k in range(self.count):
            made = self._forecaster(0, k, data.head if self.stopping else data.cut)
            validation = None
            if self.stopping:
                validation = made.training_batches(
                    data.values[: data.cut],
                    VALIDATION_BATCH,
                    None,
                    covariates=data.known(data.cut),
                    start=data.head,
                )
            self.kept.append(made.net)
            stop = data.head if self.stopping else data.cut
            history = session.fit(
                made.net,
                self._batches(made, stop, self._rng(0, k, 1)),
                self.optimizer,
                next(self._files),
                epochs=self.epochs,
                validation=validation,
                patience=PATIENCE if self.stopping else None,
                recompute=self.args.recompute,
            )
            self.best.append(history.best_epoch or len(history))
            session.skip(self.epochs - len(history))

    def compared(self, *, whole: bool) -> Forecaster:
        """Return the forecaster that is compared, whose linear part has seen the training part.

        ``whole``: whether all networks were trained to their end.  One that was not would spoil the
        mean, so it counts only if it is alone.
        """
        kept = self.kept if whole else self.kept[:-1] or self.kept
        if not kept:
            kept = [self.first.net]
        self.kept = kept
        epochs = round(sum(self.best) / len(self.best)) if self.best else self.epochs
        self.updates = epochs * self.length
        made = self.first._replace(net=merge(kept))
        if made.linear:
            self.shares = self._shares(made) if self.stopping else (1.0,) * len(made.linear)
            residual = tuple(s * r for s, r in zip(self.shares, made.residual, strict=True))
            if not any(residual):
                self.updates = 0
            made = made._replace(residual=residual)
        self.first = made
        self.evaluated = self._with_linear(made, self.data.cut, made.residual)
        return self.evaluated

    def again(self, session: Session, phase: int, stop: int) -> Forecaster:
        """Train new networks on the values before ``stop``, with as many updates as were best."""
        nets = []
        epochs = max(1, self.updates // self.length) if self.stopping else self.epochs
        for k in range(self.count):
            made = self._forecaster(phase, k, stop)
            batches = self._batches(made, stop, self._rng(phase, k, 1), exactly=self.length)
            file = next(self._files)
            session.fit(
                made.net,
                batches,
                self.optimizer,
                file,
                epochs=epochs,
                recompute=self.args.recompute,
            )
            session.skip(self.epochs - epochs)
            nets.append(made.net)
        made = made._replace(net=merge(nets))
        if not made.linear:
            return made
        residual = tuple(s * r for s, r in zip(self.shares, made.residual, strict=True))
        return made._replace(residual=residual)

    def silent(self, stop: int) -> Forecaster:
        """Return a forecaster of the linear part alone, fitted on the values before ``stop``."""
        return self._with_linear(self.first, stop, (0.0,) * len(self.first.linear))

    def _with_linear(self, made: Forecaster, stop: int, residual: tuple[float, ...]) -> Forecaster:
        if not made.linear:
            return made
        values, known = self.data.values[:stop], self.data.known(stop)
        return made._replace(linear=self.choice.fitted(values, known), residual=residual)

    def _shares(self, made: Forecaster) -> tuple[float, ...]:
        """Return for each column how much of the networks' output the tail supports, 0 to 1.

        It is the least-squares factor of the output, less for a correlation r of output and target
        over n values that chance makes, too: times 1 - 3/(n r²), at least 0.
        """
        data = self.data
        tail = made.training_batches(
            data.values[: data.cut],
            VALIDATION_BATCH,
            None,
            covariates=data.known(data.cut),
            start=data.head,
        )
        outputs, targets = [], []
        for batch in tail:
            output, _ = made.net(batch.x)
            outputs.append(self.backend.to_numpy(output).astype(np.float64))
            targets.append(self.backend.to_numpy(batch.target).astype(np.float64))
        out, target = np.concatenate(outputs), np.concatenate(targets)
        found = []
        for y, t in zip(out.T, target.T, strict=True):
            yy, tt, yt = float(y @ y), float(t @ t), float(y @ t)
            if yt <= 0 or yy == 0 or tt == 0:
                found.append(0.0)
                continue
            squared = yt * yt / (yy * tt)
            found.append(min(1.0, yt / yy) * max(0.0, 1.0 - CHANCE / (len(y) * squared)))
        return tuple(found)

    def _forecaster(self, phase: int, k: int, stop: int) -> Forecaster:
        """Return a new network's forecaster, scaled by the values before ``stop``."""
        args, values, known = self.args, self.data.values[:stop], self.data.known(stop)
        outputs = values.shape[1]
        inputs = outputs + (0 if known is None else known.shape[1])
        options = network_arguments(args) | {"returns": "last", "backend": self.backend}
        net = RNN(inputs, args.hidden, outputs, rng=self._rng(phase, k, 0), **options)
        made = Forecaster.fitted_scaling(
            net,
            self.choice.window,
            values if outputs > 1 else values[:, 0],
            difference=self.choice.differencing.first,
            season=self.choice.differencing.season,
            covariates=known,
        )
        if args.no_linear:
            return made
        # It begins as the linear part: the readout's first output is 0.
        zeros = {
            name: p * 0 if name.startswith("readout.") else p for name, p in net.parameters.items()
        }
        net.parameters = zeros
        return made.with_linear(self.choice.fitted(values, known), values, known)

    def _batches(
        self, made: Forecaster, stop: int, rng: "np.random.Generator | None", exactly: int = 0
    ) -> window_batches:
        least, most = (LEAST, MOST) if self.stopping else (1, None)
        return made.training_batches(
            self.data.values[:stop],
            self.args.batch,
            rng,
            covariates=self.data.known(stop),
            least=exactly if exactly and self.stopping else least,
            most=exactly if exactly and self.stopping else most,
        )

    def _rng(self, phase: int, k: int, what: int) -> "np.random.Generator":
        """Return a generator of its own for each training, so that none depends on another."""
        numbers = np.random.SeedSequence([self.args.seed, phase, k, what]).generate_state(2)
        return generator(int(numbers[0]) << 32 | int(numbers[1]))


def tail_of(cut: int) -> int:
    """Return how many values of a training part of ``cut`` tell when to stop."""
    return max(2, math.ceil(TAIL * cut))
