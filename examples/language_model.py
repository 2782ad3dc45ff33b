# %% [markdown]
# # A recurrent language model
#
# A network reads a sentence word by word and predicts the next one:
#
#     s(t) = tanh(U x(t) + W s(t-1))        o(t) = softmax(V s(t))
#
# x(t) is the one-hot vector of word t, so U x(t) is a column of U: the vectors are never made, a
# word is an integer.  x is the sentence without its last token; the target is the sentence without
# its first.  The loss is the cross-entropy, -log of the probability that the model gave to the next
# word: 2.3 for a choice among ten equally probable words.
#
# As a script: `python examples/language_model.py [--epochs N] [--sentences N] [--out FOLDER]`.

# %%
import argparse
from pathlib import Path

import xprnn
from xprnn import diagnostics
from xprnn.data.text import Vocabulary, python_topics, sentence_batches, sentences, words
from xprnn.optim.schedules import halve_on_rise

# %% [markdown]
# ## The text
#
# The text is the language reference that comes with every Python.  Words outside the vocabulary
# become UNKNOWN; every sentence stands between SENTENCE_START and SENTENCE_END.


# %%
def read(count, size):
    """Return a vocabulary, and the encoded sentences to train on and held out."""
    split = [words(sentence) for sentence in sentences(python_topics())[:count]]
    split = [sentence for sentence in split if 3 <= len(sentence) <= 40]
    border = int(0.9 * len(split))
    most = 3 + len({word for sentence in split[:border] for word in sentence})
    vocabulary = Vocabulary.of(split[:border], min(size, most))
    encoded = [vocabulary.encode_sentence(sentence) for sentence in split]
    return vocabulary, encoded[:border], encoded[border:]


# %% [markdown]
# ## Training as in the original
#
# The original publishes the losses of a trial with 100 sentences: one sentence in each update, a
# learning rate of 0.005 for the sum over a sentence, 9 epochs.  Truncation is windowed: the loss of
# each step goes back through that step and the 4 before it.  The learning rate is halved whenever
# the evaluated loss has risen.  The network has the size of the original, 8000 words, so that it
# begins with the same loss, log 8000.

# %%
PUBLISHED = (8.987, 8.976, 8.960, 8.930, 8.862, 6.914, 6.302, 6.015, 5.834, 5.711)


def trial(encoded, *, size=8000, hidden=100, epochs=9, seed=0):
    """Train as in the original; return the losses per word, the initial one first, and seconds."""
    net = xprnn.RNN(size, hidden, size, bias=False, rng=seed)
    batches = [(sentence[:-1, None], sentence[1:, None]) for sentence in encoded]
    total = xprnn.losses.CrossEntropy("sum")
    before = xprnn.evaluate(net, batches, loss=total)
    history = xprnn.fit(
        net,
        batches,
        loss=total,
        optimizer=xprnn.optim.SGD(0.005),
        epochs=epochs,
        window=4,
        rate_scale=halve_on_rise,
        validation=batches,
    )
    words = sum(len(target) for _, target in batches)
    return [loss / words for loss in (before, *history.validation_loss)], history.seconds


# %% [markdown]
# ## Better training
#
# With eight sentences in each update, Adam, and biases, the network overtakes a 3-gram model, which
# counts the words that follow every two words, within seconds.


# %%
def train(vocabulary, training, held_out, *, hidden, epochs, window=4, seed=0):
    """Train a model; return it and its history."""
    size = len(vocabulary)
    net = xprnn.RNN(size, hidden, size, rng=seed)
    history = xprnn.fit(
        net,
        sentence_batches(training, 8, net.backend, rng=seed),
        loss="cross_entropy",
        optimizer=xprnn.optim.Adam(0.003),
        epochs=epochs,
        window=window,
        clip_norm=1.0,
        rate_scale=halve_on_rise,
        validation=sentence_batches(held_out, 16, net.backend, shuffle=False),
        patience=epochs,
        callbacks=[tell],
    )
    return xprnn.LanguageModel(net, vocabulary, "words"), history


def tell(net, record):
    """Print the losses of an epoch."""
    print(f"epoch {record.epoch}: loss {record.loss:.3f}, held out {record.validation_loss:.3f}")


# %% [markdown]
# ## What the window cuts off
#
# With `window=4` the loss of a word reaches back through the 4 words before its own.  What it would
# send further is the rest of `decay`, measured without a window.


# %%
def cut_off(net, sentence, window=4):
    """Print how far the gradient reaches with and without the window; return the picture."""
    x, target = sentence[:-1, None], sentence[1:, None]
    flows = {
        name: diagnostics.gradient_flow(
            net, x, target, loss="cross_entropy", window=k, matrix=k is not None
        )
        for name, k in (("all the way", None), (f"window {window}", window))
    }
    for name, flow in flows.items():
        print(f"{name}: {flow.sentence}")
    whole, cut = flows.values()
    beyond = whole.decay[0, window + 1 :]
    if len(beyond):
        share = beyond[0] / whole.decay[0, 0]
        print(f"the window cuts off what would reach the next word back: {share:.2%} of the loss's")
    return diagnostics.plot_contributions(cut, title=f"window {window}")


# %% [markdown]
# ## Everything together: train, predict, write


# %%
def main(argv=None):
    parser = argparse.ArgumentParser(description="A recurrent language model.")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--sentences", type=int, default=1500)
    parser.add_argument("--vocabulary", type=int, default=1000)
    parser.add_argument("--trial", type=int, default=8000, help="words in the original's trial")
    parser.add_argument("--out", type=Path, default=Path("runs/language_model"))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)

    vocabulary, training, held_out = read(args.sentences, args.vocabulary)
    print(f"{len(training)} sentences, {len(held_out)} held out, {len(vocabulary)} words")

    losses, seconds = trial(training[:100], size=args.trial)
    print(f"the original's trial, 100 sentences, 9 epochs in {seconds:.1f} s; loss per word:")
    print("  published", *(f"{loss:.3f}" for loss in PUBLISHED))
    print("  here     ", *(f"{loss:.3f}" for loss in losses))

    model, history = train(vocabulary, training, held_out, hidden=args.hidden, epochs=args.epochs)
    counted = xprnn.data.NGram.fitted(training, 3, len(vocabulary))
    print(f"held-out loss per word: {min(history.validation_loss):.3f}")
    print(f"a 3-gram model's:       {counted.loss(held_out):.3f}")

    sentence = ["SENTENCE_START", "the", "value", "of"]
    print("after each of", sentence, "comes", model.predict(sentence))
    print(model.sample("the", 30, temperature=0.7, rng=0))

    model.save(args.out / "model.safetensors")
    # A held-out sentence step by step: with the window, no loss reaches back more than 4 words.
    page = diagnostics.inspect_page(
        model.net,
        held_out[0][:-1, None],
        held_out[0][1:, None],
        "cross_entropy",
        window=4,
        vocabulary=vocabulary.tokens,
        title="A held-out sentence, window 4",
    )
    page.save(args.out / "sentence_steps.html")
    print(f"step by step, in a browser: {args.out / 'sentence_steps.html'}")
    # The longest of the first sentences, so that there is something to cut off.
    sentence = max(held_out[:20], key=len)
    diagnostics.save_figure(cut_off(model.net, sentence), args.out / "window.png")
    figure = diagnostics.plot_loss(
        history.loss,
        history.validation_loss,
        others={"3-gram, held out:": counted.loss(held_out)},
        title="Loss per word",
    )
    diagnostics.save_figure(figure, args.out / "loss.png")
    diagnostics.show_pictures(args.out)


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)
