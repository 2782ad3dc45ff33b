"""The training of `xprnn.bench.distributed` in torch: DistributedDataParallel over gloo."""

import tempfile
from collections.abc import Callable
from typing import Any

import torch

from xprnn.distributed import MPI
from xprnn.distributed.team import Team


def training_step(
    communicator: MPI, features: int, hidden: int, batch: int, steps: int
) -> Callable[[], object]:
    """Return one update: B sequences on this rank, gradients averaged over all."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # All ranks use rank 0's folder to find each other.
    folder = Team(communicator).texts(tempfile.mkdtemp())[0]
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=communicator.rank,
        world_size=communicator.size,
    )
    x, target = torch.randn(steps, batch, features), torch.randn(steps, batch, features)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(features, hidden)
            self.readout = torch.nn.Linear(hidden, features)

        def forward(self, x: Any) -> Any:
            return self.readout(self.lstm(x)[0])

    model = torch.nn.parallel.DistributedDataParallel(Model())
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> float:
        optimizer.zero_grad()
        loss = 0.5 * torch.nn.functional.mse_loss(model(x), target)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss)

    return step
