"""Nested data to JSON and arrays and back; descriptions of options as plain data."""

import json
import math
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from xprnn import get_backend
from xprnn.data import minibatches
from xprnn.optim import SGD, schedules
from xprnn.training.checkpoint.description import description, differences
from xprnn.training.checkpoint.position import DataPosition
from xprnn.training.checkpoint.tree import Packer, Unpacker, named_kinds


class Inner(NamedTuple):
    a: Any
    b: Any = None


class Outer(NamedTuple):
    inner: Any
    rest: Any


def round_trip(value, backend=None, kinds=None):
    backend = backend or get_backend("numpy", dtype="float32")
    kinds = named_kinds(value) if kinds is None else kinds
    pack = Packer(backend, kinds)
    text = json.dumps(pack(value, "it"), allow_nan=False)
    return Unpacker(backend, kinds, pack.arrays)(json.loads(text))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**127),
        0.1 + 0.2,
        -0.0,
        5e-324,
        1.7976931348623157e308,
        math.inf,
        -math.inf,
        "",
        'a "text" μ',
        (),
        [],
        {},
        (1, (2, [3, (4.5,)])),
        {"b": 1, "a": {"c": (1, None)}},
        {1: "one", ("a", 2): None},
        Outer(Inner(1, [Inner(2)]), {"x": Inner(0.5, "y")}),
    ],
    ids=repr,
)
def test_plain_data_come_back(value):
    back = round_trip(value)
    assert repr(back) == repr(value)
    assert type(back) is type(value)


def test_nan_comes_back():
    assert math.isnan(round_trip({"x": [math.nan]})["x"][0])


def test_a_dict_keeps_its_order():
    back = round_trip(OrderedDict(z=1, a=2, m=3))
    assert list(back) == ["z", "a", "m"]


def test_numpy_numbers_keep_their_dtype():
    back = round_trip([np.float64(0.1), np.float32(0.1), np.int8(3), np.bool_(1)])
    assert [type(number) for number in back] == [np.float64, np.float32, np.int8, np.bool_]
    assert back == [np.float64(0.1), np.float32(0.1), 3, True]


ARRAYS = [
    ("float64", (3, 4)),
    ("float32", ()),
    ("float32", (2, 3, 4)),
    ("int64", (5,)),
    ("bool", (2, 2)),
    ("float64", (0, 3)),
    ("float64", (1, 5, 1)),
]


@pytest.mark.parametrize(("dtype", "shape"), ARRAYS, ids=str)
def test_arrays_keep_bits_dtype_layout_and_place(harness, dtype, shape):
    backend, rng = harness.backend, np.random.default_rng(0)
    host = np.array(10 * rng.normal(size=shape)).astype(dtype)
    for axes in ([*range(len(shape))], [*range(len(shape))][::-1], [1, 2, 0][: len(shape)]):
        if sorted(axes) != [*range(len(shape))]:
            continue
        back_axes = tuple(axes.index(k) for k in range(len(axes)))
        turned = backend.asarray(host.transpose(axes).copy(order="C"), dtype)
        array = backend.xp.permute_dims(turned, back_axes)
        back = round_trip((array, [array]), backend)
        assert back[1][0] is back[0]
        assert backend.owns(back[0])
        got = backend.to_numpy(back[0])
        assert (got.dtype, got.shape) == (host.dtype, host.shape)
        assert got.tobytes() == host.tobytes()
        if min(shape, default=1) > 1:
            assert backend.library.strides(back[0]) == backend.library.strides(array)


def test_arrays_do_not_share_memory():
    array = np.ones(3)
    array.flags.writeable = False
    back = round_trip([array])[0]
    assert not np.shares_memory(back, array)
    back[0] = 2


def test_host_arrays_stay_on_the_host():
    key = np.arange(4, dtype="uint64")
    back = round_trip({"key": key}, get_backend("torch"))["key"]
    assert isinstance(back, np.ndarray)
    assert back.dtype == "uint64"
    assert back.tolist() == [0, 1, 2, 3]


def test_names_that_look_alike_are_different_arrays():
    a, b = np.zeros(2), np.ones(2)
    back = round_trip({"x/y": a, "x": {"y": b}, 1: a + 2, "1": b + 3})
    assert [back["x/y"][0], back["x"]["y"][0], back[1][0], back["1"][0]] == [0, 1, 2, 4]


def test_what_is_expensive_is_worked_out_when_it_is_packed():
    called = []
    value = {"x": partial(lambda n: called.append(n) or [n], 3)}
    pack = Packer(get_backend("numpy"), {})
    assert called == []
    assert pack(value, "it") == {"dict": [["x", {"list": [3]}]]}
    assert called == [3]


@pytest.mark.parametrize("value", [{1}, object(), b"bytes", 1j, lambda: 0])
def test_what_can_not_be_kept(value):
    message = r"it/deep/0 is .*: a checkpoint can hold None, numbers, text, arrays of the backend"
    with pytest.raises(TypeError, match=message):
        round_trip({"deep": (value,)})


def test_an_array_of_another_library():
    import torch

    with pytest.raises(TypeError, match=r"it/0 is torch.Tensor of shape \(2,\) and dtype float32"):
        round_trip([torch.ones(2)])


