"""``xprnn train text``: a language model."""

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from xprnn import checks, diagnostics
from xprnn.backend import Backend, get_backend
from xprnn.backend.host.arrays import Generator, generator
from xprnn.backend.host.quoting import listed
from xprnn.cli.common import check_extras, of_model, say_written
from xprnn.cli.models import load_model
from xprnn.cli.train.corpus import Corpus, corpus_of, streamed_corpus
from xprnn.cli.train.options import (
    RATES,
    check_options,
    check_window_option,
    chosen_optimizer,
    network_arguments,
    network_options,
    optimizer_options,
    recompute_option,
    run_options,
    top_size,
)
from xprnn.cli.train.ranks import device_of, distributed_option, together
from xprnn.cli.train.session import HISTORY, MODEL, Session, checkpoints, outputs
from xprnn.data import NGram, read_texts
from xprnn.data.collection import text_files
from xprnn.data.decoding import decoded
from xprnn.data.segmentation import LEVELS, PARTS
from xprnn.data.text import SPECIAL, plain_text, python_topics
from xprnn.engine.network import RNN
from xprnn.models.language import LanguageModel
from xprnn.training.evaluation import evaluate

HELP = "train a language model on a text"
DESCRIPTION = """\
Train a language model: a network that reads a text and predicts the next word (sentence by
sentence) or the next character (in one long stream).  The last part of the text is held out, and
the weights with the lowest loss there are saved.  Prints the loss per token and the perplexity
beside those of a 3-gram model with interpolated back-off, and which is better; writes the model,
the history and a picture."""
EXAMPLE = """\
examples:
  xprnn train text                                    (the language reference that Python ships)
  xprnn train text book.txt --level characters
  xprnn train text names.txt --level characters --unit line
  xprnn train text chapters/ more.txt.gz
  xprnn train text --from runs/text/model.safetensors new.txt
then:
  xprnn sample runs/text/model.safetensors --prompt "the" --length 30"""
