"""The times of xprnn beside those of the plain algorithms, each job in a process of its own."""

import json
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from xprnn.bench.isa import isa_variables
from xprnn.bench.process import result_of
from xprnn.bench.timing import Setting

Options: TypeAlias = dict[str, int | str]

LANGUAGE: Options = {"vocabulary": 8000, "hidden": 100, "steps": 20, "window": 4}
BATCH = 16


class OriginsRow(NamedTuple):
    """The times of one piece of work.

    Attributes
    ----------
    work : str
    plain, ours : float
        Seconds, each the median in a process of its own.
    ratio : float
        How many times faster xprnn is.
    target : float
        The ratio that is wanted at least.
    """

    work: str
    plain: float
    ours: float
    ratio: float
    target: float


def run_origins(setting: Setting, tell: Callable[[str], None]) -> Iterator[OriginsRow]:
    """Compare, one row after the other.

    Parameters
    ----------
    setting : Setting
        Its threads are the BLAS threads of every process; its instructions count, too.
    tell : callable
        Takes lines of text: what the next rows are about, and how far both gradients differ.

    Raises
    ------
    RuntimeError
        If a process fails; the message has the last line that it wrote to stderr.
    """
    tell("language model: vocabulary 8000, 100 hidden units, window 4, sentences of 20 words")
    error = seconds_of("language_error", {**LANGUAGE}, setting)
    tell(f"gradients of both in float64 differ by {error:.1e}, relative to the largest entry")
    single = 0.0
    for plain_dtype in ("float64", "float32"):
        plain = seconds_of("language_plain", {**LANGUAGE, "dtype": plain_dtype}, setting)
        single = seconds_of("language_xprnn", {**LANGUAGE, "dtype": "float32"}, setting)
        work = f"SGD step: nested loops in {plain_dtype}, xprnn in float32"
        yield OriginsRow(work, plain, single, plain / single, 130)
    many = {**LANGUAGE, "dtype": "float32", "batch": BATCH}
    batched = seconds_of("language_xprnn", many, setting) / BATCH
    yield OriginsRow(
        f"a sentence: alone, in batches of {BATCH}", single, batched, single / batched, 3
    )
    tell("noisy sine: 200 steps, one epoch")
    for hidden in (500, 800):
        for plain_dtype in ("float64", "float32"):
            plain = seconds_of("sine_plain", {"hidden": hidden, "dtype": plain_dtype}, setting)
            ours = seconds_of("sine_xprnn", {"hidden": hidden, "dtype": "float32"}, setting)
            work = f"{hidden} neurons: per step in {plain_dtype}, xprnn in float32"
            yield OriginsRow(work, plain, ours, plain / ours, 12)


def seconds_of(job: str, options: Options, setting: Setting) -> float:
    """Return what a job of `xprnn.bench.origins.jobs` prints, run in a new process."""
    what, words = f"the benchmark {job}", json.dumps(options)
    variables = isa_variables(setting.isa)
    return float(
        result_of(
            "xprnn.bench.origins.jobs",
            job,
            words,
            what=what,
            threads=setting.threads,
            **variables,
        )
    )
