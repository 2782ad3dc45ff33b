"""The estimators; scikit-learn's own checks are the judge."""

import pickle
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import xprnn
from xprnn.data import minibatches
from xprnn.interop.sklearn import RNNClassifier, RNNRegressor
from xprnn.losses import CrossEntropy
from xprnn.optim import SGD

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6, 2))
MEAN = X[:, :, 0].mean(axis=1)
LABELS = np.where(MEAN > 0, "up", "down")


@parametrize_with_checks(
    [
        RNNRegressor(16, max_iter=50, learning_rate=0.03, random_state=0),
        RNNClassifier(8, max_iter=10, learning_rate=0.03, random_state=0),
    ]
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def small(kind=RNNRegressor, **options):
    return kind(4, **({"max_iter": 3, "random_state": 0} | options))


def test_the_network_is_that_of_fit():
    model = small(learning_rate=0.05, batch_size=7).fit(X, MEAN)
    assert isinstance(model.net_, xprnn.RNN)
    assert model.net_.returns == "last"
    assert len(model.history_.loss) == model.n_iter_ == 3
    y, _ = model.net_(X.swapaxes(0, 1))
    assert np.array_equal(model.predict(X), y[:, 0])


def test_unequal_lengths_are_what_each_alone_is():
    ragged = [a[: 2 + k % 5] for k, a in enumerate(X)]
    model = small().fit(ragged, MEAN)
    together = model.predict(ragged)
    alone = [model.predict(a[None])[0] for a in ragged]
    assert np.allclose(together, alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize("ragged", [False, True])
def test_a_target_for_each_step(ragged):
    y = X.cumsum(axis=1)[:, :, :1]
    xs, ys = X, y
    if ragged:
        xs = [a[: 2 + k % 5] for k, a in enumerate(X)]
        ys = [a[: 2 + k % 5] for k, a in enumerate(y)]
    model = small(max_iter=60, learning_rate=0.05).fit(xs, ys)
    found = model.predict(xs)
    assert [a.shape for a in found] == [a.shape for a in ys]
    assert model.score(xs, ys) > 0.5
    weights = np.ones(len(xs))
    assert model.score(xs, ys, weights) == pytest.approx(model.score(xs, ys))


def test_shapes_of_predictions():
    assert small().fit(X, MEAN).predict(X).shape == (40,)
    assert small().fit(X, np.stack([MEAN, -MEAN], axis=1)).predict(X).shape == (40, 2)
    with pytest.warns(UserWarning, match="column-vector"):
        assert small().fit(X, MEAN[:, None]).predict(X).shape == (40,)


def test_numbers_in_a_row_are_a_series():
    series = X[:, :, 0]
    model = small().fit(series, MEAN)
    assert np.array_equal(
        model.predict(series), small().fit(X[:, :, :1], MEAN).predict(X[:, :, :1])
    )
    frame = pd.DataFrame(series, columns=list("abcdef"))
    named = small().fit(frame, MEAN)
    assert named.feature_names_in_.tolist() == list("abcdef")
    assert np.array_equal(named.predict(frame), model.predict(series))


def test_it_learns():
    assert small(max_iter=60, learning_rate=0.05).fit(X, MEAN).score(X, MEAN) > 0.9
    model = small(RNNClassifier, max_iter=60, learning_rate=0.05).fit(X, LABELS)
    assert model.score(X, LABELS) > 0.9
    assert model.classes_.tolist() == ["down", "up"]
    proba = model.predict_proba(X)
    assert np.allclose(proba.sum(axis=1), 1, rtol=0, atol=1e-15)
    assert np.allclose(np.log(proba), model.predict_log_proba(X), rtol=0, atol=1e-12)


def test_in_a_pipeline_a_search_and_pickled():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), small(RNNClassifier)),
        {"rnnclassifier__cell": ["elman", xprnn.cells.LSTM(peepholes=True)]},
        cv=2,
    ).fit(X[:, :, 0], LABELS)
    best = pickle.loads(pickle.dumps(search)).best_estimator_
    assert np.array_equal(best.predict(X[:, :, 0]), search.predict(X[:, :, 0]))
    assert cross_val_score(small(), X, MEAN, cv=2).shape == (2,)
    model = small(cell="lstm", dropout=0.1, layers=2)
    assert clone(model).get_params() == model.get_params()


