# %% [markdown]
# # The general recurrent network: many inputs or one, many outputs or one
#
#     h(t) = φ(W x(t) + U h(t-1) + b)        y(t) = R h(t) + r, or softmax of it
#
# The same network maps many to many, many to one, and one to many, the latter in two ways: with an
# input at the first step and zeros after it, or in a closed loop, in which every output is the next
# input.  The page `docs/general-network.md` explains the example.
#
# As a script: `python examples/general_network.py [--epochs N] [--out FOLDER]`.

# %%
import argparse
from pathlib import Path

import numpy as np

import xprnn
from xprnn import diagnostics
from xprnn.cells import Elman

# %% [markdown]
# ## Many-to-many
#
# The input is a word, the output is the next one.  The same word has different successors, so only
# the state can tell which comes.


# %%
def many_to_many(epochs):
    words = ["the", "cat", "saw", "the", "dog", "and", "the", "dog", "saw", "the", "cat"]
    vocabulary = sorted(set(words))
    tokens = np.array([[vocabulary.index(word)] for word in words])  # (T, B) with B = 1
    net = xprnn.RNN(len(vocabulary), 8, len(vocabulary), dtype="float64", rng=0)
    history = fit(net, tokens[:-1], tokens[1:], epochs, "cross_entropy", rate=0.5)
    net.metadata["sentence"] = [words, tokens.tolist()]
    y, _ = net(tokens[:-1])
    said = [vocabulary[k] for k in np.argmax(y[:, 0, :], axis=1)]
    print(f"many-to-many: {loss_of(history)}; the {' '.join(said)}")
    return net, history


# %% [markdown]
# The gradient of every state has a contribution from each loss at or after it.  That of the loss
# of step s at step t is the entry (s, t) of a matrix; the whole gradient is their sum over s.


# %%
def contributions(net):
    """Draw what each word's loss contributes to the gradient of every earlier state."""
    words, tokens = net.metadata["sentence"]
    x, target = np.array(tokens[:-1]), np.array(tokens[1:])
    flow = diagnostics.gradient_flow(net, x, target, loss="cross_entropy", matrix=True)
    print(f"many-to-many: {flow.sentence}")
    return diagnostics.plot_contributions(flow, tokens=words[:-1])


# %% [markdown]
# ## Many-to-one
#
# Does a sequence have more ones than zeros?  With `returns="last"` each sequence has one output.


# %%
def many_to_one(epochs, length=7):
    bits = np.arange(2**length) >> np.arange(length)[:, None] & 1  # all binary sequences
    x, target = bits[:, :, None].astype(np.float64), (bits.sum(axis=0) > length / 2).astype(int)
    net = xprnn.RNN(1, 8, 2, returns="last", dtype="float64", rng=0)
    history = fit(net, x, target, epochs, "cross_entropy", rate=0.5)
    right = np.mean(np.argmax(net(x)[0], axis=1) == target)
    print(f"many-to-one: {loss_of(history)}; {right:.0%} of {2**length} sequences are right")
    return net, history


# %% [markdown]
# ## One-to-many
#
# Strike a bell once, x(1) = a, and it rings: y(t) = a 0.9^t cos(π t / 5).


# %%
def ringing(strength, steps=20):
    """Return x (T, B, 1), which is zero after the first step, and the sound (T, B, 1)."""
    t = np.arange(1, steps + 1)[:, None]
    x = np.where(t == 1, strength, 0.0)
    return x[..., None], (strength * 0.9**t * np.cos(np.pi * t / 5))[..., None]


def one_to_many(epochs):
    net = xprnn.RNN(1, 16, 1, dtype="float64", rng=0)
    history = fit(net, *ringing(np.linspace(-1, 1, 9)), epochs, "squared_error", rate=0.2)
    x, sound = ringing(np.array([0.6]))  # a strength that is not in the training data
    error = np.max(np.abs(net(x)[0] - sound))
    print(f"one-to-many: {loss_of(history)}; an unheard strength is off by {error:.3f} at most")
    return net, history


