"""Keras applications on the torch backend, channels last, through both torch exporters.

These are real Keras graphs: a Transpose before and after every convolution, batch norms written out in arithmetic on
the last axis, SAME padding by explicit Pads. Needs keras.
"""

import importlib
import os
from functools import partial
from types import ModuleType

import torch
from torch import Tensor, nn

from tests.corpus.index import Feed
from tests.corpus.spec import Spec
from tests.corpus.stubs import import_torchvision
from tests.corpus.torch_nets import Net, Variant, dyn, specs, static, ts

# Class, picture size, settings. Where the class has no width, only those that are small enough are here.
ROWS: tuple[tuple[str, int, dict[str, object]], ...] = (
    ("MobileNet", 64, {"alpha": 0.25}),
    ("MobileNetV2", 64, {"alpha": 0.35}),
    ("MobileNetV3Small", 64, {"alpha": 0.75, "minimalistic": True}),
    ("MobileNetV3Large", 64, {"alpha": 0.75}),
    ("EfficientNetB0", 64, {}),
    ("EfficientNetV2B0", 64, {}),
    ("DenseNet121", 64, {}),
)
# torch.export does not accept a free batch in a Keras model.
FORMS = (ts(), static(dyn()))


def application(name: str, size: int, settings: dict[str, object]) -> Net:
    """An application without pretrained weights, ten classes."""
    keras = _keras()
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10, **settings
    )
    return Net(model, (Feed("input", (None, size, size, 3)),), partial(measure, model))


def measure(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Let the batch norms take their statistics from one random batch."""
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0
    with torch.no_grad():
        model(inputs[0], training=True)


def sequence(kind: str) -> Net:
    """A small text model: a recurrent layer of either kind, or multi-head attention."""
    keras = _keras()
    layers = keras.layers
    tokens = keras.Input((10,), dtype="int32")
    x = layers.Embedding(50, 24)(tokens)
    if kind == "attention":
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 8)(x, x))
        x = layers.LayerNormalization()(x + layers.Dense(24)(layers.Dense(48, activation="gelu")(x)))
        x = layers.GlobalAveragePooling1D()(x)
    else:
        x = layers.Bidirectional(getattr(layers, kind)(16))(x)
    model = keras.Model(tokens, layers.Dense(4)(layers.Dense(24, activation="relu")(x)))
    return Net(model, (Feed("tokens", (None, 10), "int32", 0, 50),))


def separable() -> Net:
    """Separable, transposed and 1x1 convolutions with concatenation: a small U-Net in the Keras manner."""
    keras = _keras()
    layers = keras.layers
    picture = keras.Input((32, 32, 3))
    a = layers.Conv2D(16, 3, padding="same", activation="relu")(picture)
    b = layers.BatchNormalization()(layers.SeparableConv2D(32, 3, strides=2, padding="same")(a))
    b = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(32, 3, padding="same")(layers.Activation("swish")(b)))
    up = layers.Conv2DTranspose(16, 3, strides=2, padding="same")(b)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.Concatenate()([a, up]))
    model = keras.Model(picture, layers.Conv2D(4, 1, activation="softmax")(x))
    return Net(model, (Feed("input", (None, 32, 32, 3)),))


def specs_of_source() -> list[Spec]:
    """All of the above."""
    _keras()
    found: list[Spec] = []
    for i, (name, size, settings) in enumerate(ROWS):
        variants: tuple[Variant, ...] = (ts(13 + i % 5), static(dyn(18)))
        found += specs(f"keras_{name}", "cnn", "keras", partial(application, name, size, settings), variants)
    for kind in ("LSTM", "GRU"):
        found += specs(f"keras_text_{kind.lower()}", "recurrent", "keras", partial(sequence, kind), FORMS)
    found += specs("keras_text_attention", "transformer", "keras", partial(sequence, "attention"), FORMS)
    return found + specs("keras_separable_unet", "segmentation", "keras", separable, FORMS, core=True)


def _keras() -> ModuleType:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import_torchvision()
    return importlib.import_module("keras")