def test_early_stopping_keeps_the_best():
    model = small(
        RNNClassifier, max_iter=200, early_stopping=True, n_iter_no_change=3, learning_rate=0.1
    ).fit(X, LABELS)
    assert model.n_iter_ < 200
    losses = model.history_.validation_loss
    assert model.history_.best_epoch == 1 + int(np.argmin(losses))


@pytest.mark.parametrize("kind", [RNNRegressor, RNNClassifier])
def test_partial_fit_goes_on_with_the_optimizers_state(kind):
    y = LABELS if kind is RNNClassifier else MEAN
    first = {"classes": ["down", "up"]} if kind is RNNClassifier else {}
    model = small(kind)
    for epoch in range(3):
        model.partial_fit(X, y, **(first if epoch == 0 else {}))
    whole = small(kind).fit(X, y)
    # The same batches in the same order: one training in three calls.
    assert model.n_iter_ == 3
    assert np.allclose(model.net_.parameters["weight_hh_l0"], whole.net_.parameters["weight_hh_l0"])


def test_weights_of_samples_are_repetitions():
    weights = np.where(np.arange(40) < 20, 2.0, 0.0)
    options = {"batch_size": 100, "optimizer": SGD(0.1)}
    weighted = small(**options).fit(X, MEAN, weights)
    repeated = small(**options).fit(X[:20], MEAN[:20])
    assert np.allclose(weighted.predict(X), repeated.predict(X), rtol=0, atol=1e-12)


def test_classes_have_weights():
    y = np.where(np.arange(40) < 4, 1, 0)
    plain = small(RNNClassifier, max_iter=30).fit(X, y).predict_proba(X)[:, 1].mean()
    balanced = small(RNNClassifier, max_iter=30, class_weight="balanced").fit(X, y)
    assert balanced.predict_proba(X)[:, 1].mean() > plain + 0.1
    smooth = small(RNNClassifier, loss=CrossEntropy(label_smoothing=0.1), class_weight={0: 1, 1: 9})
    assert smooth._loss(smooth._data(X, y, None, reset=True)).class_weights == (1, 9)


def test_distributions():
    y = MEAN[:, None] + 0.1
    counts = RNG.poisson(2.0, size=40)
    model = small(loss="gaussian", max_iter=20).fit(X, np.concatenate([y, y], axis=1))
    mean, deviation = model.predict(X, return_std=True)
    assert mean.shape == deviation.shape == (40, 2)
    assert (deviation > 0).all()
    assert (small(loss="poisson", max_iter=20).fit(X, counts).predict(X) > 0).all()
    shares = small(loss="binary_cross_entropy").fit(X, (MEAN > 0).astype(float)).predict(X)
    assert ((shares > 0) & (shares < 1)).all()
    with pytest.raises(ValueError, match="return_std is True, but the loss is"):
        small().fit(X, MEAN).predict(X, return_std=True)


@pytest.mark.another_flavour
def test_other_backends_and_dtypes():
    numpy = small().fit(X, MEAN).predict(X)
    torch = small(backend="torch").fit(X, MEAN).predict(X)
    assert np.allclose(numpy, torch, rtol=0, atol=1e-12)
    assert small().fit(X.astype("float32"), MEAN).predict(X).dtype == np.float32


