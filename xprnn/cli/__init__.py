"""The command line: it parses, calls the library, and says what happened."""

from xprnn.cli.main import main

__all__ = ["main"]
