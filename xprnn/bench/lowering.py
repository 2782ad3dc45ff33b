"""How xprnn runs its cells in the processes that are timed.

``python -m xprnn.bench.lowering BACKEND CELL ...`` prints the words of `explain_lowering` for each
cell, as JSON.
"""

import json
import sys
from collections.abc import Sequence

from xprnn.bench.process import result_of
from xprnn.bench.timing import Setting
from xprnn.engine.loop.explaining import explain_lowering


def lowering_of(cells: Sequence[str], setting: Setting) -> dict[str, str]:
    """Return how xprnn runs each cell in a process with this setting, by the cell's name.

    Raises
    ------
    RuntimeError
        If the setting's lowering or backend is not available.
    """
    found: dict[str, str] = result_of(
        "xprnn.bench.lowering",
        setting.backend,
        *cells,
        what=f"the lowering of {setting.backend}",
        threads=setting.threads,
        **setting.variables("xprnn"),
    )
    return found


if __name__ == "__main__":
    backend, *names = sys.argv[1:]
    print(json.dumps({name: explain_lowering(name, backend) for name in names}))  # noqa: T201
