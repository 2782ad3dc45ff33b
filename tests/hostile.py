"""Files that someone has tampered with: structure-aware mutations of valid safetensors files."""

import copy
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

Header = dict[str, Any]

NUMBERS = [0, -1, 1, 3, 10**9, 2**31, 2**63, 2**64, 10**400, -(10**400), 0.5, -2.5, 1e300, 1e-320]
LONG = "a" * 100_000
TEXTS = ["", "x", "tanh", "float64", "F64", "\x1b[31m", "\ud800", LONG, "0", "__metadata__"]
OTHERS: list[Any] = [None, True, False, [], {}, [1], {"a": 1}, [[]], [None] * 5000]
VALUES: list[Any] = [*NUMBERS, *TEXTS, *OTHERS]
RAW = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 5000, "[" * 400 + "]" * 400]
"""JSON, and what only looks like it, that ``json.dumps`` does not write."""

DTYPES = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "U8", "BOOL", "C64", ""]

BROKEN = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
"""What a mutation raises if the file before is so broken that it has no structure to change."""

FLOATS = [b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\x7f\x7f", b"\x00\x00\xf8\x7f"]
"""NaN, infinity and the largest number in float32; the upper half of NaN in float64."""


def split(content: bytes) -> tuple[Header, bytes]:
    """Return the header of a file, and the bytes of its arrays."""
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def joined(header: str, data: bytes, length: int | None = None) -> bytes:
    """Return a file of a header and data; ``length`` is what it says about its header."""
    text = header.encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def with_digest(content: bytes) -> bytes:
    """Return the file with the digest that its content has."""
    header, data = split(content)
    metadata = header["__metadata__"]
    names = sorted(name for name in header if name != "__metadata__")
    arrays = [[name, header[name]["dtype"], header[name]["shape"]] for name in names]
    kind = {"xprnn": "model", "xprnn checkpoint": "checkpoint"}[metadata["format"]]
    head = [[kind, metadata["format"], metadata["version"]], metadata["config"], arrays]
    total = hashlib.sha256(json.dumps(head).encode())
    for name in names:
        start, stop = header[name]["data_offsets"]
        total.update(data[start:stop])
    metadata["digest"] = total.hexdigest()
    return joined(json.dumps(header), data)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every part of nested data."""
    if path:
        yield path
    inside: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    for key, part in inside:
        yield from paths(part, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


MARK = "@raw@"


def changed(tree: Any, rng: random.Random) -> str:
    """Return nested data as JSON with one change: of a value, a type, or a key."""
    tree = copy.deepcopy(tree)
    path = rng.choice(list(paths(tree)))
    parent, key = at(tree, path[:-1]), path[-1]
    kind, raw = rng.randrange(8), ""
    if kind == 0 and isinstance(parent, dict):
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice([f"{key}x", key[:-1], key.upper(), "\x1b[2J", "ö" * 9])] = parent.pop(key)
    elif kind == 2 and isinstance(parent, dict):
        raw = f"{json.dumps(key)}: {json.dumps(rng.choice([parent[key], *VALUES]))}"
        parent[MARK] = 0
    elif kind == 3 and isinstance(parent, list):
        parent[key:key] = [rng.choice([parent[key], *VALUES])] * rng.choice([1, 2, 100])
    elif kind == 4:
        other = at(tree, rng.choice(list(paths(tree))))
        parent[key] = copy.deepcopy(other)
    elif kind == 5:
        parent[key], raw = MARK, rng.choice(RAW)
    elif kind == 6:
        value: Any = 0
        for _ in range(rng.choice([5, 90, 110, 400])):
            value = [value] if rng.random() < 0.5 else {"a": value}
        parent[key] = value
    else:
        parent[key] = rng.choice(VALUES)
    text = json.dumps(tree)
    if kind == 2 and raw:
        return text.replace(f'"{MARK}": 0', raw)
    return text.replace(f'"{MARK}"', raw) if raw else text


def _bits(content: bytes, rng: random.Random) -> bytes:
    array = bytearray(content)
    size = int.from_bytes(content[:8], "little") + 8
    low, high = rng.choice([(0, 8), (8, size), (8, size), (size, len(content)), (0, len(content))])
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        array[rng.randrange(low, max(low + 1, min(high, len(content))))] ^= 1 << rng.randrange(8)
    return bytes(array)


def _length(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.6:
        return content[: rng.randrange(len(content))]
    return content + rng.choice([b"\x00", b"more", content, bytes(1000)])


def _lie(content: bytes, rng: random.Random) -> bytes:
    size = int.from_bytes(content[:8], "little")
    lies = [
        0,
        1,
        max(0, size - 1),
        size + 1,
        size + 8,
        len(content),
        2**31,
        2**40,
        2**63,
        2**64 - 1,
    ]
    return min(rng.choice(lies), 2**64 - 1).to_bytes(8, "little") + content[8:]


def _in_header(content: bytes, rng: random.Random) -> bytes:
    header, data = split(content)
    return joined(changed(header, rng), data)


def _in_config(content: bytes, rng: random.Random) -> bytes:
    header, data = split(content)
    header["__metadata__"]["config"] = changed(json.loads(header["__metadata__"]["config"]), rng)
    return joined(json.dumps(header), data)


def _in_arrays(content: bytes, rng: random.Random) -> bytes:
    header, data = split(content)
    name = rng.choice([name for name in header if name != "__metadata__"])
    entry, kind = header[name], rng.randrange(6)
    if kind == 0:
        entry["dtype"] = rng.choice(DTYPES)
    elif kind == 1:
        entry["shape"] = rng.choice([[], [0], [1, *entry["shape"]], entry["shape"][::-1], [2] * 70])
    elif kind == 2:
        # Another dtype that fits: half the size, twice the entries.
        smaller = {"F64": "F32", "F32": "F16", "I64": "I32", "F16": "U8"}
        if entry["dtype"] in smaller and entry["shape"]:
            entry["dtype"] = smaller[entry["dtype"]]
            entry["shape"][-1] *= 2
    elif kind == 3:
        dtype = rng.choice(DTYPES)
        extra = bytes(rng.choice([0, 2, 8, 64]))
        place = [len(data), len(data) + len(extra)]
        shape = [len(extra) // {"F64": 8, "I64": 8, "F32": 4, "I32": 4}.get(dtype, 1)]
        header["extra"] = {"dtype": dtype, "shape": shape, "data_offsets": place}
        data += extra
    elif kind == 4:
        start = rng.randrange(max(1, len(data) // 4)) * 4
        data = data[:start] + rng.choice(FLOATS) + data[start + 4 :]
    else:
        header[f"{name}'"] = header.pop(name)
    return joined(json.dumps(header), data)


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    _bits,
    _length,
    _lie,
    _in_header,
    _in_config,
    _in_config,
    _in_arrays,
]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return a file with one to three mutations, half of the time with the digest made right."""
    found = content
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        try:
            found = rng.choice(MUTATIONS)(found, rng)
        except BROKEN:
            break
    if rng.random() < 0.5:
        with suppress(*BROKEN):
            found = with_digest(found)
    return found
