"""``xprnn sample``: text written by a language model."""

import argparse
from pathlib import Path

from xprnn import checks
from xprnn.backend.host.files import output_folder, write_atomic
from xprnn.backend.host.quoting import in_quotes, listed
from xprnn.cli.common import of_model, say_written, tell
from xprnn.cli.models import load_model
from xprnn.models.language import LanguageModel

HELP = "write text with a language model"
DESCRIPTION = """\
Continue a prompt with a language model that `xprnn train text` saved.  The text goes to stdout
while it is written, or with --out to the file sample.txt in that folder.  The same --seed gives the
same text."""
EXAMPLE = """\
examples:
  xprnn sample runs/text/model.safetensors --prompt "the class" --length 40
  xprnn sample runs/text/model.safetensors --temperature 0.5 --seed 7
  xprnn sample runs/text/model.safetensors --top-p 0.9 --stop "." --stop '\\n'"""


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
        help="number of words (sentence ends included) or characters to write, at most "
        "(default 100)",
    )
    add(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="below 1 the text is more probable, above 1 more surprising; 0 always writes what is "
        "most probable (default 1)",
    )
    add("--top-k", type=int, metavar="K", help="choose from the K most probable tokens only")
    add(
        "--top-p",
        type=float,
        metavar="P",
        help="choose from the most probable tokens that together have the probability P only",
    )
    add(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help=r"end before this text; may be given several times; \n is the end of a line",
    )
    parser.set_defaults(dtype=None)


def run(args: argparse.Namespace) -> int:
    """Load, sample, write or print."""
    checks.positive_int("--length", args.length)
    checks.number("--temperature", args.temperature)
    if args.top_k is not None:
        checks.positive_int("--top-k", args.top_k)
    if args.top_p is not None and checks.number("--top-p", args.top_p, open_=True) > 1:
        raise ValueError(f"--top-p is {args.top_p}: expected a number above 0, at most 1")
    if not all(args.stop):
        raise ValueError("--stop is an empty text: expected at least one character")
    stop = [text.replace(r"\n", "\n").replace(r"\t", "\t") for text in args.stop]
    net = load_model(args.model, backend=args.backend, dtype=args.dtype)
    with of_model(args.model):
        model = LanguageModel.of(net)
    folder = None if args.out is None else output_folder(args.out)
    unknown = model.unknown(args.prompt)
    if unknown:
        tell(f"xprnn: not in the vocabulary, read as UNKNOWN: {listed(map(in_quotes, unknown))}")
    with of_model(args.model):
        pieces = model.stream(
            args.prompt,
            args.length,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            stop=stop,
            rng=args.seed,
        )
        if folder is None:
            try:
                for piece in pieces:
                    print(piece, end="", flush=True)
            finally:
                print()
            return 0
        text = "".join(pieces)
    # Bytes of the prompt that are not UTF-8 are written unchanged.
    write_atomic(folder / "sample.txt", f"{text}\n".encode(errors="surrogateescape"))
    say_written(folder, {"sample.txt": f"{len(text)} characters"})
    return 0
