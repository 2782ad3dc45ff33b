"""Networks as estimators of scikit-learn."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xprnn.interop.sklearn.classifier import RNNClassifier
    from xprnn.interop.sklearn.regressor import RNNRegressor

__all__ = ["RNNClassifier", "RNNRegressor"]


def __getattr__(name: str) -> Any:
    # A subclass of scikit-learn's can't be made before that is imported.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from xprnn.interop.sklearn import classifier, regressor
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "sklearn":
            raise
        raise ImportError(
            f'xprnn.interop.sklearn.{name} needs scikit-learn: pip install "xprnn[sklearn]"'
        ) from error
    return getattr(classifier if name == "RNNClassifier" else regressor, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
