"""One recurrent layer in PyTorch, forward and backward."""

from collections.abc import Callable
from typing import Any

import torch

from xprnn.backend.host.arrays import HostArray
from xprnn.bench.layer import LayerCase
from xprnn.bench.peers.torch_precision import dtype_for


def prepare(
    cell: str, case: LayerCase, device: str, threads: int, precision: str = "float32"
) -> Callable[[], Any]:
    """Return the work: y = layer(x), and from dL/dy the gradients of x and of all parameters."""
    if device == "cpu":
        torch.set_num_threads(threads)
    dtype = dtype_for(precision)
    kinds: dict[str, Any] = {"elman": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
    torch.manual_seed(0)
    layer = kinds[cell](case.inputs, case.hidden).to(device, dtype)

    def tensor(host: HostArray) -> Any:
        return torch.from_numpy(host).to(device, dtype)

    data = case.data()
    x, dy = tensor(data.x).requires_grad_(), tensor(data.dy)
    wanted = [x, *layer.parameters()]

    def work() -> Any:
        y, _ = layer(x)
        found = torch.autograd.grad(y, wanted, dy)
        if device != "cpu":
            torch.cuda.synchronize()
        return found

    return work
