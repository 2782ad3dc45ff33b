"""The trainings whose steps are timed."""

from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np

RATE, CLIP = 0.001, 1.0
"""Of Adam, and the limit of the gradient's norm."""


class TrainingData(NamedTuple):
    """x and target of every batch; integers (T, B), or floats (T, B, I) and (T, B, O) or (B, O)."""

    x: list[HostArray]
    target: list[HostArray]


class TrainingCase(NamedTuple):
    """A model and the shape of its batches.

    Attributes
    ----------
    inputs, hidden, outputs, batch, steps : int
    tokens : bool
        Whether inputs are one of so many tokens and the outputs their logits; the loss is the mean
        cross-entropy then, else ½ mean((y - target)²).
    last : bool
        Whether the output is that of the last step alone.
    """

    inputs: int
    hidden: int
    outputs: int
    batch: int
    steps: int
    tokens: bool = False
    last: bool = False

    def data(self, batches: int = 4) -> TrainingData:
        """Return random data, the same for every library."""
        rng = np.random.default_rng(0)
        x: list[HostArray] = []
        target: list[HostArray] = []
        for _ in range(batches):
            if self.tokens:
                tokens = rng.integers(0, self.inputs, (self.steps + 1, self.batch))
                x.append(tokens[:-1].copy())
                target.append(tokens[1:].copy())
                continue
            when = () if self.last else (self.steps,)
            shapes = ((self.steps, self.batch, self.inputs), (*when, self.batch, self.outputs))
            one, other = (rng.standard_normal(shape, dtype="float32") for shape in shapes)
            x.append(one)
            target.append(other)
        return TrainingData(x, target)


TRAININGS = {
    "characters": TrainingCase(65, 128, 65, 32, 64, tokens=True),
    "characters-256": TrainingCase(65, 256, 65, 32, 64, tokens=True),
    "forecast-last": TrainingCase(1, 64, 1, 32, 50, last=True),
    "forecast": TrainingCase(1, 64, 1, 32, 50),
}
