"""A checkpoint that rank 0 has read, sent to the other ranks."""

import tempfile
from pathlib import Path

from xprnn.backend.host.arrays import np
from xprnn.backend.host.safetensors import packed
from xprnn.distributed.team import Team
from xprnn.training.checkpoint.file import KIND, Content, read_file


def shared(team: Team, found: tuple[Content, bool] | None) -> tuple[Content, bool] | None:
    """Return rank 0's checkpoint, and whether it is the file or the previous one.

    It is sent as the bytes of a file, so that the others check it as rank 0 has.
    """
    latest = found is None or found[1]
    whole = b"" if found is None else packed(KIND, found[0].arrays, found[0].data)
    sent = team.from_first(np.frombuffer(whole, dtype=np.uint8))
    latest = bool(team.meet("a checkpoint", float(latest))[0, 0])
    if team.rank == 0 or not len(sent):
        return found
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint"
        file.write_bytes(sent.tobytes())
        return read_file(file), latest