# %%
def fit(net, x, target, epochs, loss, rate):
    sgd = xprnn.optim.SGD(rate, momentum=0.9)
    return xprnn.fit(net, (x, target), loss=loss, optimizer=sgd, epochs=epochs, clip_norm=1.0)


def loss_of(history):
    return f"loss {history.loss[0]:.3g} -> {history.loss[-1]:.2g}"


# %% [markdown]
# ## Closed loop, for generation
#
# One step after another; each output is the next input.


# %%
def generate(net, x, steps):
    """Return y (T, B, O) of a loop that begins with one input x (B, I)."""
    outputs, state = [], None
    for _ in range(steps):
        y, state = net(x[None], state)
        x = y[0]
        outputs.append(x)
    return np.stack(outputs)


# %% [markdown]
# ## Closed loop, for training
#
# With x(t+1) = R h(t) + r, the steps after the first one are
#
#     h(t+1) = φ(W (R h(t) + r) + U h(t) + b) = φ(U' h(t) + b')
#     U' = U + W R        b' = b + W r                                                 (1)
#
# an ordinary unroll without input.  The gradients of U' and b' give those of all parameters:
#
#     dU = dU'    dW = dU' Rᵀ + db' rᵀ    dR = Wᵀ dU'    db = db'    dr = Wᵀ db'      from (1)
#
# These are added to the gradients of the first step and of the readout.  This works for a linear
# readout, and a cell that adds W x + b and U h before anything else.


# %%
def closed_loop(net, x, steps):
    """Return y (T, B, O) of a loop that begins with x (B, I), and a tape for the way back."""
    if not isinstance(net.cell, Elman):
        raise TypeError(f"the cell is {net.cell}: expected Elman, which adds W x + b and U h")
    W, U, b, R, r = net.parameters.values()
    first, loop = xprnn.Weights(W, U, b), xprnn.Weights(W, U + W @ R, b + W @ r)  # (1)
    start = xprnn.unroll(net.cell, first, x[None])
    nothing = np.zeros((steps - 1, *x.shape), dtype=x.dtype)
    rest = xprnn.unroll(net.cell, loop, nothing, start.state)
    h = np.concatenate([start.h, rest.h])
    return h @ R.T + r, (first, loop, start.tape, rest.tape, h)


def closed_loop_backward(net, tape, dy):
    """Return the gradients of all parameters, by name, from dL/dy (T, B, O)."""
    first, loop, start_tape, rest_tape, h = tape
    W, _, _, R, r = net.parameters.values()
    dh = dy @ R
    rest = xprnn.unroll_backward(net.cell, loop, rest_tape, dh[1:])
    start = xprnn.unroll_backward(net.cell, first, start_tape, dh[:1], rest.state)
    dU, db = rest.weights.U, rest.weights.b
    gradients = (
        start.weights.W + dU @ R.T + np.outer(db, r),
        start.weights.U + dU,
        start.weights.b + db,
        np.einsum("tbo,tbh->oh", dy, h) + W.T @ dU,
        np.sum(dy, axis=(0, 1)) + W.T @ db,
    )
    return dict(zip(net.parameters, gradients, strict=True))


# %%
def wave(steps, noise=0.0, period=20):
    """Return cos(2π t / period) for t = 0 to steps, (T + 1, 1, 1); from t = 1 on with noise."""
    t = np.arange(steps + 1).reshape(-1, 1, 1)
    normal = np.random.default_rng(0).normal(size=t.shape)
    return np.cos(2 * np.pi * t / period) + noise * normal * (t > 0)


