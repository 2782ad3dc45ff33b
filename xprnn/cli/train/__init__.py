"""``xprnn train``: its problems, and what they share."""

from xprnn.cli.common import Command
from xprnn.cli.train import csv, sine, text

PROBLEMS: dict[str, Command] = {"sine": sine, "csv": csv, "text": text}
