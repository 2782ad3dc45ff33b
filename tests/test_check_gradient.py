"""`check_gradient`: any function over a namespace, and its backward."""

import re
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch

from xprnn.testing import ContractError, GradientError, check_gradient


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def softmax(xp, x):
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def softmax_backward(xp, x, dy):
    y = softmax(xp, x)
    return y * (dy - xp.sum(dy * y, axis=-1, keepdims=True))


def affine(xp, x, weight, bias):
    return x @ weight + bias


def affine_backward(xp, x, weight, bias, dy):
    return dy @ weight.T, x.T @ dy, xp.sum(dy, axis=0)


def polar(xp, x, y):
    return xp.hypot(x, y), xp.atan2(y, x)


def polar_backward(xp, x, y, dy):
    r, (dr, da) = xp.hypot(x, y), dy
    return dr * x / r - da * y / r**2, dr * y / r + da * x / r**2


def embedded(xp, table, tokens):
    return xp.take(table, tokens, axis=0)


def embedded_backward(xp, table, tokens, dy):
    hit = xp.astype(tokens[:, None] == xp.arange(table.shape[0])[None, :], dy.dtype)
    return hit.T @ dy, None


CASES = {
    "softmax": (softmax, softmax_backward, data(3, 4)),
    "affine": (affine, affine_backward, data(3, 4), data(4, 2), data(2)),
    "polar": (polar, polar_backward, data(5), data(5, seed=1)),
    "embedding": (embedded, embedded_backward, data(4, 2), np.array([1, 3, 1])),
}


@pytest.mark.parametrize("backend", ["numpy", "torch", "array_api_strict", "numpy:"])
@pytest.mark.parametrize("name", CASES)
def test_right_gradients_pass_on_every_backend(name, backend):
    report = check_gradient(*CASES[name], backend=backend)
    assert report.method == "forward mode of every entry"
    assert {finding.verdict for finding in report.findings} == {"right"}
    assert max(finding.error for finding in report.findings) < 1e-13


@pytest.mark.parametrize("mode", ["forward", "complex", "central", "directions"])
def test_every_mode(mode):
    report = check_gradient(*CASES["affine"], mode=mode)
    names = [finding.name for finding in report.findings]
    assert names == ["x", "weight", "bias"] + ["all"] * (mode == "directions")


def test_the_backend_is_that_of_the_arrays():
    seen = []

    def square(xp, x):
        seen.append(type(x))
        return x * x

    assert check_gradient(square, lambda xp, x, dy: 2 * x * dy, torch.ones(3)).passed
    assert torch.Tensor in seen
    assert check_gradient(square, lambda xp, x, dy: 2 * x * dy, [1.0, 2.0]).passed


def test_a_wrong_gradient_is_named_with_its_entry_and_its_place():
    def wrong(xp, x, weight, bias, dy):
        d_x, d_weight, d_bias = affine_backward(xp, x, weight, bias, dy)
        return d_x, xp.flip(d_weight, axis=0), d_bias

    with pytest.raises(GradientError) as caught:
        check_gradient(affine, wrong, *CASES["affine"][2:])
    first, second = str(caught.value).partition("\n\n")[0].splitlines()
    assert re.match(r"the gradient of weight\[\d, \d\] is \S+ by backward, but \S+ by forwa", first)
    assert re.fullmatch(
        r"look at the lines of wrong \(test_check_gradient.py:\d+\) that make it", second
    )
    assert str(caught.value.report).startswith("wrong of affine: forward mode of every entry")
    assert "\nright: x, bias" in str(caught.value.report)


def test_a_common_factor_comes_first():
    def wrong(xp, *arguments):
        return tuple(1.5 * g for g in affine_backward(xp, *arguments))

    with pytest.raises(GradientError) as caught:
        check_gradient(affine, wrong, *CASES["affine"][2:])
    assert caught.value.sentence.startswith(
        "all of x, weight, bias are off by the same factor 1.5: look at what they share in wrong ("
    )


