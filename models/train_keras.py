"""Train a depthwise-separable net on the digits in Keras (channels last) and ship it as ONNX by tf2onnx.

TensorFlow and tf2onnx are no dependencies of graphrewrite. Give them an environment of their own:

    python3 -m venv keras-env
    keras-env/bin/pip install "graphrewrite[demo]" tensorflow-cpu tf2onnx
    OMP_NUM_THREADS=1 keras-env/bin/python -m graphrewrite.models.train_keras

The seed fixes the weights to the last bit. The bytes of the file still differ from run to run, because
tf2onnx numbers the constants it makes in no fixed order.

A stem and six separable blocks (depthwise 3x3, batch norm, ReLU6, pointwise 1x1, batch norm, ReLU6, after
Howard et al. 2017), widths 64 to 256, 0.2 million weights. The input stays [n, 32, 32, 1], so the file is
channels-last outside. It holds no BatchNormalization: inference-mode Keras writes batch norm as arithmetic,
which tf2onnx folds into the pointwise convolutions and leaves as Mul and Add behind the depthwise ones.
"""

from __future__ import annotations

import time

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from graphrewrite.models import digits, training

NAME = "digits_keras"
OPSET = 17
STEM = 32
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (256, 1))
"""Output width and stride of each separable block."""
PEAK_RATE = 3e-3
DECAY = 0.02


def net() -> keras.Model:
    """The untrained net from `image` [n, 32, 32, 1] to `logits` [n, 10]; seed Keras first."""
    image = keras.Input((digits.SIDE, digits.SIDE, 1), name=digits.INPUT_NAME)
    y = _activated(keras.layers.Conv2D(STEM, 3, 2, "same", use_bias=False, name="stem")(image), "stem")
    for index, (width, stride) in enumerate(BLOCKS):
        name = f"block{index}"
        depthwise = keras.layers.DepthwiseConv2D(3, stride, "same", use_bias=False, name=f"{name}_depthwise")
        y = _activated(depthwise(y), f"{name}_depthwise")
        pointwise = keras.layers.Conv2D(width, 1, use_bias=False, name=f"{name}_pointwise")
        y = _activated(pointwise(y), f"{name}_pointwise")
    y = keras.layers.GlobalAveragePooling2D(name="average")(y)
    return keras.Model(image, keras.layers.Dense(digits.CLASSES, name="logits")(y), name=NAME)


def trained(chosen: training.Options) -> keras.Model:
    """The net after `chosen.epochs` epochs; the same seed gives the same weights."""
    keras.utils.set_random_seed(chosen.seed)
    tf.config.experimental.enable_op_determinism()
    random = np.random.default_rng(chosen.seed)
    images, labels = digits.digits("train")
    model = net()
    optimiser = keras.optimizers.AdamW(PEAK_RATE, weight_decay=DECAY)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    steps = chosen.epochs * (len(images) // chosen.batch)
    step = 0

    @tf.function
    def update(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        weights = model.trainable_variables
        optimiser.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    for epoch in range(chosen.epochs):
        losses = []
        for x, y in training.batches(images, labels, chosen.batch, random):
            optimiser.learning_rate.assign(training.learning_rate(step, steps, PEAK_RATE))
            losses.append(float(update(tf.constant(digits.channels_last(x)), tf.constant(y))))
            step += 1
        print(f"epoch {epoch + 1}/{chosen.epochs}: training loss {np.mean(losses):.4f}", flush=True)
    return model


def exported(model: keras.Model) -> onnx.ModelProto:
    """The trained net in inference form as tf2onnx writes it, with a symbolic batch."""
    signature = (tf.TensorSpec((None, digits.SIDE, digits.SIDE, 1), tf.float32, name=digits.INPUT_NAME),)

    def forward(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": model(image, training=False)}

    proto, _ = tf2onnx.convert.from_function(tf.function(forward), input_signature=signature, opset=OPSET)
    return training.without_traces(proto)


def main() -> None:
    """Train, export, measure, write the model and its card, and print the card."""
    chosen = training.options("Train the depthwise-separable digits model with Keras.", epochs=40)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    start = time.perf_counter()
    model = trained(chosen)
    card = training.publish(
        exported(model),
        NAME,
        chosen,
        producer=f"keras {keras.__version__} on tensorflow {tf.__version__}, tf2onnx {tf2onnx.__version__}",
        script="graphrewrite.models.train_keras",
        layout="NHWC",
        packages=("keras", "tensorflow-cpu", "tf2onnx", "scikit-learn"),
        seconds=time.perf_counter() - start,
    )
    print(card)


def _activated(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Batch norm and ReLU6."""
    y = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu6")(y)


if __name__ == "__main__":
    main()
