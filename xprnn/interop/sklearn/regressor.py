"""`RNNRegressor`."""

from typing import Any, Self

from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

from xprnn.backend.host.arrays import HostArray, np
from xprnn.interop.sklearn.estimator import Data, Estimator
from xprnn.interop.sklearn.sequences import (
    Sequences,
    checked_sequences,
    is_ragged,
    stepwise_target,
)
from xprnn.losses import BinaryCrossEntropy, GaussianNLL, Loss, PoissonNLL, get_loss


class RNNRegressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """A recurrent network that forecasts numbers, as an estimator of scikit-learn.

    It is an `RNN` trained by `xprnn.fit`, with scikit-learn's layout of data and names of options.

    ``X`` is (n, T, I): n samples of T steps with I features; or (n, T), one feature; or a list of
    arrays (T_k, I) of unequal lengths.  ``y`` is (n,) or (n, O), read from the last step of each
    sample; or (n, T, O), or a list of (T_k, O): a target for each step.

    Parameters
    ----------
    hidden_size, cell, layers, bidirectional, dropout, recurrent_dropout, residual, projection, \
    heads, initializer
        See `RNN`; a tuple of hidden sizes has one for each layer.
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

    def _data(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Data:
        sequences = checked_sequences(self, X, reset=reset)
        weights = self._weights(sample_weight, sequences.x)
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        target = stepwise_target(y, sequences)
        if target is not None:
            return Data(sequences, target, weights, stepwise=True)
        y = check_array(y, ensure_2d=False, dtype=sequences.x.dtype, input_name="y", estimator=self)
        check_consistent_length(sequences.x[0], y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if reset:
            self._one = y.ndim == 1
        return Data(sequences, y.reshape(len(y), -1), weights, stepwise=False)

    def _outputs(self, data: Data) -> int:
        # A loss may read several entries of the output for one of the target.
        return int(data.target.shape[-1]) * int(getattr(self._loss(data), "outputs", 1))

    def _loss(self, data: Data) -> Loss:
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
