"""PaddlePaddle networks through paddle2onnx: its vision models, a segmentation net and norms.

Run with a Python that has them: `pip install paddlepaddle paddle2onnx packaging`, then this file; then
`tests/corpus/build.py`. The exporter may end the process, so each network has one of its own.
"""

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import paddle
from paddle import nn
from paddle.vision import models

sys.path.append(str(Path(__file__).resolve().parents[3]))

from tests.corpus.exporters.common import export, random_vector

OPSETS = (11, 13, 16)


def main() -> None:
    """Export everything, at opsets in turn."""
    for number, (family, name, size, make) in enumerate(nets()):
        opset = OPSETS[number % len(OPSETS)]
        if os.fork():
            os.wait()
            continue
        export(family, f"paddle_{name}.paddle2onnx.op{opset}", partial(write, make, size, opset))
        os._exit(0)


def write(make: Callable[[], nn.Layer], size: tuple[int, ...], opset: int, path: Path) -> None:
    """Build, draw the vectors, let batch norms measure a random batch, and export; the exporter appends the suffix."""
    net = make()
    for name, vector in [*net.named_parameters(), *net.named_buffers()]:
        if vector.ndim == 1:
            role = "variance" if "variance" in name else "scale" if name.endswith("weight") else "bias"
            vector.set_value(random_vector(role, vector.shape[0]))
    for layer in net.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer._momentum = 0.0
    net.train()
    net(paddle.randn([4, *size]))
    net.eval()
    spec = paddle.static.InputSpec([None, *size], "float32", "x")
    paddle.onnx.export(net, str(path.with_suffix("")), input_spec=[spec], opset_version=opset)


def nets() -> Iterator[tuple[str, str, tuple[int, ...], Callable[[], nn.Layer]]]:
    """Yield family, name, size of the input and a function that builds."""
    for name, size, settings in (
        ("resnet18", 64, {}), ("mobilenet_v1", 64, {"scale": 0.25}), ("mobilenet_v2", 64, {"scale": 0.25}),
        ("mobilenet_v3_small", 64, {"scale": 0.5}), ("mobilenet_v3_large", 64, {"scale": 0.5}), ("densenet121", 64, {}),
        ("shufflenet_v2_x0_25", 64, {}), ("shufflenet_v2_swish", 64, {}), ("squeezenet1_1", 64, {}), ("LeNet", 28, {}),
    ):  # fmt: skip
        shape = (1 if name == "LeNet" else 3, size, size)
        yield "cnn", name.lower(), shape, partial(getattr(models, name), num_classes=10, **settings)
    yield "cnn", "norms", (3, 16, 16), Norms
    yield "segmentation", "unet", (3, 32, 32), Skips


def block(made: int, given: int) -> nn.Layer:
    """A convolution with norm and activation."""
    return nn.Sequential(nn.Conv2D(given, made, 3, padding=1), nn.BatchNorm2D(made), nn.Hardswish())


class Skips(nn.Layer):
    """A U-Net of two levels: both rise by transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.LayerList([block(16, 3), block(24, 16), block(32, 24)])
        self.pool, self.rise = nn.MaxPool2D(2, 2), nn.Conv2DTranspose(32, 24, 2, 2)
        self.up, self.scale = (
            nn.LayerList([block(24, 48), block(16, 40)]),
            nn.Conv2DTranspose(24, 24, 2, 2),
        )
        self.head = nn.Conv2D(16, 3, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Return a map of three classes."""
        a = self.down[0](x)
        b = self.down[1](self.pool(a))
        c = self.up[0](paddle.concat([self.rise(self.down[2](self.pool(b))), b], 1))
        return nn.functional.sigmoid(self.head(self.up[1](paddle.concat([self.scale(c), a], 1))))


class Norms(nn.Layer):
    """Group norm, instance norm, PReLU by channel, a grouped convolution and a pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.by_group, self.by_channel = (
            nn.Conv2D(3, 16, 3),
            nn.GroupNorm(4, 16),
            nn.InstanceNorm2D(16),
        )
        self.slope, self.grouped = nn.PReLU(16), nn.Conv2D(16, 32, 3, groups=4)
        self.shuffle, self.head = nn.PixelShuffle(2), nn.Conv2D(8, 3, 3)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Return a picture."""
        x = self.by_channel(self.slope(self.by_group(self.first(x))))
        return self.head(self.shuffle(self.grouped(nn.functional.silu(x))))


if __name__ == "__main__":
    main()
