"""``xprnn parity``: whether all backends compute the same."""

from xprnn.cli.parity.command import DESCRIPTION, EXAMPLE, HELP, add_options, run

__all__ = ["DESCRIPTION", "EXAMPLE", "HELP", "add_options", "run"]
