"""The training of the character model in PyTorch."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from xprnn.backend.host.arrays import HostArray
from xprnn.bench.quality.training import TrainingSetting
from xprnn.data.batches import Batch


class TorchTraining:
    """One-hot characters, an LSTM and a linear layer, with the optimizer and the carried state."""

    def __init__(self, setting: TrainingSetting, weights: Mapping[str, HostArray]) -> None:
        torch.set_num_threads(setting.threads)
        self.clip, self.dtype = setting.clip, getattr(torch, setting.dtype)
        self.size, hidden = weights["readout.weight"].shape
        layers = sum(name.startswith("lstm.weight_hh") for name in weights)
        self.lstm = torch.nn.LSTM(self.size, hidden, layers)
        self.readout = torch.nn.Linear(hidden, self.size)
        model = torch.nn.ModuleDict({"lstm": self.lstm, "readout": self.readout}).to(self.dtype)
        model.load_state_dict({name: torch.from_numpy(a) for name, a in weights.items()})
        # torch has two biases whose sum counts; training both would double the step.
        named = model.named_parameters()
        self.trained = [p for name, p in named if not name.startswith("lstm.bias_hh")]
        self.optimizer: torch.optim.Optimizer
        if setting.optimizer == "adam":
            self.optimizer = torch.optim.Adam(self.trained, setting.rate)
        else:
            self.optimizer = torch.optim.SGD(self.trained, setting.rate, setting.momentum)
        self.state: Any = None

    def step(self, batch: Batch) -> float:
        loss, state = self._loss(batch, self.state if batch.carry else None)
        self.state = tuple(part.detach() for part in state)
        self.optimizer.zero_grad()
        loss.backward()
        self._clip()
        self.optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def held_out(self, batches: Iterable[Batch]) -> float:
        total, count, state = 0.0, 0, None
        for batch in batches:
            loss, state = self._loss(batch, state if batch.carry else None)
            total += float(loss) * batch.target.size
            count += batch.target.size
        return total / count

    @torch.no_grad()
    def _clip(self) -> None:
        # Not clip_grad_norm_, which adds 1e-6 to the norm: more than a rounding.
        gradients = [p.grad for p in self.trained if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        for g in gradients:
            g.mul_(self.clip / max(norm, self.clip))

    def _loss(self, batch: Batch, state: Any) -> tuple[Any, Any]:
        x = torch.nn.functional.one_hot(torch.from_numpy(batch.x), self.size).to(self.dtype)
        h, state = self.lstm(x, state)
        logits = self.readout(h).flatten(0, 1)
        target = torch.from_numpy(batch.target).flatten()
        return torch.nn.functional.cross_entropy(logits, target), state


def prepare(setting: TrainingSetting, weights: Mapping[str, HostArray]) -> TorchTraining:
    """Return the training with these weights, before its first update."""
    return TorchTraining(setting, weights)