BAD = [
    (lambda m: m.predict(X), NotFittedError, "not fitted"),
    (lambda m: m.fit(X, MEAN[:5]), ValueError, "inconsistent numbers of samples"),
    (lambda m: m.fit(X * np.nan, MEAN), ValueError, "NaN"),
    (lambda m: m.fit([X[0], X[1, :, :1]], MEAN[:2]), ValueError, r"X\[1\] has 1 features"),
    (
        lambda m: m.fit([X[0], np.full((3, 2), np.nan)], MEAN[:2]),
        ValueError,
        r"X\[1\] contains NaN",
    ),
    (
        lambda m: m.fit(X, X[:, :3]),
        ValueError,
        r"y has shape \(40, 3, 2\), X 40 samples of 6 steps",
    ),
    (lambda m: m.fit(X[..., None], MEAN), ValueError, r"4 dimensions: expected \(n, T, I\)"),
    (lambda m: m.fit(X, MEAN).predict(X[:, :, :1]), ValueError, "expecting 2 features"),
    (lambda m: m.fit(X, MEAN).predict(X[:, :, 0]), ValueError, "expecting 2 features"),
    (lambda m: m.fit(X, MEAN, np.zeros(40)), ValueError, "zero"),
    (lambda m: m.fit(X, MEAN, -np.ones(40)), ValueError, "[Nn]egative"),
    (
        lambda m: m.set_params(early_stopping=True).fit(X, MEAN, np.arange(40) == 0),
        ValueError,
        "the 4 samples that early_stopping holds out all have a sample_weight of 0",
    ),
    (lambda m: m.set_params(heads=3).fit(X, MEAN), ValueError, "expected a divisor"),
    (lambda m: m.set_params(projection=99).fit(X, MEAN), ValueError, "expected less than"),
    (lambda m: m.set_params(hidden_size=(4, 3), residual=True).fit(X, MEAN), ValueError, "residu"),
    (lambda m: m.set_params(cell="gra").fit(X, MEAN), ValueError, "unknown cell 'gra'"),
    (lambda m: m.set_params(max_iter=0).fit(X, MEAN), ValueError, "is 0: expected an int"),
    (lambda m: m.set_params(optimizer="sdg").fit(X, MEAN), ValueError, "unknown optimizer"),
]


@pytest.mark.parametrize(("act", "error", "match"), BAD)
def test_bad_input(act, error, match):
    with pytest.raises(error, match=match):
        act(small())


def test_bad_classes():
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        small(RNNClassifier).partial_fit(X, LABELS)
    model = small(RNNClassifier).partial_fit(X, LABELS, classes=["down", "up"])
    with pytest.raises(ValueError, match="that are not in"):
        model.partial_fit(X, np.full(40, "left"))
    with pytest.raises(ValueError, match="as in the first call"):
        model.partial_fit(X, LABELS, classes=["a", "b"])
    with pytest.raises(ValueError, match="expected a CrossEntropy"):
        small(RNNClassifier, loss="huber").fit(X, LABELS)


def test_without_scikit_learn(monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for name in ("classifier", "estimator", "regressor", "sequences"):
        monkeypatch.delitem(sys.modules, f"xprnn.interop.sklearn.{name}")
        monkeypatch.delattr(xprnn.interop.sklearn, name)
    with pytest.raises(ImportError, match=r'needs scikit-learn: pip install "xprnn\[sklearn\]"'):
        _ = xprnn.interop.sklearn.RNNRegressor
    with pytest.raises(AttributeError, match="RNNRanker"):
        _ = xprnn.interop.sklearn.RNNRanker


@pytest.mark.parametrize("kind", [RNNRegressor, RNNClassifier])
def test_the_networks_options(kind):
    y = LABELS if kind is RNNClassifier else MEAN
    for options in (
        {"hidden_size": (4, 4, 3), "residual": True, "recurrent_dropout": 0.25},
        {"hidden_size": 6, "projection": 2, "layers": 2},
        {"hidden_size": 6, "heads": 3},
    ):
        net = small(kind).set_params(**options).fit(X, y).net_
        assert {name: getattr(net, name) for name in options} == options
    still = small(kind, initializer="zeros", optimizer=SGD(1e-9)).fit(X, y)
    assert not np.any(np.abs(still.net_.parameters["weight_hh_l0"]) > 1e-6)


def test_the_options_are_those_of_fit():
    # The order of the samples comes from the same generator as the weights.
    model = small(optimizer=SGD(0.05), clip_norm=None, window=2, batch_size=10).fit(X, MEAN)
    again = small(optimizer=SGD(0.05), clip_norm=None, window=2, batch_size=10)
    again._start(again._data(X, MEAN, None, reset=True))
    batches = minibatches(X.swapaxes(0, 1), MEAN[:, None], 10, rng=again._rng)
    xprnn.fit(again.net_, batches, optimizer=SGD(0.05), epochs=3, window=2)
    assert np.array_equal(again.predict(X), model.predict(X))
