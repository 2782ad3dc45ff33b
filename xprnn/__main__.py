"""``python -m xprnn``."""

import sys

from xprnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