PICTURE = "loss.png"
EPOCHS, UPDATES = 10, 2000
"""The default numbers of epochs and of updates, whichever is more."""
ONE_HOT = 256
"""The size of a vocabulary up to which tokens are one-hot vectors by default.

An embedding of characters would only put one more product before W.
"""
LARGE = 1 << 28
"""Bytes of text from which on it is read a piece at a time."""
ORDER = 3
"""The order of the n-gram model that the network is compared with."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add(
        "files",
        metavar="FILE",
        nargs="*",
        help="texts, folders of texts, or - for standard input (default: Python's reference)",
    )
    add(
        "--encoding",
        default="utf-8",
        metavar="NAME",
        help="encoding of the files (default: UTF-8, or UTF-16 and UTF-32 where they are "
        "recognised)",
    )
    add(
        "--from",
        dest="start",
        type=Path,
        metavar="MODEL",
        help="train a saved language model on: its vocabulary is kept, new words are UNKNOWN",
    )
    add(
        "--level",
        choices=LEVELS,
        help="the tokens: words; characters; or graphemes, which are what a reader calls one "
        "character, such as a letter with its marks, or a flag (default: words; graphemes or "
        "characters for scripts without spaces)",
    )
    add(
        "--unit",
        choices=PARTS,
        help="what is read by itself: a sentence, a line, or the stream of the whole text "
        "(default: sentences of words, as far as the text has sentence ends; else a stream)",
    )
    add(
        "--stream",
        action="store_true",
        help="read the text a piece at a time, as one stream, and keep its tokens on disk: for "
        f"texts larger than memory (default: where it is larger than {LARGE >> 20} MiB, unless "
        "--unit is given)",
    )
    add(
        "--vocabulary",
        type=int,
        metavar="N",
        help="size of the vocabulary, 3 special tokens included; rarer tokens become UNKNOWN "
        "(default: up to 8000 words, or all characters)",
    )
    network_options(parser, hidden=128, cell="lstm", recurrent_dropout=0.2)
    add(
        "--embedding",
        type=int,
        metavar="SIZE",
        help=f"size of a learned vector for each token; 0: one-hot vectors (default: as many as "
        f"hidden units, and 0 for up to {ONE_HOT} tokens)",
    )
    add(
        "--tied",
        action="store_true",
        help="one matrix for embedding and readout: fewer parameters, for a larger learning rate",
    )
    optimizer_options(
        parser,
        lr=0.1,
        momentum=0.9,
        schedule="cosine",
        optimizer="adam",
        rates=RATES | {"adam": 0.003, "adamw": 0.003},
    )
    run_options(parser)
    distributed_option(parser)
    add(
        "--epochs",
        type=int,
        metavar="N",
        help=f"passes over the text (default: enough for {UPDATES} updates, at least {EPOCHS})",
    )
    add(
        "--patience",
        type=int,
        metavar="N",
        help="stop when the held-out loss has not fallen for this many epochs (default: a tenth of "
        "--epochs, at least 3)",
    )
    add(
        "--batch",
        type=int,
        default=16,
        metavar="N",
        help="sentences, lines or streams in an update (default 16)",
    )
    add(
        "--chunk",
        type=int,
        default=50,
        metavar="N",
        help="tokens of each stream in an update (default 50)",
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
    with together(args):
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    """Do so on one of the ranks."""
    check_extras()
    share = _check(args)
    backend = get_backend(args.backend, device_of(args.communicator), args.dtype)
    rng = generator(args.seed)
    start = _start(args, backend)
    large, read = _streamed(args, start), list[str]()
    if large:
        corpus = streamed_corpus(large, share, args, backend, start)
    else:
        text, read = _text(args)
        corpus = corpus_of(text, share, args, backend, rng, start)
    net = _network(args, len(corpus.vocabulary), backend, rng) if start is None else start.net
    net.rng = rng
    if args.epochs is None:
        args.epochs = max(EPOCHS, math.ceil(UPDATES / len(corpus.training)))
    if args.patience is None:
        args.patience = max(3, args.epochs // 10)
    chosen = chosen_optimizer(args, args.epochs * len(corpus.training))
    (checkpoint,) = checkpoints(args)
    folder = outputs(args, "text", MODEL, HISTORY, PICTURE)
    # What can't be printed is no reason not to train; after the training it is told.
    with suppress(OSError):
        print("\n".join((*read, *corpus.notes, corpus.description)), flush=True)
    before = evaluate(net, corpus.held_out, loss="cross_entropy") if start else None
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
            patience=args.patience,
        )
    if args.rank:
        return session.quiet_status()
    (history,) = session.histories
    trained = LanguageModel(net, corpus.vocabulary, corpus.level, corpus.unit)
    model = session.save(folder, lambda path: trained.save(path, seed=args.seed))
    token = corpus.level.removesuffix("s")
    with session.finishing(model):
        history.save(folder / HISTORY)
        kept = f"kept epoch {history.best_epoch}" if history.best_epoch else "kept no epoch"
        if history.best_epoch and history.stopped == "patience":
            since = len(history) - history.best_epoch
            kept += f": {since} more without a lower held-out loss ended the training (--patience)"
        table, losses = _compared(net, corpus, token, before)
        sample = shlex.join(("xprnn", "sample", str(model)))
        files = {
            MODEL: f"the network and its vocabulary; next: {sample}",
            HISTORY: "the losses of every epoch, JSON lines",
        }
        if len(history):
            figure = diagnostics.plot_loss(
                history.loss,
                history.validation_loss,
                others={f"{ORDER}-gram, held out:": losses.counted},
                best_epoch=history.best_epoch,
                title=f"Loss per {token}, nats",
            )
            diagnostics.save_figure(figure, folder / PICTURE)
            files[PICTURE] = "the losses over epochs"
        print(f"{session.summary(backend)}; {kept}\n{table}")
        evenly, size = math.log(len(corpus.vocabulary)), len(corpus.vocabulary)
        session.warn_if_diverged(losses.training, evenly, f"an even guess among {size}")
        say_written(folder, files)
    return session.status(model)


def _check(args: argparse.Namespace) -> float:
    """Check the options before any work; return the share of the text that is held out."""
    check_options(args)
    checks.positive_int("--batch", args.batch)
    checks.positive_int("--chunk", args.chunk)
    check_window_option(args)
    if args.patience is not None:
        checks.positive_int("--patience", args.patience)
    if args.embedding:
        checks.positive_int("--embedding", args.embedding)
    if args.tied and args.embedding not in (None, top_size(args)):
        raise ValueError(
            f"--tied needs an --embedding as large as --hidden, {top_size(args)}, or none given; "
            f"it is {args.embedding}"
        )
    if args.vocabulary is not None and args.vocabulary <= len(SPECIAL):
        raise ValueError(
            f"--vocabulary is {args.vocabulary}: expected more than the {len(SPECIAL)} special "
            f"tokens, {', '.join(SPECIAL)}"
        )
    return checks.number("--held-out", args.held_out, below=1.0, open_=True)


def _start(args: argparse.Namespace, backend: Backend) -> LanguageModel | None:
    """Return the model to train on, if one was asked for."""
    if args.start is None:
        return None
    names = [name for name, default in args.network_defaults.items() if vars(args)[name] != default]
    names += [n for n in ("level", "unit", "vocabulary", "embedding") if vars(args)[n] is not None]
    names += ["tied"] * args.tied
    if names:
        raise ValueError(
            f"--{names[0].replace('_', '-')} is what the model of --from has already: expected no "
            "options of the network, the vocabulary or the tokens"
        )
    net = load_model(args.start, backend=backend)
    with of_model(args.start):
        return LanguageModel.of(net)


def _streamed(args: argparse.Namespace, model: LanguageModel | None) -> list[Path]:
    """Return the files to be read a piece at a time; none: the text is read as a whole."""
    asked = args.stream
    if not args.files or "-" in args.files:
        if asked:
            raise ValueError("--stream reads files a piece at a time: expected the name of one")
        return []
    unit = model.unit if model else args.unit
    if asked and unit not in (None, "stream"):
        raise ValueError(
            f"--stream reads a text as one stream, but the unit is {unit}: expected --unit stream"
        )
    if unit not in (None, "stream"):
        return []
    files = text_files(args.files)
    large = sum(file.stat().st_size for file in files) > LARGE
    return files if asked or large else []


def _text(args: argparse.Namespace) -> tuple[str, list[str]]:
    """Return the text, and lines about the files that it is from, if there are several."""
    if not args.files:
        return python_topics(), []
    paths: Sequence[str] = args.files
    if paths == ["-"] and args.distributed:
        raise ValueError("- is standard input, which rank 0 alone can read: expected a file")
    if paths == ["-"]:
        name = "standard input"
        return plain_text(decoded(sys.stdin.buffer.read(), name, args.encoding), name), []
    if "-" in paths:
        raise ValueError("- is standard input: expected it alone, or files and folders")
    found = read_texts(paths, args.encoding)
    told = [f"{len(found.files)} files, one after the other"] if len(found.files) > 1 else []
    if found.skipped:
        told.append(f"no text, left out: {listed(map(str, found.skipped), 4)}")
    return found.text, told


def _network(args: argparse.Namespace, size: int, backend: Backend, rng: Generator) -> RNN:
    """Return a new network for a vocabulary of this size."""
    embedding = args.embedding
    if embedding is None:
        embedding = top_size(args) if size > ONE_HOT or args.tied else 0
    return RNN(
        size,
        args.hidden,
        size,
        **network_arguments(args),
        embedding_size=embedding or None,
        tied=args.tied,
        backend=backend,
        rng=rng,
    )


class Compared(NamedTuple):
    """The network's loss on the training part, and the n-gram model's on the held-out part."""

    training: float
    counted: float


def _compared(net: RNN, corpus: Corpus, token: str, before: float | None) -> tuple[str, Compared]:
    """Return losses and perplexities as a table, and some of them.

    The table ends with a sentence that says which of both is better.
    """
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
    if before is not None:
        lines.append(f"  {'network, before this training':<36} {'':>16} {_loss(before):>16}")
    lines.append(_verdict(network[1], ngram[1], token))
    return "\n".join(lines), Compared(network[0], ngram[1])


def _verdict(network: float, ngram: float, token: str) -> str:
    """Return a sentence that says whether the network is better than counting."""
    if network < ngram:
        return f"the network is better than counting, by {ngram - network:.3f} nats per {token}"
    difference = f"by {network - ngram:.3f} nats per {token}" if network < math.inf else "by far"
    return (
        f"counting is better than the network, {difference}: more text, --epochs or --hidden may "
        "help"
    )


def _loss(loss: float) -> str:
    """Return a loss and its perplexity as text; the perplexity may be infinite."""
    try:
        perplexity = math.exp(loss)
    except OverflowError:
        perplexity = math.inf
    return f"{loss:{'.3f' if loss < 1e5 else '.3g'}} ({perplexity:.4g})"