def test_the_place_of_a_kink_is_said():
    def relu(xp, x):
        return xp.maximum(x, 0.0)

    def relu_backward(xp, x, dy):
        return xp.where(x > 0, dy, 0 * dy)

    with pytest.raises(GradientError) as caught:
        check_gradient(relu, relu_backward, np.zeros(3))
    message = str(caught.value)
    assert message.startswith("the gradient of x can't be compared: there are kinks everywhere\n")
    assert "maximum at [0] (test_check_gradient.py:" in message
    report = check_gradient(relu, relu_backward, np.array([1.0, 0.0, -1.0]))
    assert report["x"].kinks == 1
    assert "maximum at [1] (test_check_gradient.py:" in report.notes[0]


def test_what_forward_mode_can_not_do_other_modes_do():
    def of_numpy(xp, x):
        return np.tanh(x)

    report = check_gradient(of_numpy, lambda xp, x, dy: dy * (1 - np.tanh(x) ** 2), data(3))
    assert report.method == "complex step of every entry"
    assert report.notes[0].startswith("no forward mode: TypeError")


def square(xp, x):
    return x * x


def doubled(xp, x, dy):
    return 2 * x * dy


def into_x(xp, x, dy):
    x *= 2
    return x * dy


def into_dy(xp, x, dy):
    dy *= 2
    return x * dy


def counting(xp, x, dy, calls=[]):  # noqa: B006
    calls.append(x)
    return 2 * x * dy * len(calls)


def writing(xp, x):
    x[0] = 0
    return x * x


@pytest.mark.parametrize(
    ("function", "backward", "error", "words"),
    [
        (square, lambda xp, x: x, TypeError, r"which can't be called as <lambda>\(xp, x, d"),
        (lambda xp: xp, doubled, TypeError, r"function is <lambda>, which can't be called as"),
        (square, 3, TypeError, "backward is 3: expected a callable"),
        (square, lambda xp, x, dy: (x, dy), ContractError, "returned 2 gradients: expected 1"),
        (square, lambda xp, x, dy: x[0], ContractError, "for x float64|for x an array of shape"),
        (square, lambda xp, x, dy: 1.0, ContractError, "for x float: expected an array of numpy"),
        (
            square,
            lambda xp, x, dy: xp.astype(2 * x * dy, xp.float32),
            ContractError,
            "an array of float32: expected float64, as the arguments",
        ),
        (square, into_x, ContractError, "into_x writes into x: expected it to leave its argum"),
        (square, into_dy, ContractError, r"into_dy writes into dy\[0\]"),
        (writing, doubled, ContractError, "writing writes into x"),
        (square, counting, ContractError, "counting gives two results for the same arguments"),
        (lambda xp, x: 1.0, doubled, ContractError, "returned float: expected an array of numpy"),
        (lambda xp, x: x > 0, doubled, ContractError, "returned an array of bool: expected"),
        (
            lambda xp, x: x * np.float32(0.1),
            lambda xp, x, dy: dy * np.float32(0.1),
            ContractError,
            "takes a number of float32 into multiply",
        ),
        (square, lambda xp, x, dy: None, GradientError, "is 0 by backward"),
        (lambda xp, x: 0 * x, lambda xp, x, dy: 0 * x, GradientError, "every gradient is zero"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(function, backward, error, words):
    with pytest.raises(error, match=words):
        check_gradient(function, backward, data(3))


def test_arguments_that_do_not_fit():
    with pytest.raises(TypeError, match="there is no array of floats among the arguments"):
        check_gradient(square, doubled, np.arange(3))
    with pytest.raises(ValueError, match="mode is 'exact': expected 'auto' or"):
        check_gradient(square, doubled, data(3), mode="exact")
    with pytest.raises(ValueError, match="mode is 'complex', but the complex step can't be used"):
        check_gradient(
            lambda xp, x: abs(x), lambda xp, x, dy: dy * xp.sign(x), data(3), mode="complex"
        )


def test_the_page_s_example_prints_what_the_page_says(capsys, tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "testing.md").read_text()
    section = page.partition("\n### Any function\n")[2].partition("\n### ")[0]
    code, printed = (
        re.search(rf"^```{word}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[1]
        for word in ("python", "text")
    )
    (tmp_path / "page.py").write_text(code)
    run_path(str(tmp_path / "page.py"))
    assert capsys.readouterr().out == printed
