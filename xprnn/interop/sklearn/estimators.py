"""`RNNRegressor` and `RNNClassifier`."""

from dataclasses import replace
from typing import Any, NamedTuple, Self

from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from xprnn.backend.host.arrays import HostArray, np
from xprnn.data.batches import Batch, minibatches
from xprnn.engine.network import RNN
from xprnn.interop.sklearn.sequences import (
    Sequences,
    checked_sequences,
    is_ragged,
    stepwise_target,
)
from xprnn.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    GaussianNLL,
    Loss,
    PoissonNLL,
    get_loss,
)
from xprnn.optim import OPTIMIZERS, Optimizer, get_optimizer
from xprnn.training.fit import fit
from xprnn.training.history import History


class _Data(NamedTuple):
    """What a network is trained on."""

    sequences: Sequences
    target: HostArray
    weights: HostArray | None
    stepwise: bool

    def part(self, rows: HostArray) -> "_Data":
        """Return some of the samples."""
        target = self.target[:, rows] if self.stepwise else self.target[rows]
        weights = None if self.weights is None else self.weights[rows]
        return _Data(self.sequences.part(rows), target, weights, self.stepwise)


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: options, and training by `xprnn.fit`."""

    def __init__(
        self,
        hidden_size: int = 32,
        cell: Any = "gru",
        *,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
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

    def _data(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> _Data:
        raise NotImplementedError(f"{type(self).__name__}._data")

    def _outputs(self, data: _Data) -> int:
        raise NotImplementedError(f"{type(self).__name__}._outputs")

    def _loss(self, data: _Data) -> Loss:
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
        self._train(data, self.max_iter, validation)
        return self

    def _start(self, data: _Data) -> None:
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
            returns="sequence" if data.stepwise else "last",
            backend=self.backend,
            device=self.device,
            dtype=str(x.dtype),
            rng=self._rng,
        )
        self.n_iter_ = 0
        self._optimizer_state: Any = None

    def _go_on(self, data: _Data, *, first: bool) -> None:
        """Train for one epoch, as a continuation of the last one."""
        if first:
            self._start(data)
        optimizer = _Continued(self._optimizer(), getattr(self, "_optimizer_state", None))
        self._train(data, 1, optimizer=optimizer)
        self._optimizer_state = optimizer.state

    def _train(
        self,
        data: _Data,
        epochs: int,
        validation: _Data | None = None,
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

    def _batch(self, data: _Data) -> Batch:
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


class RNNRegressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A recurrent network that forecasts numbers, as an estimator of scikit-learn.

    It is an `RNN` trained by `xprnn.fit`, with scikit-learn's layout of data and names of options.

    ``X`` is (n, T, I): n samples of T steps with I features; or (n, T), one feature; or a list of
    arrays (T_k, I) of unequal lengths.  ``y`` is (n,) or (n, O), read from the last step of each
    sample; or (n, T, O), or a list of (T_k, O): a target for each step.

    Parameters
    ----------
    hidden_size, cell, layers, bidirectional, dropout
        See `RNN`.
    loss : str or Loss, optional
        None: ``"squared_error"``.
    optimizer : str or Optimizer
        A name, with ``learning_rate``; or an optimizer with options of its own.
    learning_rate : float
        Of an optimizer that is given by name.
    batch_size : int
        Samples in a batch.
    max_iter : int
        Epochs.
    clip_norm : float or None
        Gradients are scaled down to this norm.
    clip_by : {"network", "layer", "parameter"}
        All of them together, those of each layer, or each by itself.
    window : int or None
        Windowed truncation; see `RNN.backward`.
    early_stopping : bool
        Hold out ``validation_fraction`` of the samples, stop when their loss has not fallen by more
        than ``tol`` for ``n_iter_no_change`` epochs, and keep the weights of the best one.
    validation_fraction : float
    n_iter_no_change : int
    tol : float
    backend, device
        See `get_backend`.
    random_state : int, RandomState or None
        Initial weights, order of the samples, dropout, and what is held out.

    Attributes
    ----------
    net_ : RNN
        The network.
    history_ : History
        Of the training.
    n_iter_ : int
        How many epochs were trained.
    n_features_in_ : int
        I; of X (n, T) it is T.
    feature_names_in_ : array of str
        If X was a data frame.

    Notes
    -----
    Neither X nor y is scaled: use a ``Pipeline`` with a scaler, and ``TransformedTargetRegressor``.
    The network computes in float32 if X is float32, else in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from xprnn.interop.sklearn import RNNRegressor
    >>> X = np.random.default_rng(0).normal(size=(60, 10, 2))
    >>> y = X[:, :, 0].mean(axis=1)
    >>> model = RNNRegressor(8, max_iter=30, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.9
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _data(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> _Data:
        sequences = checked_sequences(self, X, reset=reset)
        weights = self._weights(sample_weight, sequences.x)
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        target = stepwise_target(y, sequences)
        if target is not None:
            return _Data(sequences, target, weights, stepwise=True)
        y = check_array(y, ensure_2d=False, dtype=sequences.x.dtype, input_name="y", estimator=self)
        check_consistent_length(sequences.x[0], y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if reset:
            self._one = y.ndim == 1
        return _Data(sequences, y.reshape(len(y), -1), weights, stepwise=False)

    def _outputs(self, data: _Data) -> int:
        # A loss may read several entries of the output for one of the target.
        return int(data.target.shape[-1]) * int(getattr(self._loss(data), "outputs", 1))

    def _loss(self, data: _Data) -> Loss:
        del data
        return get_loss("squared_error" if self.loss is None else self.loss)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch, from the weights and the optimizer's state of the last call.

        Parameters and errors are those of `fit`.
        """
        first = not hasattr(self, "net_")
        self._go_on(self._data(X, y, sample_weight, reset=first), first=first)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return forecasts.

        Parameters
        ----------
        X
            Samples in the layout of `fit`.
        return_std : bool
            Return the standard deviation, too, which ``loss="gaussian"`` forecasts.

        Returns
        -------
        y : array
            In the layout of ``fit``'s: (n,), (n, O) or (n, T, O); for a list of samples with a
            target for each step a list of (T_k, O).  With ``loss="poisson"``, expected counts.
        std : array
            Only with ``return_std``, in the same layout.
        """
        output, sequences = self._output(X)
        loss = get_loss("squared_error" if self.loss is None else self.loss)
        deviation = None
        if isinstance(loss, GaussianNLL):
            half = output.shape[-1] // 2
            output, deviation = output[..., :half], np.exp(0.5 * output[..., half:])
        elif isinstance(loss, PoissonNLL):
            output = np.exp(output)
        elif isinstance(loss, BinaryCrossEntropy):
            output = 0.5 * np.tanh(0.5 * output) + 0.5
        if not return_std:
            return self._laid_out(output, sequences, X)
        if deviation is None:
            raise ValueError(f'return_std is True, but the loss is {loss}: expected "gaussian"')
        return tuple(self._laid_out(a, sequences, X) for a in (output, deviation))

    def _laid_out(self, output: HostArray, sequences: Sequences, X: Any) -> Any:
        if self.net_.returns == "last":
            return output[:, 0] if self._one else output
        first = output.swapaxes(0, 1)
        if not is_ragged(X):
            return np.ascontiguousarray(first)
        lengths = sequences.lengths or (output.shape[0],) * output.shape[1]
        return [a[:steps].copy() for a, steps in zip(first, lengths, strict=True)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R², the share of the variance that is explained, over all steps together."""
        found = self.predict(X)
        if self.net_.returns == "last":
            return float(r2_score(y, found, sample_weight=sample_weight))
        if sample_weight is not None:
            steps = [len(a) for a in found]
            sample_weight = np.repeat(np.asarray(sample_weight), steps)
        joined = (np.concatenate([np.asarray(a) for a in b]) for b in (y, found))
        return float(r2_score(*joined, sample_weight=sample_weight))


class RNNClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A recurrent network that classifies sequences, as an estimator of scikit-learn.

    It is an `RNN` trained by `xprnn.fit` with cross-entropy.  ``X`` is as in `RNNRegressor`;
    ``y``, (n,), has the class of each sample, and is read from its last step.

    Parameters
    ----------
    hidden_size, cell, layers, bidirectional, dropout
        See `RNN`.
    loss : CrossEntropy, optional
        With label smoothing, say.  None: ``CrossEntropy()``.
    class_weight : dict, "balanced" or None
        How much each class counts; ``"balanced"``: in inverse proportion to its frequency.
    optimizer, learning_rate, batch_size, max_iter, clip_norm, clip_by, window, early_stopping, \
    validation_fraction, n_iter_no_change, tol, backend, device, random_state
        See `RNNRegressor`.

    Attributes
    ----------
    classes_ : array
        The classes, sorted.
    net_, history_, n_iter_, n_features_in_, feature_names_in_
        See `RNNRegressor`.

    Examples
    --------
    >>> import numpy as np
    >>> from xprnn.interop.sklearn import RNNClassifier
    >>> X = np.random.default_rng(0).normal(size=(60, 10))      # 60 series of 10 steps
    >>> y = np.where(X.sum(axis=1) > 0, "up", "down")
    >>> model = RNNClassifier(8, max_iter=30, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.9, model.predict_proba(X).shape
    (True, (60, 2))
    """

    def __init__(
        self,
        hidden_size: int = 32,
        cell: Any = "gru",
        *,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        loss: Any = None,
        class_weight: Any = None,
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
        # scikit-learn reads the options from this signature.
        super().__init__(
            hidden_size,
            cell,
            layers=layers,
            bidirectional=bidirectional,
            dropout=dropout,
            loss=loss,
            optimizer=optimizer,
            learning_rate=learning_rate,
            batch_size=batch_size,
            max_iter=max_iter,
            clip_norm=clip_norm,
            clip_by=clip_by,
            window=window,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            backend=backend,
            device=device,
            random_state=random_state,
        )
        self.class_weight = class_weight

    def _data(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> _Data:
        sequences = checked_sequences(self, X, reset=reset)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        check_consistent_length(sequences.x[0], y)
        if reset and not hasattr(self, "_classes"):
            self.classes_ = np.unique(y)
        elif reset:
            self.classes_ = self._classes
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes, but the data contains "
                f"only one class: {self.classes_[0]!r}"
            )
        index = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        unknown = np.unique(y[self.classes_[index] != y])
        if len(unknown):
            raise ValueError(f"y has classes {unknown} that are not in {self.classes_}")
        weights = self._weights(sample_weight, sequences.x)
        return _Data(sequences, index, weights, stepwise=False)

    def _outputs(self, data: _Data) -> int:
        del data
        return len(self.classes_)

    def _loss(self, data: _Data) -> Loss:
        loss = CrossEntropy() if self.loss is None else get_loss(self.loss)
        if not isinstance(loss, CrossEntropy):
            raise ValueError(f"loss is {loss}: expected a CrossEntropy, or None")
        if self.class_weight is None:
            return loss
        weights = compute_class_weight(
            self.class_weight, classes=self.classes_, y=self.classes_[data.target]
        )
        return replace(loss, class_weights=tuple(map(float, weights)))

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch, from the weights and the optimizer's state of the last call.

        Parameters
        ----------
        X, y, sample_weight
            See `fit`.
        classes : array
            All classes that there will be; needed in the first call.
        """
        first = not hasattr(self, "net_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit")
        if classes is not None:
            given = np.unique(classes)
            if not first and not np.array_equal(given, self.classes_):
                raise ValueError(
                    f"classes is {classes!r}: expected {self.classes_}, as in the first call"
                )
            self._classes = given
        try:
            data = self._data(X, y, sample_weight, reset=first)
        finally:
            # A later call of `fit` finds its own classes.
            self.__dict__.pop("_classes", None)
        self._go_on(data, first=first)
        return self

    def predict_proba(self, X: Any) -> HostArray:
        """Return the probability of each class, (n, classes), in the order of ``classes_``."""
        output, _ = self._output(X)
        # In float64, so that they sum to one.
        powers = np.exp((output - output.max(axis=1, keepdims=True)).astype(np.float64))
        found: HostArray = powers / powers.sum(axis=1, keepdims=True)
        return found

    def predict_log_proba(self, X: Any) -> HostArray:
        """Return the logarithms of `predict_proba`."""
        output, _ = self._output(X)
        far = (output - output.max(axis=1, keepdims=True)).astype(np.float64)
        found: HostArray = far - np.log(np.exp(far).sum(axis=1, keepdims=True))
        return found

    def predict(self, X: Any) -> HostArray:
        """Return the most probable class of each sample, (n,)."""
        output, _ = self._output(X)
        found: HostArray = self.classes_[output.argmax(axis=1)]
        return found


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
