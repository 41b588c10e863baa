"""Keras networks on TensorFlow, through tf2onnx: channels last, Transposes, recurrent layers as Loops or as LSTM nodes.

Run with a Python that has them: `pip install tensorflow-cpu tf2onnx`, then this file; then `tests/corpus/build.py`.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import keras
import tensorflow as tf
import tf2onnx
from keras import layers as kl

sys.path.append(str(Path(__file__).resolve().parents[3]))

from tests.corpus.exporters.common import export, random_vector

ROLES = {"gamma": "scale", "variance": "variance", "mean": "mean", "beta": "bias", "bias": "bias"}
OPSETS = (13, 15, 17, 18)


def main() -> None:
    """Export everything, at opsets in turn."""
    for number, (family, name, make) in enumerate(nets()):
        opset = OPSETS[number % len(OPSETS)]
        export(family, f"tf_{name}.tf2onnx.op{opset}", partial(write, make, opset))


def write(make: Callable[[], keras.Model], opset: int, path: Path) -> None:
    """Build, draw the vectors, let batch norms measure a random batch, and convert with a free batch."""
    model = make()
    for weight in model.weights:
        role = next((role for part, role in ROLES.items() if part in weight.path), None)
        if role is not None and len(weight.shape) == 1:
            weight.assign(random_vector(role, weight.shape[0]))
    norms = [layer for layer in model.layers if isinstance(layer, kl.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        model([tf.random.normal((4, *tensor.shape[1:])) for tensor in model.inputs], training=True)
    specs = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=f"input{number}")
        for number, tensor in enumerate(model.inputs)
    ]

    @tf.function(input_signature=specs)
    def call(*tensors):  # type: ignore[no-untyped-def]
        return model(list(tensors) if len(tensors) > 1 else tensors[0], training=False)

    tf2onnx.convert.from_function(call, input_signature=specs, opset=opset, output_path=str(path))


def nets() -> Iterator[tuple[str, str, Callable[[], keras.Model]]]:
    """Yield family, name and a function that builds."""
    for name, size, settings in (
        ("MobileNet", 64, {"alpha": 0.25}), ("MobileNetV2", 64, {"alpha": 0.35}), ("MobileNetV3Small", 64, {}),
        ("MobileNetV3Large", 64, {"alpha": 0.75}), ("EfficientNetB0", 64, {}), ("EfficientNetV2B0", 64, {}),
        ("DenseNet121", 64, {}), ("NASNetMobile", 224, {}),
    ):  # fmt: skip
        build = getattr(keras.applications, name)
        yield (
            "cnn",
            name.lower(),
            partial(
                build,
                weights=None,
                input_shape=(size, size, 3),
                classes=10,
                classifier_activation=None,
                **settings,
            ),
        )
    for name, layer in (("lstm", kl.LSTM), ("gru", kl.GRU), ("rnn", kl.SimpleRNN)):
        yield "recurrent", name, partial(stacked, layer)
        yield "recurrent", f"{name}_both_ways", partial(both_ways, layer)
        yield "recurrent", f"{name}_unrolled", partial(stacked, partial(layer, unroll=True), 5)
    yield (
        "recurrent",
        "gru_reset_before",
        lambda: chain((12, 16), kl.GRU(24, reset_after=False), kl.Dense(10)),
    )
    yield "recurrent", "conv_lstm", lambda: chain(
        (4, 8, 8, 3), kl.ConvLSTM2D(12, 3, padding="same", return_sequences=True), kl.ConvLSTM2D(8, 3),
        kl.GlobalAveragePooling2D(), kl.Dense(5),
    )  # fmt: skip
    yield "recurrent", "attentive", attentive
    yield "audio", "conv1d", lambda: chain(
        (32, 8), kl.Conv1D(32, 5, padding="causal", activation="relu"), kl.BatchNormalization(), kl.MaxPool1D(),
        kl.SeparableConv1D(48, 3, activation="swish"), kl.GlobalMaxPooling1D(), kl.Dense(10, activation="softmax"),
    )  # fmt: skip
    yield "audio", "temporal", temporal
    yield "cnn", "volume", lambda: chain(
        (10, 10, 10, 2), kl.Conv3D(16, 3, padding="same"), kl.BatchNormalization(), kl.ReLU(), kl.MaxPool3D(),
        kl.Conv3D(24, 3, activation="elu"), kl.Flatten(), kl.Dense(32, activation="selu"), kl.Dense(7),
    )  # fmt: skip
    yield "cnn", "separable", lambda: chain(
        (16, 16, 3), kl.SeparableConv2D(24, 3, padding="same"), kl.BatchNormalization(), kl.LeakyReLU(),
        kl.DepthwiseConv2D(3, strides=2, depth_multiplier=2), kl.PReLU(shared_axes=[1, 2]), kl.Conv2D(32, 1),
        kl.GlobalAveragePooling2D(), kl.Dense(9),
    )  # fmt: skip
    yield "gan", "generator", lambda: chain(
        (32,), kl.Dense(4 * 4 * 64), kl.Reshape((4, 4, 64)), kl.BatchNormalization(), kl.ReLU(),
        kl.Conv2DTranspose(32, 5, strides=2, padding="same"), kl.BatchNormalization(), kl.ReLU(),
        kl.Conv2DTranspose(16, 5, strides=2, padding="same"), kl.LeakyReLU(),
        kl.Conv2DTranspose(3, 5, padding="same", activation="tanh"),
    )  # fmt: skip
    yield "segmentation", "unet", unet
    yield "cnn", "group_norm", group_norm
    yield "transformer", "encoder", encoder


def chain(shape: Sequence[int], *layers: kl.Layer) -> keras.Model:
    """Return layers one after another."""
    x = entry = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(entry, x)


def stacked(layer: Callable[..., kl.Layer], steps: int = 12) -> keras.Model:
    """Two recurrent layers."""
    return chain((steps, 16), layer(32, return_sequences=True), layer(24), kl.Dense(10))


def both_ways(layer: Callable[..., kl.Layer]) -> keras.Model:
    """Two recurrent layers that read forwards and backwards."""
    first, second = layer(24, return_sequences=True), layer(16)
    return chain((12, 16), kl.Bidirectional(first), kl.Bidirectional(second), kl.Dense(10))


def unet() -> keras.Model:
    """Three levels, skips by concatenation."""
    x = entry = keras.Input((32, 32, 3))
    skips = []
    for width in (16, 24, 32):
        x = kl.ReLU()(kl.BatchNormalization()(kl.Conv2D(width, 3, padding="same", use_bias=False)(x)))
        skips.append(x)
        x = kl.MaxPool2D()(x)
    x = kl.Conv2D(48, 3, padding="same", activation="relu")(x)
    for width, skip in zip((32, 24, 16), reversed(skips), strict=True):
        x = kl.Concatenate()([kl.UpSampling2D(interpolation="bilinear")(x), skip])
        x = kl.Conv2D(width, 3, padding="same", activation="relu")(x)
    return keras.Model(entry, kl.Conv2D(4, 1, activation="sigmoid")(x))


def group_norm() -> keras.Model:
    """Convolutions with group norms and squeeze-and-excitation."""
    x = entry = keras.Input((16, 16, 3))
    for width in (16, 32):
        x = kl.Activation("mish")(kl.GroupNormalization(4)(kl.Conv2D(width, 3, padding="same")(x)))
        gate = kl.Conv2D(width // 4, 1, activation="relu")(kl.GlobalAveragePooling2D(keepdims=True)(x))
        x = kl.AveragePooling2D(2)(kl.Multiply()([x, kl.Conv2D(width, 1, activation="sigmoid")(gate)]))
    return keras.Model(entry, kl.Dense(5)(kl.Flatten()(x)))


def temporal() -> keras.Model:
    """Dilated causal convolutions with residual sums."""
    x = entry = keras.Input((32, 8))
    for dilation in (1, 2, 4):
        y = kl.Conv1D(16, 3, padding="causal", dilation_rate=dilation, activation="relu")(x)
        y = kl.Conv1D(16, 3, padding="causal", dilation_rate=dilation, activation="relu")(y)
        x = kl.Add()([y, kl.Conv1D(16, 1)(x) if x.shape[-1] != 16 else x])
    return keras.Model(entry, kl.TimeDistributed(kl.Dense(3))(x))


def attentive() -> keras.Model:
    """An LSTM read by both attentions of Keras."""
    entry = keras.Input((12, 16))
    states = kl.LSTM(24, return_sequences=True)(entry)
    x = kl.Attention()([states, states])
    y = kl.AdditiveAttention()([states, x])
    joined = kl.Concatenate()([kl.GlobalAveragePooling1D()(x), kl.GlobalMaxPooling1D()(y)])
    return keras.Model(entry, kl.Dense(5)(joined))


def encoder() -> keras.Model:
    """Two blocks of a pre-norm transformer (tf2onnx knows no Erfc, so the activation is not the exact GELU)."""
    x = entry = keras.Input((10, 24))
    x = kl.Dense(32)(x)
    for _ in range(2):
        y = kl.LayerNormalization()(x)
        x = x + kl.MultiHeadAttention(4, 8)(y, y)
        x = x + kl.Dense(32)(kl.Dense(64, activation="swish")(kl.LayerNormalization()(x)))
    return keras.Model(entry, kl.Dense(5)(kl.GlobalAveragePooling1D()(x)))


if __name__ == "__main__":
    main()
