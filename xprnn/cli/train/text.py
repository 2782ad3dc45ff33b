"""``xprnn train text``: a language model."""

import argparse
import math
import shlex
from contextlib import suppress
from pathlib import Path

from xprnn import checks, diagnostics
from xprnn.backend import get_backend
from xprnn.backend.host.arrays import generator
from xprnn.cli.common import check_extras, say_written
from xprnn.cli.train.corpus import Corpus, corpus_of
from xprnn.cli.train.options import (
    check_options,
    check_window_option,
    chosen_optimizer,
    network_arguments,
    network_options,
    optimizer_options,
    recompute_option,
    run_options,
)
from xprnn.cli.train.session import HISTORY, MODEL, Session, checkpoints, outputs
from xprnn.data import NGram
from xprnn.data.text import SPECIAL, python_topics, read_text
from xprnn.engine.network import RNN
from xprnn.models.language import LEVELS, LanguageModel
from xprnn.training.evaluation import evaluate

HELP = "train a language model on a text"
DESCRIPTION = """\
Train a language model: a network that reads a text and predicts the next word (sentence by
sentence) or the next character (in one long stream).  The last part of the text is held out, and
the weights with the lowest loss there are saved.  Prints the loss per token and the perplexity
beside those of a 3-gram model with interpolated back-off; writes the model, the history and a
picture."""
EXAMPLE = """\
examples:
  xprnn train text                                    (the language reference that Python ships)
  xprnn train text book.txt --level characters
then:
  xprnn sample runs/text/model.safetensors --prompt "the" --length 30"""
PICTURE = "loss.png"
ORDER = 3
"""The order of the n-gram model that the network is compared with."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, nargs="?", help="a text (default: Python's reference)")
    add("--encoding", default="utf-8", metavar="NAME", help="encoding of the file (default UTF-8)")
    add("--level", choices=LEVELS, default="words", help="words (default) or characters")
    add(
        "--vocabulary",
        type=int,
        metavar="N",
        help="size of the vocabulary, 3 special tokens included; rarer tokens become UNKNOWN "
        "(default: up to 8000 words, or all characters)",
    )
    network_options(parser, hidden=128)
    add(
        "--embedding",
        type=int,
        metavar="SIZE",
        help="size of a learned vector for each token (default: one-hot vectors)",
    )
    optimizer_options(parser, lr=0.1, momentum=0.9, schedule="halve")
    run_options(parser)
    add("--epochs", type=int, default=10, metavar="N", help="passes over the text (default 10)")
    add(
        "--batch",
        type=int,
        default=16,
        metavar="N",
        help="sentences or streams in an update (default 16)",
    )
    add(
        "--chunk",
        type=int,
        default=50,
        metavar="N",
        help="characters of each stream in an update (default 50)",
    )
    add(
        "--window",
        type=int,
        metavar="K",
        help="how many steps the loss of each step reaches back (default: all)",
    )
    recompute_option(parser)
    add(
        "--held-out",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the text that is held out, at its end (default 0.1)",
    )


def run(args: argparse.Namespace) -> int:
    """Train, compare, write and print."""
    check_extras()
    share = _check(args)
    backend = get_backend(args.backend, dtype=args.dtype)
    text = python_topics() if args.file is None else read_text(args.file, args.encoding)
    rng = generator(args.seed)
    corpus = corpus_of(text, share, args, backend, rng)
    size = len(corpus.vocabulary)
    net = RNN(
        size,
        args.hidden,
        size,
        **network_arguments(args),
        embedding_size=args.embedding,
        backend=backend,
        rng=rng,
    )
    chosen = chosen_optimizer(args, args.epochs * len(corpus.training))
    (checkpoint,) = checkpoints(args)
    folder = outputs(args, "text", MODEL, HISTORY, PICTURE)
    # What can't be printed is no reason not to train; after the training it is told.
    with suppress(OSError):
        print(corpus.description, flush=True)
    with Session(args, args.epochs) as session:
        session.fit(
            net,
            corpus.training,
            chosen,
            checkpoint,
            loss="cross_entropy",
            epochs=args.epochs,
            window=args.window,
            recompute=args.recompute,
            validation=corpus.held_out,
            patience=args.epochs,
        )
    (history,) = session.histories
    trained = LanguageModel(net, corpus.vocabulary, args.level)
    model = session.save(folder, lambda path: trained.save(path, seed=args.seed))
    token = args.level.removesuffix("s")
    with session.finishing(model):
        history.save(folder / HISTORY)
        kept = f"kept epoch {history.best_epoch}" if history.best_epoch else "kept no epoch"
        table, counted = _compared(net, corpus, token)
        sample = shlex.join(("xprnn", "sample", str(model)))
        files = {
            MODEL: f"the network and its vocabulary; next: {sample}",
            HISTORY: "the losses of every epoch, JSON lines",
        }
        if len(history):
            figure = diagnostics.plot_loss(
                history.loss,
                history.validation_loss,
                others={f"{ORDER}-gram, held out:": counted},
                best_epoch=history.best_epoch,
                title=f"Loss per {token}, nats",
            )
            diagnostics.save_figure(figure, folder / PICTURE)
            files[PICTURE] = "the losses over epochs"
        print(f"{session.summary(backend)}; {kept}\n{table}")
        say_written(folder, files)
    return session.status(model)


def _check(args: argparse.Namespace) -> float:
    """Check the options before any work; return the share of the text that is held out."""
    check_options(args)
    checks.positive_int("--batch", args.batch)
    checks.positive_int("--chunk", args.chunk)
    check_window_option(args)
    if args.embedding is not None:
        checks.positive_int("--embedding", args.embedding)
    if args.vocabulary is not None and args.vocabulary <= len(SPECIAL):
        raise ValueError(
            f"--vocabulary is {args.vocabulary}: expected more than the {len(SPECIAL)} special "
            f"tokens, {', '.join(SPECIAL)}"
        )
    return checks.number("--held-out", args.held_out, below=1.0, open_=True)


def _compared(net: RNN, corpus: Corpus, token: str) -> tuple[str, float]:
    """Return losses and perplexities as a table, and the held-out loss of the n-gram model."""
    counted = NGram.fitted(corpus.tokens[0], ORDER, len(corpus.vocabulary))
    # After a failed training the loss may overflow; the number says so, and needs no warning.
    with net.backend.library.quiet():
        network = [
            evaluate(net, part, loss="cross_entropy") for part in (corpus.training, corpus.held_out)
        ]
    ngram = [counted.loss(part) for part in corpus.tokens]
    rows = [(f"{ORDER}-gram, interpolated back-off", ngram), ("network", network)]
    lines = [f"loss per {token} in nats (perplexity):       training         held out"]
    for name, losses in rows:
        training, held_out = map(_loss, losses)
        lines.append(f"  {name:<36} {training:>16} {held_out:>16}")
    return "\n".join(lines), ngram[1]


def _loss(loss: float) -> str:
    """Return a loss and its perplexity as text; the perplexity may be infinite."""
    try:
        perplexity = math.exp(loss)
    except OverflowError:
        perplexity = math.inf
    return f"{loss:{'.3f' if loss < 1e5 else '.3g'}} ({perplexity:.4g})"
