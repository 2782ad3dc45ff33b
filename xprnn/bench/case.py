"""The shapes that a layer is timed at."""

from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np


class LayerData(NamedTuple):
    """x (T, B, I) and dL/dy (T, B, H), in float32."""

    x: HostArray
    dy: HostArray


class LayerCase(NamedTuple):
    """One shape: I, H, B, T."""

    inputs: int
    hidden: int
    batch: int
    steps: int

    def data(self) -> LayerData:
        """Return random data, the same for every library."""
        rng = np.random.default_rng(0)
        shapes = (self.inputs, self.hidden)
        x, dy = (
            rng.standard_normal((self.steps, self.batch, size), dtype="float32") for size in shapes
        )
        return LayerData(x, dy)


CASES = {
    "tiny": LayerCase(1, 32, 1, 100),
    "wildml": LayerCase(100, 100, 1, 20),
    "lecture": LayerCase(1, 500, 1, 200),
    "small": LayerCase(32, 64, 16, 50),
    "rltools": LayerCase(32, 64, 32, 64),
    "medium": LayerCase(64, 128, 32, 100),
    "large": LayerCase(256, 256, 64, 100),
    "fastrnn": LayerCase(512, 512, 64, 100),
    "wide": LayerCase(1024, 1024, 32, 25),
    "dbench": LayerCase(1760, 1760, 16, 50),
}
CELLS = ("elman", "gru", "lstm")
