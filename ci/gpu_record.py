"""Write the record of a run on a CUDA device: date, device, versions and results.

python ci/gpu_record.py tests FILE.xml RECORD.json        the counts in a report of pytest
python ci/gpu_record.py NAME FILE.json RECORD.json        the JSON that a benchmark printed
"""

import datetime
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import xprnn


def surroundings() -> dict[str, Any]:
    """Return date, device and versions."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    facts = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": properties["name"].decode(),
        "versions": {
            "xprnn": xprnn.__version__,
            "cupy": cupy.__version__,
            "cuda": cupy.cuda.runtime.runtimeGetVersion(),
            "driver": cupy.cuda.runtime.driverGetVersion(),
            "python": sys.version.split()[0],
        },
    }
    if importlib.util.find_spec("torch") is not None:
        import torch

        facts["versions"]["torch"] = torch.__version__
        facts["versions"]["cudnn"] = torch.backends.cudnn.version()
    return facts


def counts(report: Path) -> dict[str, int]:
    """Return how many tests ran, failed, broke and were skipped."""
    suite = ElementTree.parse(report).getroot().find("testsuite")
    return {k: int(suite.get(k)) for k in ("tests", "failures", "errors", "skipped")}


def main(name: str, source: Path, record: Path) -> str | None:
    """Write the record; return what is wrong with it, if anything is."""
    facts, wrong = surroundings(), None
    if name == "tests":
        facts["tests"] = found = counts(source)
        if found["skipped"] == found["tests"]:
            wrong = "every test was skipped: no CUDA device was used"
    else:
        facts |= {"benchmark": json.loads(source.read_text())}
        facts["rows"] = rows = facts["benchmark"].pop("rows")
        if any(row.get("ratio") is None for row in rows):
            wrong = f"{name} has rows without a ratio: torch is missing"
    record.write_text(json.dumps(facts, indent=2) + "\n")
    print(f"written: {record}")
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
