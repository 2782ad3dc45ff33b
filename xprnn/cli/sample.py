"""``xprnn sample``: text written by a language model."""

import argparse
import sys
from pathlib import Path

from xprnn import checks
from xprnn.backend.host.files import output_folder, write_atomic
from xprnn.cli.common import of_model, say_written
from xprnn.engine.network import RNN
from xprnn.models.language import LanguageModel

HELP = "write text with a language model"
DESCRIPTION = """\
Continue a prompt with a language model that `xprnn train text` saved.  The text goes to stdout, or
with --out to the file sample.txt in that folder.  The same --seed gives the same text."""
EXAMPLE = """\
examples:
  xprnn sample runs/text/model.safetensors --prompt "the class" --length 40
  xprnn sample runs/text/model.safetensors --temperature 0.5 --seed 7"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="the model.safetensors of a training")
    add("--prompt", default="", metavar="TEXT", help="beginning of the text (default: empty)")
    add(
        "--length",
        type=int,
        default=100,
        metavar="N",
        help="number of words (sentence ends included) or characters to write (default 100)",
    )
    add(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="below 1 the text is more probable, above 1 more surprising (default 1)",
    )
    parser.set_defaults(dtype=None)


def run(args: argparse.Namespace) -> int:
    """Load, sample, write or print."""
    checks.positive_int("--length", args.length)
    checks.number("--temperature", args.temperature, open_=True)
    net = RNN.load(args.model, backend=args.backend, dtype=args.dtype)
    with of_model(args.model):
        model = LanguageModel.of(net)
    folder = None if args.out is None else output_folder(args.out)
    unknown = model.unknown(args.prompt)
    if unknown:
        print(
            f"xprnn: not in the vocabulary, read as UNKNOWN: {', '.join(map(repr, unknown))}",
            file=sys.stderr,
        )
    with of_model(args.model):
        text = model.sample(args.prompt, args.length, temperature=args.temperature, rng=args.seed)
    if folder is None:
        print(text)
    else:
        # Bytes of the prompt that are not UTF-8 are written unchanged.
        write_atomic(folder / "sample.txt", f"{text}\n".encode(errors="surrogateescape"))
        say_written(folder, {"sample.txt": f"{len(text)} characters"})
    return 0
