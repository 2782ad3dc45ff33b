"""``xprnn sample``: text from a language model."""

import argparse
import sys
from pathlib import Path

from xprnn import checks
from xprnn.backend.host.files import output_folder, write_atomic
from xprnn.cli.common import say_written
from xprnn.engine.network import RNN
from xprnn.models.language import LanguageModel

HELP = "write text with a language model"
DESCRIPTION = """\
Write on from a prompt with a model that `xprnn train text` saved.  The text goes to stdout; --out
writes it to sample.txt in a folder instead.  The same --seed gives the same text."""
EXAMPLE = """\
examples:
  xprnn sample runs/text/model.safetensors --prompt "the class" --length 40
  xprnn sample runs/text/model.safetensors --temperature 0.5 --seed 7"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="what a training wrote: model.safetensors")
    add("--prompt", default="", help="what the text begins with (default: nothing)")
    add(
        "--length",
        type=int,
        default=100,
        help="words (sentence ends count) or characters to write (default 100)",
    )
    add(
        "--temperature",
        type=float,
        default=1.0,
        help="below 1 for the probable, above 1 for the surprising (default 1)",
    )
    parser.set_defaults(dtype=None)


def run(args: argparse.Namespace) -> int:
    """Load, sample, tell."""
    checks.positive_int("--length", args.length)
    checks.number("--temperature", args.temperature, open_=True)
    model = LanguageModel.of(RNN.load(args.model, backend=args.backend, dtype=args.dtype))
    folder = None if args.out is None else output_folder(args.out)
    unknown = model.unknown(args.prompt)
    if unknown:
        print(
            f"xprnn: not in the vocabulary, read as UNKNOWN: {', '.join(map(repr, unknown))}",
            file=sys.stderr,
        )
    text = model.sample(args.prompt, args.length, temperature=args.temperature, rng=args.seed)
    if folder is None:
        print(text)
    else:
        # A prompt may hold bytes that are no UTF-8; they are written as they came.
        write_atomic(folder / "sample.txt", f"{text}\n".encode(errors="surrogateescape"))
        say_written(folder, {"sample.txt": f"{len(text)} characters"})
    return 0
