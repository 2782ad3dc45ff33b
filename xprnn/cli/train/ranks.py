"""A command that several processes run together: rank 0 speaks and writes for all of them."""

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from xprnn import checks
from xprnn.backend.host.quoting import listed
from xprnn.cli.common import tell
from xprnn.cli.stops import stops
from xprnn.distributed import MPI, NCCL, Communicator, LostRankError
from xprnn.distributed.choosing import NAMES
from xprnn.distributed.team import Team
from xprnn.distributed.variables import early_rank


def distributed_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--distributed``."""
    parser.add_argument(
        "--distributed",
        metavar="NAME",
        help="train together with the processes that were started with this one: mpi, under "
        "mpiexec or srun, or nccl, under torchrun, srun or mpiexec with --backend cupy; each takes "
        "its share of every batch",
    )
    parser.add_argument(
        "--compress",
        metavar="NAME",
        help="with --distributed mpi: send gradients as float16, which halves the bytes; what "
        "rounding takes away is added to the next update's",
    )
    parser.set_defaults(rank=0, communicator=None)


@contextmanager
def together(args: argparse.Namespace) -> Iterator[None]:
    """Run a command on all ranks, inside a ``with`` block.

    ``args.communicator`` becomes the communicator, and ``args.rank`` the rank.  Those above 0 print
    nothing: what fails on one of them is told by rank 0.

    Raises
    ------
    SystemExit
        Instead of an error on a rank above 0, with its status.
    """
    if args.distributed is None:
        if args.compress is not None:
            raise ValueError("--compress is given, but there is no --distributed mpi")
        yield
        return
    try:
        _check(args)
    except ValueError:
        if early_rank(os.environ):
            raise SystemExit(1) from None  # rank 0 finds the same
        raise
    communicator = NCCL() if args.distributed == "nccl" else MPI(compress=args.compress)
    args.communicator, args.rank = communicator, communicator.rank
    with ExitStack() as inside:
        if args.rank:
            nowhere = inside.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            inside.enter_context(redirect_stdout(nowhere))
            inside.enter_context(redirect_stderr(nowhere))
        elif communicator.size > 1:
            _introduce(communicator, args)
        try:
            # `fit` holds signals by itself.
            with Team(communicator, holds_signals=False):
                yield
        except KeyboardInterrupt:
            if args.rank:
                raise SystemExit(stops.status) from None
            raise
        except Exception as error:
            if args.rank and not isinstance(error, LostRankError):
                raise SystemExit(1) from None
            raise


def _check(args: argparse.Namespace) -> None:
    """Check the options before there are any other ranks."""
    name = checks.choice("--distributed", args.distributed, tuple(NAMES))
    if name == "nccl" and args.backend != "cupy":
        raise ValueError(
            f"--distributed nccl adds up arrays of CuPy, and --backend is {args.backend}: expected "
            "--backend cupy"
        )
    if args.compress is not None:
        checks.choice("--compress", args.compress, ("float16",))
        if name != "mpi":
            raise ValueError(
                "--compress is for --distributed mpi: NCCL sends gradients as they are"
            )


def _introduce(communicator: MPI | NCCL, args: argparse.Namespace) -> None:
    """Say which processes there are: a launcher names a killed one by its number."""
    tell(f"{communicator.size} ranks: {listed(communicator.names, 8)}")
    if args.checkpoint is not None:
        tell(
            "if one is killed, the launcher ends the others; the same command with --resume goes "
            "on, on any number of ranks"
        )


def device_of(communicator: Communicator | None) -> str | None:
    """Return the device of a rank's network; None: the backend's first."""
    return communicator.device_name if isinstance(communicator, NCCL) else None
