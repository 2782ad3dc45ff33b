"""Write keras_masks.json: recurrent layers of Keras with masks, and their gradients, in float64.

The tests read the file and never import Keras.  To make it anew, with Keras 3 and PyTorch:
``python tests/keras_masks.py``.
"""

import json
import os
from pathlib import Path

import numpy as np
import torch

os.environ["KERAS_BACKEND"] = "torch"

import keras
from keras.src.backend.common import dtypes

T, B, I, H = 6, 3, 2, 3  # noqa: E741
MASK = [[0, 1, 1, 0, 0, 1], [1, 0, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]
LAYERS = {"lstm": keras.layers.LSTM, "elman": keras.layers.SimpleRNN}


def lists(a):
    return np.asarray(a).tolist()


def steps_first(a):
    return lists(np.swapaxes(np.asarray(a), 0, 1))


def judged(kind, x, mask, d_state, rng):
    """Return the weights of a layer, what it computes, and the gradient of Σ h(T) d_state."""
    layer = kind(H, return_sequences=True, return_state=True, dtype="float64")
    layer.build((B, T, I))
    layer.set_weights([rng.normal(size=w.shape).round(3) for w in layer.weights])
    leaf = torch.tensor(x, requires_grad=True)
    y, h, *_ = layer(leaf, mask=torch.tensor(mask))
    W, U, b = (w.value for w in layer.trainable_weights)
    dx, dW, dU, db = torch.autograd.grad((h * torch.tensor(d_state)).sum(), [leaf, W, U, b])
    weights = {"W": W.T, "U": U.T, "b": b, "dW": dW.T, "dU": dU.T, "db": db}
    found = {name: lists(a.detach()) for name, a in weights.items()}
    return found | {"h": lists(h.detach()), "y": steps_first(y.detach()), "dx": steps_first(dx)}


def main():
    keras.config.set_floatx("float64")
    # Except on TensorFlow, Keras would multiply matrices of float64 in float32.
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    rng, mask = np.random.default_rng(7), np.array(MASK, dtype=bool)
    x, d_state = rng.normal(size=(B, T, I)).round(3), rng.normal(size=(B, H)).round(3)
    data = {"keras": keras.__version__, "torch": torch.__version__.partition("+")[0]}
    data |= {"x": steps_first(x), "mask": lists(mask.T), "d_state": lists(d_state)}
    for name, kind in LAYERS.items():
        data[name] = judged(kind, x, mask, d_state, rng)
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(data) + "\n")


if __name__ == "__main__":
    main()
