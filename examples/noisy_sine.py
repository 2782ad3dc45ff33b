"""A recurrent network learns a noisy sine.

x runs from -10 to 10 in steps of 0.1, y = sin x + 0.1·N(0, 1): one sequence of 200 steps.

    h(t) = tanh(W x(t) + U h(t-1) + b)        y(t) = R h(t) + r        L = ½ mean((ŷ - y)²)

Run it with ``python examples/noisy_sine.py [--epochs N] [--neurons N] [--out FOLDER]``.
"""

# %%
import argparse
from pathlib import Path

import numpy as np

import xprnn
from xprnn import diagnostics

SCALE = 0.1  # x within ±1, which the initial weights are made for


# %%
def train(x, y, *, epochs, neurons, learning_rate=0.02, decay=0.0, momentum=0.95, seed=0):
    """Train a network on one sequence, and return it with its history."""
    net = xprnn.RNN(1, neurons, 1, rng=seed)
    print(f"training {neurons} neurons for {epochs} epochs ...")
    history = xprnn.fit(
        net,
        (net.backend.asarray(SCALE * x), net.backend.asarray(y)),
        optimizer=xprnn.optim.SGD(learning_rate, momentum=momentum, decay=decay),
        epochs=epochs,
        clip_norm=1.0,  # gradients explode now and then; their direction is still right
        callbacks=[every_hundredth],
    )
    print(f"final loss {history.loss[-1]:.4f} after {history.seconds:.1f} s")
    return net, history


def every_hundredth(net, record):
    """Say how far the training is."""
    if record.epoch % 100 == 0:
        print(f"  epoch {record.epoch}: loss {record.loss:.4f}")


# %%
def apply(net, x):
    """Apply a trained network to x of any length and spacing."""
    output, _ = net(net.backend.asarray(SCALE * x))
    return net.backend.to_numpy(output)


# %%
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--neurons", type=int, default=100, help="the lecture took 500 to 800")
    parser.add_argument("--out", type=Path, default=Path("runs/noisy_sine"))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)

    x, y = xprnn.data.sine(rng=0)
    net, history = train(x, y, epochs=args.epochs, neurons=args.neurons)

    def draw(name, figure):
        diagnostics.save_figure(figure, args.out / name)

    line = x[:, 0, 0]
    draw("fit.png", diagnostics.plot_fit(line, apply(net, x)[:, 0, 0], data=y[:, 0, 0]))
    draw("loss.png", diagnostics.plot_loss(history.loss, floor=0.005))

    run = net.forward(net.backend.asarray(SCALE * x))
    states = net.backend.to_numpy(run.tape.trajectory.states[0])[1:, 0, :]
    draw("states.png", diagnostics.plot_states(states, x=line, xlabel="x"))

    # The lecture's last step: other x, three times as far apart, half of them never seen.
    other = np.arange(0, 20, 0.3).reshape(-1, 1, 1)
    fitted = apply(net, other)[:, 0, 0]
    other = other[:, 0, 0]
    figure = diagnostics.plot_fit(other, fitted, truth=np.sin(other), trained=(-10, 10))
    draw("other_x.png", figure)
    print(f"pictures: {args.out}")


if __name__ == "__main__":
    main()
