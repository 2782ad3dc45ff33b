"""``xprnn inspect``: a saved network and its gradients, step by step."""

from xprnn.cli.inspect.command import DESCRIPTION, EXAMPLE, HELP, add_options, run

__all__ = ["DESCRIPTION", "EXAMPLE", "HELP", "add_options", "run"]
