"""The Python of docs/interop.md runs, top to bottom."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "interop.md"


def test_the_python_runs_as_it_stands(capsys):
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(code) == 4
    namespace = {"__name__": "page"}
    for block in code:
        exec(compile(block, PAGE.name, "exec"), namespace)
    printed = capsys.readouterr().out
    assert "cell=GRU(), bias=True, returns='sequence', layers=2, bidirectional=True" in printed
    assert "RNN(100, 32, 100, cell=LSTM(" in printed
    trained = {name for name, p in namespace["model"].named_parameters() if p.requires_grad}
    every = set(namespace["model"].state_dict())
    assert every - trained == {"rnn.bias_hh_l0", "rnn.bias_hh_l1"}
