"""The metadata that a network of a task has in its file: entries by name, which may be anything."""

from collections.abc import Mapping
from typing import Any

from xprnn.backend.host.quoting import quoted


def entry(metadata: Mapping[str, Any], name: str) -> Any:
    """Return an entry, unchecked.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in metadata:
        raise ValueError(f"the network's metadata has no {name!r}")
    return metadata[name]


def text_entry(metadata: Mapping[str, Any], name: str) -> str:
    """Return an entry, known to be text.

    Raises
    ------
    TypeError, ValueError
        If there is none, or it is no text.
    """
    value = entry(metadata, name)
    if not isinstance(value, str):
        raise TypeError(f"{name} is {quoted(value)} ({type(value).__name__}): expected a str")
    return value