def test_a_kind_of_tuple_that_could_not_be_made_again():
    with pytest.raises(TypeError, match="it/0 became a Inner, of which there was none at the begi"):
        round_trip([Inner(1)], kinds={})
    packed = Packer(get_backend("numpy"), {"Inner": Inner})(Inner(1), "it")
    with pytest.raises(ValueError, match="it holds a Inner, of which there is none in this one"):
        Unpacker(get_backend("numpy"), {}, {})(packed)


def rate(factor):
    return lambda k: factor / (1 + k)


@dataclass(frozen=True)
class Rule:
    rate: Any
    names: tuple[str, ...] = ()


class Plain:
    def __init__(self, value):
        self.value, self._hidden = value, object()

    def method(self):
        return self.value


SAME = [
    (SGD(0.1), SGD(0.1)),
    (SGD(np.float64(0.1)), SGD(0.1)),
    (schedules.cosine(0.1, 5), schedules.cosine(0.1, 5)),
    (schedules.warm_up(schedules.step(0.1, 3), 2), schedules.warm_up(schedules.step(0.1, 3), 2)),
    (partial(max, 3, key=abs), partial(max, 3, key=abs)),
    (Plain(1).method, Plain(1).method),
    (Rule(Rule(1, ("a",))), Rule(Rule(1, ("a",)))),
    ({"a": [np.ones(2)]}, {"a": [np.ones(2)]}),
    (math.nan, math.nan),
]


@pytest.mark.parametrize(("mine", "theirs"), SAME)
def test_what_is_the_same(mine, theirs):
    kept = json.loads(json.dumps(description(theirs), allow_nan=False))
    assert differences(description(mine), kept, "it") == []


@pytest.mark.parametrize(
    ("mine", "theirs", "message"),
    [
        (1, 2, "it is 1, in the checkpoint 2"),
        (None, "x", "it is None, in the checkpoint 'x'"),
        (SGD(0.1), SGD(0.2), "it.learning_rate is 0.1, in the checkpoint 0.2"),
        (SGD(0.1), Rule(0.1), "it is SGD, in the checkpoint Rule"),
        (
            SGD(schedules.cosine(0.1, 5)),
            SGD(schedules.cosine(0.2, 5)),
            "it.learning_rate.rate is 0.1, in the checkpoint 0.2",
        ),
        (
            schedules.warm_up(schedules.step(0.1, 3), 2),
            schedules.warm_up(schedules.step(0.1, 4), 2),
            "it.follow.every is 3, in the checkpoint 4",
        ),
        (rate(1.0), rate(2.0), "it.factor is 1.0, in the checkpoint 2.0"),
        (
            lambda k: 0.5 + k,
            lambda k: 0.25 + k,
            "it.constants[0] is 0.5, in the checkpoint 0.25",
        ),
        (
            lambda k, rate=0.5: rate,
            lambda k, rate=0.25: rate,
            "it.defaults[0] is 0.5, in the checkpoint 0.25",
        ),
        (partial(max, 1), partial(max, 2), "it.args[0] is 1, in the checkpoint 2"),
        (partial(max, a=1), partial(max, a=2), "it.a is 1, in the checkpoint 2"),
        (
            partial(max, 1),
            partial(min, 1),
            "it is partial of max, in the checkpoint partial of",
        ),
        (Plain(1), Plain(2), "it.value is 1, in the checkpoint 2"),
        (Plain(1).method, Plain(2).method, "it.of.value is 1, in the checkpoint 2"),
        (Rule(1, ("a",)), Rule(1, ("b",)), "it.names[0] is 'a', in the checkpoint 'b'"),
        (Rule(max), Rule(min), "it.rate is max, in the checkpoint min"),
        (
            Rule({"W": SGD(0.1)}, (SGD(0.1), SGD(0.1, momentum=0.5))),
            Rule({"W": SGD(0.1)}, (SGD(0.1), SGD(0.1, momentum=0.9))),
            "it.names[1].momentum is 0.5, in the checkpoint 0.9",
        ),
        (Rule(1, ("a",)), Rule(1, ("a", "b")), "it.names is ['a'], in the checkpoint ['a', 'b']"),
        ({"a": None}, {}, "it.a is None, in the checkpoint not there"),
        ({}, {"a": None}, "it.a is not there, in the checkpoint None"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "it.order[0] is 'a', in the checkpoint 'b'"),
        (1, {"a": 1}, "it is 1, in the checkpoint {'a': 1, 'order': ['a']}"),
        (np.ones(2), np.zeros(2), "it is 'numpy.ndarray of shape (2,) and dtype float64, "),
    ],
)
def test_what_is_different_is_named(mine, theirs, message):
    kept = json.loads(json.dumps(description(theirs), sort_keys=True))
    found = differences(description(mine), kept, "it")
    assert found[0].startswith(message)


def test_an_object_that_holds_itself():
    one = Plain(None)
    one.value = one
    assert json.dumps(description(one))


def test_data_are_described_without_reading_them():
    def lazy():
        pytest.fail("read")
        yield

    class Shy:
        def __iter__(self):
            return lazy()

        def __len__(self):
            raise TypeError("nobody knows")

    backend, x = get_backend("numpy"), np.ones((3, 7, 2))
    for batches, what in (
        (minibatches(x, x, 2), {"type": "minibatches", "length": 4}),
        ([(x, x)] * 3, {"type": "list", "length": 3}),
        ((x, x), {"type": "tuple", "length": 1}),
        (lazy(), {"type": "generator", "length": None}),
        (Shy(), {"type": "Shy", "length": None}),
    ):
        assert DataPosition("batches", batches, backend, 1).describe() == what
