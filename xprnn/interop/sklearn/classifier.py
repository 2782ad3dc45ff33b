"""`RNNClassifier`."""

from dataclasses import replace
from typing import Any, Self

from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d

from xprnn.backend.host.arrays import HostArray, np
from xprnn.interop.sklearn.estimator import Data, Estimator
from xprnn.interop.sklearn.sequences import checked_sequences
from xprnn.losses import CrossEntropy, Loss, get_loss


class RNNClassifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """A recurrent network that classifies sequences, as an estimator of scikit-learn.

    It is an `RNN` trained by `xprnn.fit` with cross-entropy.  ``X`` is as in `RNNRegressor`;
    ``y``, (n,), has the class of each sample, and is read from its last step.

    Parameters
    ----------
    hidden_size, cell, layers, bidirectional, dropout, recurrent_dropout, residual, projection, \
    heads, initializer
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
            recurrent_dropout=recurrent_dropout,
            residual=residual,
            projection=projection,
            heads=heads,
            initializer=initializer,
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

    def _data(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Data:
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
        return Data(sequences, index, weights, stepwise=False)

    def _outputs(self, data: Data) -> int:
        del data
        return len(self.classes_)

    def _loss(self, data: Data) -> Loss:
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
