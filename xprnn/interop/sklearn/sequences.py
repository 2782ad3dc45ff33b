"""Samples first, as scikit-learn has them, to time-major arrays and back."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sklearn.utils.validation import check_array, validate_data

from xprnn.backend.host.arrays import HostArray, np


class Sequences(NamedTuple):
    """Samples as a network takes them.

    Attributes
    ----------
    x : host array, (T, n, I)
    lengths : tuple of int or None
        The number of steps of each; None if all have T.
    """

    x: HostArray
    lengths: tuple[int, ...] | None

    def part(self, rows: HostArray) -> "Sequences":
        """Return some of the samples."""
        kept = None if self.lengths is None else tuple(self.lengths[k] for k in rows)
        return Sequences(self.x[:, rows], kept)


def checked_sequences(estimator: Any, X: Any, *, reset: bool) -> Sequences:
    """Return the samples of X, (n, T), (n, T, I) or a list of (T_k, I).

    With ``reset`` the estimator takes note of their features, otherwise they have to be those.
    """
    if is_ragged(X):
        arrays = [check_sample(k, a) for k, a in enumerate(X)]
        arrays = [np.asarray(a, dtype=np.result_type(*arrays)) for a in arrays]
        note_features(estimator, arrays[0].shape[1], 3, reset=reset)
        for k, a in enumerate(arrays):
            if a.shape[1] != arrays[0].shape[1]:
                raise ValueError(f"X[{k}] has {a.shape[1]} features, X[0] has {arrays[0].shape[1]}")
        lengths = tuple(len(a) for a in arrays)
        x = np.zeros((max(lengths), len(arrays), arrays[0].shape[1]), arrays[0].dtype)
        for k, a in enumerate(arrays):
            x[: len(a), k] = a
        return Sequences(x, None if min(lengths) == max(lengths) else lengths)
    if dimensions(X) > 3:
        raise ValueError(
            f"X has {dimensions(X)} dimensions: expected (n, T, I), (n, T), or a list of (T_k, I)"
        )
    if dimensions(X) == 3:
        array = check_array(X, dtype=[np.float64, np.float32], allow_nd=True)
        note_features(estimator, array.shape[2], 3, reset=reset)
    else:
        array = validate_data(estimator, X, dtype=[np.float64, np.float32], reset=reset)
        if reset:
            estimator._dimensions = 2
        elif estimator._dimensions != 2:
            raise ValueError(
                f"X has 2 dimensions: expected (n, T, {estimator.n_features_in_}), as in fit"
            )
        # Numbers in a row are the steps of one series.
        array = array[:, :, None]
    return Sequences(np.ascontiguousarray(array.swapaxes(0, 1)), None)


def is_ragged(X: Any) -> bool:
    """Whether X is a list of samples with steps and features each."""
    return (
        isinstance(X, Sequence)
        and not isinstance(X, str | bytes)
        and len(X) > 0
        and all(dimensions(a) == 2 for a in X)
    )


def dimensions(a: Any) -> int:
    """Return the number of dimensions of an array, or of nested lists; 0 if they form none."""
    if hasattr(a, "ndim"):
        return int(a.ndim)
    try:
        return int(np.asarray(a).ndim)
    except ValueError:
        return 0


def check_sample(k: int, a: Any) -> HostArray:
    """Return one sample of a list, known to be an array of finite numbers."""
    found: HostArray = check_array(a, dtype=[np.float64, np.float32], input_name=f"X[{k}]")
    return found


def note_features(estimator: Any, features: int, dimensions: int, *, reset: bool) -> None:
    """Take note of the number of features, or refuse another one than in ``fit``."""
    if reset:
        estimator.n_features_in_, estimator._dimensions = features, dimensions
        # Of a data frame that was fitted before.
        estimator.__dict__.pop("feature_names_in_", None)
    elif (features, dimensions) != (estimator.n_features_in_, estimator._dimensions):
        was = f"(n, T, {estimator.n_features_in_})" if estimator._dimensions == 3 else "(n, T)"
        raise ValueError(
            f"X has {features} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input: {was}, as in fit"
        )


def stepwise_target(y: Any, sequences: Sequences) -> HostArray | None:
    """Return the target of regression step by step, (T, n, O); None if y has one for each sample.

    ``y`` is (n, T, O), or a list of (T_k, O).
    """
    steps, count = sequences.x.shape[:2]
    if is_ragged(y):
        lengths = sequences.lengths or (steps,) * count
        if len(y) != count or any(len(a) != n for a, n in zip(y, lengths, strict=False)):
            raise ValueError("y has other numbers of samples or steps than X")
        outputs = np.shape(y[0])[1]
        target = np.zeros((steps, count, outputs), sequences.x.dtype)
        for k, a in enumerate(y):
            target[: len(a), k] = check_array(a, input_name=f"y[{k}]")
        return target
    if dimensions(y) != 3:
        return None
    array = check_array(y, allow_nd=True, input_name="y")
    if array.shape[:2] != (count, steps):
        raise ValueError(
            f"y has shape {array.shape}, X {count} samples of {steps} steps: expected "
            f"({count}, {steps}, outputs)"
        )
    return np.ascontiguousarray(array.swapaxes(0, 1), dtype=sequences.x.dtype)
