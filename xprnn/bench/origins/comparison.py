"""The times of xprnn beside those of the plain algorithms, each job in a process of its own."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from xprnn.bench.isa import isa_variables
from xprnn.bench.process import result_of
from xprnn.bench.timing import Setting

Options: TypeAlias = dict[str, int | str]
Job: TypeAlias = tuple[str, Options]
"""A function of `xprnn.bench.origins.jobs`, and its arguments."""

LANGUAGE: Options = {"vocabulary": 8000, "hidden": 100, "steps": 20, "window": 4}
BATCH = 16


class OriginsRow(NamedTuple):
    """The times of one piece of work.

    Attributes
    ----------
    work : str
    plain, ours : float
        Seconds, each the smallest of the medians of several processes.
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

    In each round both sides of a row have a new process, first the plain code, then xprnn.  The
    smallest of a side's medians counts, of both sides alike: whatever else runs on a machine only
    ever adds time.

    Parameters
    ----------
    setting : Setting
        Its threads are the BLAS threads of every process; its rounds and its instructions count,
        too.
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
    one: Job = "language_xprnn", {**LANGUAGE, "dtype": "float32"}
    for plain_dtype in ("float64", "float32"):
        nested: Job = "language_plain", {**LANGUAGE, "dtype": plain_dtype}
        plain, single = _in_turns((nested, one), setting)
        work = f"SGD step: nested loops in {plain_dtype}, xprnn in float32"
        yield OriginsRow(work, plain, single, plain / single, 130)
    many: Job = "language_xprnn", {**LANGUAGE, "dtype": "float32", "batch": BATCH}
    single, batch = _in_turns((one, many), setting)
    work = f"a sentence: alone, in batches of {BATCH}"
    yield OriginsRow(work, single, batch / BATCH, single / (batch / BATCH), 3)
    tell("noisy sine: 200 steps, one epoch")
    for hidden in (500, 800):
        for plain_dtype in ("float64", "float32"):
            epoch: Job = "sine_plain", {"hidden": hidden, "dtype": plain_dtype}
            same: Job = "sine_xprnn", {"hidden": hidden, "dtype": "float32"}
            plain, ours = _in_turns((epoch, same), setting)
            work = f"{hidden} neurons: per step in {plain_dtype}, xprnn in float32"
            yield OriginsRow(work, plain, ours, plain / ours, 12)


def _in_turns(jobs: Sequence[Job], setting: Setting) -> list[float]:
    """Return the smallest of each job's times; they take turns, in so many rounds."""
    rounds = [[seconds_of(*job, setting) for job in jobs] for _ in range(setting.rounds)]
    return [min(times) for times in zip(*rounds, strict=True)]


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
