"""One training step in PyTorch, from the output to the update."""

from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch

from xprnn.backend.host.arrays import HostArray
from xprnn.bench.peers.torch_precision import dtype_for
from xprnn.bench.training import CLIP, RATE, TrainingCase, network
from xprnn.interop.torch import to_state_dict


class _Model(torch.nn.Module):
    """One-hot tokens or floats, a recurrent layer, a linear layer."""

    def __init__(self, cell: str, case: TrainingCase) -> None:
        super().__init__()
        kinds: dict[str, Any] = {"elman": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
        self.case = case
        self.rnn = kinds[cell](case.inputs, case.hidden)
        self.readout = torch.nn.Linear(case.hidden, case.outputs)
        weights = to_state_dict(network(cell, case), rnn="rnn")
        self.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in weights.items()})
        if cell != "gru":
            # One of torch's two biases is trained, as in xprnn; the GRU needs a part of the second.
            self.rnn.bias_hh_l0.requires_grad_(requires_grad=False)

    def forward(self, x: Any) -> Any:
        """Return logits or forecasts."""
        if self.case.tokens:
            x = torch.nn.functional.one_hot(x, self.case.inputs).to(torch.float32)
        h, _ = self.rnn(x)
        return self.readout(h[-1] if self.case.last else h)


def prepare(
    cell: str, case: TrainingCase, device: str, threads: int, precision: str = "float32"
) -> Callable[[], Any]:
    """Return the work: one training step, which returns the loss before the update."""
    dtype_for(precision)
    if device == "cpu":
        torch.set_num_threads(threads)
    model = _Model(cell, case).to(device)
    trained = [p for p in model.parameters() if p.requires_grad]
    # The fused kernel is the fastest one in torch, on the CPU too.
    optimizer = torch.optim.Adam(trained, RATE, fused=True)

    def tensor(host: HostArray) -> Any:
        return torch.from_numpy(host).to(device)

    batches = cycle([(tensor(x), tensor(y)) for x, y in zip(*case.data(), strict=True)])
    functional = torch.nn.functional

    def work() -> float:
        x, target = next(batches)
        optimizer.zero_grad()
        y = model(x)
        loss: Any
        if case.tokens:
            loss = functional.cross_entropy(y.flatten(0, 1), target.flatten())
        else:
            loss = 0.5 * functional.mse_loss(y, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        return float(loss.detach())

    return work
