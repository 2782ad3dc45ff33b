"""What the page of the optimizers shows: its Python runs, and its table has the defaults."""

import re
from pathlib import Path

from xprnn.optim import OPTIMIZERS

PAGE = (Path(__file__).parents[1] / "docs" / "optimizers.md").read_text()


def test_the_python_runs_top_to_bottom(capsys):
    namespace, losses = {}, []
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    for block in blocks:
        exec(compile(block, "docs/optimizers.md", "exec"), namespace)
        losses.append(namespace["history"].loss[0])
    assert float(capsys.readouterr().out) < losses[0]


def test_every_rule_is_there():
    for name, kind in OPTIMIZERS.items():
        assert f"`{name}`" in PAGE
        assert PAGE.count(f"| `{kind.__name__}` |") == 2