def train_on(series, epochs, *, closed, seed=0):
    """Train through the closed loop or one step ahead; return the network and its last loss."""
    net = xprnn.RNN(1, 12, 1, dtype="float64", rng=seed)
    rule = xprnn.optim.Rprop(0.001)
    state, x, target = rule.init(net.parameters), series[:-1], series[1:]
    for _ in range(epochs):
        if closed:
            y, tape = closed_loop(net, x[0], len(target))  # x(1) is its only input
            value, dy = xprnn.losses.SquaredError().value_and_grad(y, target)
            gradients = closed_loop_backward(net, tape, dy)
        else:
            value, gradient = net.value_and_grad(x, target)
            gradients = gradient.parameters
        net.parameters, state = rule.update(gradients, state, net.parameters)
    return net, float(value)


def loss(y, target):
    return 0.5 * float(np.mean((y - target) ** 2))


def one_to_many_in_a_loop(epochs, steps=60):
    clean = wave(4 * steps)
    start, truth = clean[0], clean[1:]
    net, last = train_on(clean[: steps + 1], epochs, closed=True)
    y = generate(net, start, 4 * steps)
    difference = np.max(np.abs(y[:steps] - closed_loop(net, start, steps)[0]))
    later = loss(y[steps:], truth[steps:])
    print(f"closed loop: loss {loss(0, truth):.3g} (silence) -> {last:.2g}; {later:.2g} later on")
    print(f"  generated step by step and as one unroll, it differs by {difference:.0e}")
    return net, y


def two_ways_to_train(epochs, steps=60, seed=0):
    """Train on a noisy wave one step ahead and through the loop; print and return the losses."""
    noisy, truth = wave(steps, noise=0.2), wave(steps)[1:]
    losses = {}
    for name, closed in (("one step ahead", False), ("through the loop", True)):
        net, _ = train_on(noisy, epochs, closed=closed, seed=seed)
        ahead, looped = net(noisy[:-1])[0], generate(net, noisy[0], steps)
        losses[name] = loss(ahead, noisy[1:]), loss(looped, noisy[1:]), loss(looped, truth)
        ahead, looped, quiet = losses[name]
        print(f"  noisy wave, trained {name}: loss {ahead:.4f} one step ahead,")
        print(f"    {looped:.4f} in a loop, {quiet:.4f} in a loop without the noise")
    return losses


# %% [markdown]
# ## All of it


# %%
def main(argv=None):
    parser = argparse.ArgumentParser(description="The general recurrent network.")
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("runs/general_network"))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)

    def draw(name, y, wanted, trained):
        figure = diagnostics.plot_fit(
            np.arange(1, len(y) + 1), y[:, 0, 0], data=wanted[:, 0, 0], trained=(1, trained)
        )
        figure.axes[0].set_xlabel("step")
        diagnostics.save_figure(figure, args.out / name)

    speaker, _ = many_to_many(args.epochs)
    classifier, _ = many_to_one(args.epochs)
    bell, _ = one_to_many(args.epochs)
    _, y = one_to_many_in_a_loop(args.epochs)
    two_ways_to_train(args.epochs)
    print(f"\n{diagnostics.draw_text(classifier)}\n")

    diagnostics.save_figure(diagnostics.draw(classifier), args.out / "network.png")
    x, sound = ringing(np.array([0.6]), 40)
    draw("one_to_many.png", bell(x)[0], sound, 20)
    draw("closed_loop.png", y, wave(len(y))[1:], 60)
    diagnostics.save_figure(contributions(speaker), args.out / "contributions.png")
    # What each state contributes to the gradients, for one sequence of seven bits.
    bits = np.array([1.0, 0, 1, 1, 0, 0, 1]).reshape(7, 1, 1)
    page = diagnostics.inspect_page(
        classifier, bits, np.array([1]), "cross_entropy", title="Many to one: 4 of 7 bits are ones"
    )
    page.save(args.out / "many_to_one_steps.html")
    print(f"pictures, and every step in a browser (many_to_one_steps.html): {args.out}")
    diagnostics.show_pictures(args.out)


if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)
