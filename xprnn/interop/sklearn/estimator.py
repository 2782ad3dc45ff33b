"""What both estimators share: options, and training by `xprnn.fit`."""

from typing import Any, NamedTuple, Self

from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from xprnn.backend.host.arrays import HostArray, np
from xprnn.data.batches import Batch, minibatches
from xprnn.engine.network import RNN
from xprnn.interop.sklearn.sequences import Sequences, checked_sequences
from xprnn.losses import Loss
from xprnn.optim import OPTIMIZERS, Optimizer, get_optimizer
from xprnn.training.fit import fit
from xprnn.training.history import History


class Data(NamedTuple):
    """What a network is trained on."""

    sequences: Sequences
    target: HostArray
    weights: HostArray | None
    stepwise: bool

    def part(self, rows: HostArray) -> "Data":
        """Return some of the samples."""
        target = self.target[:, rows] if self.stepwise else self.target[rows]
        weights = None if self.weights is None else self.weights[rows]
        return Data(self.sequences.part(rows), target, weights, self.stepwise)


class Estimator(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: options, and training by `xprnn.fit`."""

    def __init__(
        self,
        hidden_size: int | tuple[int, ...] = 32,
        cell: Any = "gru",
        *,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        residual: bool = False,
        projection: int | None = None,
        heads: int = 1,
        initializer: Any = "uniform",
        loss: Any = None,
        optimizer: Any = "adam",
        learning_rate: float = 0.01,
        batch_size: int = 32,
        max_iter: int = 100,
        clip_norm: float | None = 1.0,
        clip_by: str = "network",
        window: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 0.0,
        backend: str = "numpy",
        device: Any = None,
        random_state: Any = None,
    ) -> None:
        self.hidden_size = hidden_size
        self.cell = cell
        self.layers = layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.residual = residual
        self.projection = projection
        self.heads = heads
        self.initializer = initializer
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.clip_norm = clip_norm
        self.clip_by = clip_by
        self.window = window
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.backend = backend
        self.device = device
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    # What a subclass adds.

    def _data(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Data:
        raise NotImplementedError(f"{type(self).__name__}._data")

    def _outputs(self, data: Data) -> int:
        raise NotImplementedError(f"{type(self).__name__}._outputs")

    def _loss(self, data: Data) -> Loss:
        raise NotImplementedError(f"{type(self).__name__}._loss")

    # What they share.

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new network.

        Parameters
        ----------
        X : array, (n, T, I) or (n, T), or list of array, (T_k, I) each
            The samples.  Numbers in a row, (n, T), are one series each.
        y
            The targets; see the class.
        sample_weight : array, (n,), optional
            How much each sample counts.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If an option or an argument is not what it should be.
        """
        data = self._data(X, y, sample_weight, reset=True)
        self._start(data)
        validation = None
        if self.early_stopping:
            rows = np.arange(data.sequences.x.shape[1])
            labels = data.target if isinstance(self, ClassifierMixin) else None
            kept, held = train_test_split(
                rows,
                test_size=self.validation_fraction,
                random_state=int(self._rng.integers(2**31)),
                stratify=labels,
            )
            data, validation = data.part(kept), data.part(held)
            if validation.weights is not None and not validation.weights.any():
                raise ValueError(
                    f"the {len(held)} samples that early_stopping holds out all have a "
                    "sample_weight of 0: expected a larger validation_fraction, or another "
                    "random_state"
                )
        self._train(data, self.max_iter, validation)
        return self

    def _start(self, data: Data) -> None:
        """Make a network with new weights."""
        self._rng = np.random.default_rng(
            check_random_state(self.random_state).randint(2**31, size=4)
        )
        x = data.sequences.x
        self.net_ = RNN(
            x.shape[2],
            self.hidden_size,
            self._outputs(data),
            cell=self.cell,
            layers=self.layers,
            bidirectional=self.bidirectional,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            residual=self.residual,
            projection=self.projection,
            heads=self.heads,
            initializer=self.initializer,
            returns="sequence" if data.stepwise else "last",
            backend=self.backend,
            device=self.device,
            dtype=str(x.dtype),
            rng=self._rng,
        )
        self.n_iter_ = 0
        self._optimizer_state: Any = None

    def _go_on(self, data: Data, *, first: bool) -> None:
        """Train for one epoch, as a continuation of the last one."""
        if first:
            self._start(data)
        optimizer = _Continued(self._optimizer(), getattr(self, "_optimizer_state", None))
        self._train(data, 1, optimizer=optimizer)
        self._optimizer_state = optimizer.state

    def _train(
        self,
        data: Data,
        epochs: int,
        validation: Data | None = None,
        optimizer: Optimizer | None = None,
    ) -> None:
        net = self.net_
        to_device = net.backend.asarray
        self.history_: History = fit(
            net,
            minibatches(
                to_device(data.sequences.x),
                to_device(data.target),
                self.batch_size,
                lengths=data.sequences.lengths,
                weights=None if data.weights is None else to_device(data.weights),
                rng=self._rng,
            ),
            loss=self._loss(data),
            optimizer=self._optimizer() if optimizer is None else optimizer,
            epochs=epochs,
            window=self.window,
            clip_norm=self.clip_norm,
            clip_by=self.clip_by if self.clip_norm is not None else "network",
            validation=None if validation is None else [self._batch(validation)],
            patience=None if validation is None else self.n_iter_no_change,
            min_delta=self.tol,
        )
        self.n_iter_ += len(self.history_.loss)

    def _batch(self, data: Data) -> Batch:
        to_device = self.net_.backend.asarray
        return Batch(
            to_device(data.sequences.x),
            to_device(data.target),
            lengths=data.sequences.lengths,
            weights=None if data.weights is None else to_device(data.weights),
        )

    def _optimizer(self) -> Optimizer:
        if isinstance(self.optimizer, str) and self.optimizer in OPTIMIZERS:
            kind: Any = OPTIMIZERS[self.optimizer]
            made: Optimizer = kind(self.learning_rate)
            return made
        return get_optimizer(self.optimizer)

    def _weights(self, sample_weight: Any, x: HostArray) -> HostArray | None:
        if sample_weight is None:
            return None
        found: HostArray = _check_sample_weight(
            sample_weight, x[0], dtype=x.dtype, ensure_non_negative=True
        )
        if not found.any():
            raise ValueError("sample_weight is zero for all samples: expected some above zero")
        return found

    def _output(self, X: Any) -> tuple[HostArray, Sequences]:
        """Return the network's output, time-major."""
        check_is_fitted(self, "net_")
        sequences = checked_sequences(self, X, reset=False)
        net = self.net_
        output, _ = net(
            net.backend.asarray(sequences.x, dtype=net.backend.dtype_name),
            lengths=sequences.lengths,
        )
        return net.backend.to_numpy(output), sequences


class _Continued:
    """An optimizer that goes on from a state, and keeps the last one."""

    def __init__(self, optimizer: Optimizer, state: Any) -> None:
        self.optimizer, self.state = optimizer, state

    def init(self, parameters: Any) -> Any:
        if self.state is None:
            self.state = self.optimizer.init(parameters)
        return self.state

    def update(self, gradients: Any, state: Any, parameters: Any) -> tuple[Any, Any]:
        parameters, self.state = self.optimizer.update(gradients, state, parameters)
        return parameters, self.state
