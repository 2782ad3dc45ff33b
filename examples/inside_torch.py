# %% [markdown]
# # A cell of your own between two layers of torch
#
# `xprnn.interop.torch.Module` makes a torch module of a network.  Torch's autograd sees one node:
# its forward pass is the network's, and its backward pass the explicit one.  So a cell that torch
# does not have trains between layers that it has, by torch's optimizers, and without a Python loop
# over time.
#
# The cell here is a gated unit that only forgets, of J. van der Westhuizen and J. Lasenby, "The
# unreasonable effectiveness of the forget gate" (2018, arXiv:1804.04849), without the constant that
# they add to one of the gates:
#
#     f(t) = σ(u_f + v_f)                          (1)
#     n(t) = tanh(u_n + v_n)                       (2)
#     h(t) = f h(t-1) + (1 - f) n                  (3)
#
# As a script: `python examples/inside_torch.py [--epochs N] [--seconds S] [--out FOLDER]`.

# %%
import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import xprnn
from xprnn import diagnostics, testing
from xprnn.cells.activations import logistic

# %% [markdown]
# ## 1. The cell, twice
#
# For xprnn a cell is its formulas and their derivatives; the names are explained in
# [A cell of your own](bring_your_own_cell.py).


# %%
@dataclass(frozen=True)
class Forgetting:
    gates = 2
    state = ("h",)

    def forward(self, xp, u, v, state):
        (h,) = state
        f = logistic(xp, u[0] + v[0])  # (1)
        n = xp.tanh(u[1] + v[1])  # (2)
        return (f * h + (1 - f) * n,), (f, n)  # (3)

    def backward(self, xp, saved, previous, d_state):
        del xp
        (f, n), (h,), (dh,) = saved, previous, d_state
        df = dh * (h - n) * f * (1 - f)  # from (3), (1)
        dn = dh * (1 - f) * (1 - n * n)  # from (3), (2)
        return (df, dn), (df, dn), (dh * f,)


# %% [markdown]
# In torch it is a loop over steps, whose derivatives autograd works out.


# %%
class InTorch(nn.Module):
    def __init__(self, inputs, hidden):
        super().__init__()
        self.hidden = hidden
        self.project = nn.Linear(inputs, 2 * hidden)
        self.recur = nn.Linear(hidden, 2 * hidden, bias=False)

    def forward(self, x):
        h, outputs = x.new_zeros(x.shape[1], self.hidden), []
        for u in self.project(x):
            f, n = (u + self.recur(h)).chunk(2, dim=-1)
            f, n = torch.sigmoid(f), torch.tanh(n)
            h = f * h + (1 - f) * n
            outputs.append(h)
        return torch.stack(outputs), (h,)


# %% [markdown]
# ## 2. Are they the same?
#
# `check_cell` proves the derivatives without torch, and `torch.autograd.gradcheck` those of the
# module.  Then both models get the same weights, and their gradients are compared, from the first
# layer's weights to the last one's.


# %%
class Model(nn.Module):
    def __init__(self, recurrent, inputs=3, features=8, hidden=16):
        super().__init__()
        self.encode = nn.Linear(inputs, features)
        self.recurrent = recurrent
        self.decode = nn.Linear(hidden, 1)

    def forward(self, x):
        h, _ = self.recurrent(torch.tanh(self.encode(x)))
        return self.decode(h)


def make(dtype, features=8, hidden=16):
    """Return the model with xprnn's network, and the same model in torch."""
    torch.manual_seed(0)
    name = str(dtype).removeprefix("torch.")
    net = xprnn.RNN(features, hidden, cell=Forgetting(), dtype=name, rng=0)
    ours = Model(xprnn.interop.torch.Module(net), 3, features, hidden).to(dtype)
    theirs = Model(InTorch(features, hidden), 3, features, hidden).to(dtype)
    theirs.encode.load_state_dict(ours.encode.state_dict())
    theirs.decode.load_state_dict(ours.decode.state_dict())
    rnn, loop = ours.recurrent, theirs.recurrent
    with torch.no_grad():
        loop.project.weight.copy_(rnn.weight_ih_l0)
        loop.project.bias.copy_(rnn.bias_l0)
        loop.recur.weight.copy_(rnn.weight_hh_l0)
    return ours, theirs


def prove():
    testing.check_cell(Forgetting())
    ours, theirs = make(torch.float64)
    x = torch.randn(5, 2, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ours.recurrent(x)[0], x)
    x = torch.randn(30, 4, 3, dtype=torch.float64)
    for model in (ours, theirs):
        model(x).square().sum().backward()
    pairs = [
        (ours.encode.weight, theirs.encode.weight),
        (ours.recurrent.weight_hh_l0, theirs.recurrent.recur.weight),
        (ours.decode.weight, theirs.decode.weight),
    ]
    worst = max(float((a.grad - b.grad).abs().max() / b.grad.abs().max()) for a, b in pairs)
    assert worst < 1e-12
    print(f"gradients of all three layers: relative difference {worst:.0e} at most")


# %% [markdown]
# ## 3. Torch trains it
#
# The task is a running mean of the first input over about ten steps.  Nothing in this loop knows of
# xprnn.


# %%
def running_mean(steps=60, sequences=16):
    x = torch.randn(steps, sequences, 3)
    mean, means = torch.zeros(sequences), []
    for x_t in x[:, :, 0]:
        mean = mean + (x_t - mean) / 10
        means.append(4 * mean)
    return x, torch.stack(means).unsqueeze(-1)


def train(epochs):
    model, _ = make(torch.float32)
    x, target = running_mean()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = (model(x) - target).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    print(f"{epochs} epochs: loss {losses[0]:.3f} -> {losses[-1]:.4f}")
    return model, losses


# %% [markdown]
# ## 4. What it costs
#
# The same two models, forward and backward.  The loop's time is mostly torch's bookkeeping for each
# small operation, so its share falls as the network grows.


# %%
def compare(seconds):
    for steps, batch, hidden in ((50, 8, 16), (100, 16, 64), (100, 64, 256)):
        models = make(torch.float32, hidden, hidden)
        x = torch.randn(steps, batch, 3)

        def once(model, x=x):
            model.zero_grad()
            model(x).square().mean().backward()

        for model in models:
            once(model)  # the first call compiles xprnn's loops, if Numba is installed
        best = [float("inf")] * 2
        until = time.perf_counter() + seconds
        while True:
            for k, model in enumerate(models):  # in turns, so that both meet the same disturbances
                start = time.perf_counter()
                once(model)
                best[k] = min(best[k], time.perf_counter() - start)
            if time.perf_counter() > until:
                break
        print(
            f"T = {steps:3}, B = {batch:2}, H = {hidden:3}: xprnn {1e3 * best[0]:6.2f} ms, "
            f"loop in torch {1e3 * best[1]:6.2f} ms, {best[1] / best[0]:.1f} times as long"
        )


# %%
def main(argv=None):
    parser = argparse.ArgumentParser(description="A cell of your own between two layers of torch.")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1.0, help="to measure each size")
    parser.add_argument("--out", type=Path, default=Path("runs/inside_torch"))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)

    prove()
    model, losses = train(args.epochs)
    compare(args.seconds)

    model.recurrent.net.save(args.out / "forgetting.safetensors")
    figure = diagnostics.plot_loss(losses, title="Own cell, inside torch")
    diagnostics.save_figure(figure, args.out / "loss.png")
    print(f"written: {args.out}")
    diagnostics.show_pictures(args.out)


if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)
