"""Train a residual net with batch norm on the digits in torch and ship it as ONNX.

    OMP_NUM_THREADS=1 python -m graphrewrite.models.train_resnet

Needs torch and scikit-learn beside graphrewrite. Three stages of two basic blocks, widths 32, 64 and 128
(He et al. 2015, with a 1x1 projection where the width changes), 0.7 million weights. The stem already
halves the image, as an enlarged 8x8 scan has nothing finer to offer. On one machine the same torch build and
seed give the same file to the last byte.
"""

from __future__ import annotations

import io
import time
import warnings

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from graphrewrite.models import digits, training

NAME = "digits_resnet"
OPSET = 17
WIDTHS = (32, 64, 128)
BLOCKS = 2
PEAK_RATE = 2e-3
DECAY = 0.05


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut; a 1x1 projection only where shapes differ."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        """`inside` and `outside` are channel counts; `stride` is that of the first convolution."""
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[n, inside, h, w] to [n, outside, h/stride, w/stride]."""
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """Stem, three stages, global average and a linear classifier."""

    def __init__(self) -> None:
        """Weights come from torch's global generator: seed it first."""
        super().__init__()
        self.stem = nn.Conv2d(1, WIDTHS[0], 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTHS[0])
        blocks: list[nn.Module] = []
        inside = WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            for index in range(BLOCKS):
                blocks.append(Block(inside, width, 2 if stage > 0 and index == 0 else 1))
                inside = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inside, digits.CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """[n, 1, 32, 32] to class scores [n, 10]."""
        y = self.blocks(functional.relu(self.norm(self.stem(image))))
        return self.head(torch.flatten(functional.adaptive_avg_pool2d(y, 1), 1))


def trained(chosen: training.Options) -> ResNet:
    """The net after `chosen.epochs` epochs, in evaluation mode; the same seed gives the same weights."""
    torch.manual_seed(chosen.seed)
    torch.use_deterministic_algorithms(True)
    random = np.random.default_rng(chosen.seed)
    images, labels = digits.digits("train")
    net = ResNet().train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=DECAY)
    steps = chosen.epochs * (len(images) // chosen.batch)
    step = 0
    for epoch in range(chosen.epochs):
        losses = []
        for x, y in training.batches(images, labels, chosen.batch, random):
            for group in optimiser.param_groups:
                group["lr"] = training.learning_rate(step, steps, PEAK_RATE)
            loss = functional.cross_entropy(
                net(torch.from_numpy(x)), torch.from_numpy(y), label_smoothing=0.05
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            step += 1
        print(f"epoch {epoch + 1}/{chosen.epochs}: training loss {np.mean(losses):.4f}", flush=True)
    return net.eval()


def exported(net: ResNet) -> onnx.ModelProto:
    """The net as ONNX with its BatchNormalization nodes kept and a symbolic batch.

    Methods that read or train batch norm need the nodes, and a plain export folds them into the
    convolutions. The TorchScript exporter has a switch for that: PRESERVE on a net in evaluation mode keeps
    the nodes in inference form. As an exporter's quirk, two pairs of norms whose biases learnt the same
    values (both add into one sum, so their gradients are equal) share one initializer through Identity.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            net,
            (torch.zeros(2, 1, digits.SIDE, digits.SIDE),),
            buffer,
            input_names=[digits.INPUT_NAME],
            output_names=["logits"],
            dynamic_axes={digits.INPUT_NAME: {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
        )
    return training.without_traces(onnx.load_model_from_string(buffer.getvalue()))


def main() -> None:
    """Train, export, measure, write the model and its card, and print the card."""
    chosen = training.options("Train the residual digits model with torch.", epochs=30)
    torch.set_num_threads(1)
    start = time.perf_counter()
    net = trained(chosen)
    card = training.publish(
        exported(net),
        NAME,
        chosen,
        producer=f"torch {torch.__version__}, torch.onnx (TorchScript exporter)",
        script="graphrewrite.models.train_resnet",
        layout="NCHW",
        packages=("torch", "scikit-learn"),
        seconds=time.perf_counter() - start,
    )
    print(card)


if __name__ == "__main__":
    main()
