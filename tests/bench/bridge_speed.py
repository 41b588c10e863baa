"""Speed of bridged modules beside the torch modules they were exported from: training steps, and calls per node.

`python tests/bench/bridge_speed.py [--threads 2] [--write]` prints a table and puts it into RESULTS.md. All times are
medians of rivals taking turns in one process; ratios are to the module written by hand. onnx2torch takes part where it
is installed and converts the graph.
"""

import argparse
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

sys.path.append(str(Path(__file__).resolve().parents[2]))

import onnx
import torch
from torch import nn

from graphrewrite.bridge import GraphModule
from graphrewrite.ir import Model
from tests.bench.common import Spent, kept, say, table, timed
from tests.corpus.stubs import import_torchvision

TITLE = "Bridged modules beside hand-written ones"


class Block(nn.Module):
    """Two convolutions with norms and a way around them."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out))
        self.two = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
        same = into == out and stride == 1
        self.way = (
            nn.Sequential()
            if same
            else nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        return torch.relu(self.two(torch.relu(self.one(x))) + self.way(x))


def resnet() -> nn.Module:
    """Return an 18-layer residual net for pictures of 32 x 32."""
    blocks = [
        Block(16, 16, 1),
        Block(16, 16, 1),
        Block(16, 32, 2),
        Block(32, 32, 1),
        Block(32, 64, 2),
        Block(64, 64, 1),
    ]
    first = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def encoder() -> nn.Module:
    """Return two transformer layers of width 64."""
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def elementwise() -> nn.Module:
    """Return a long chain of the cheapest operators there are, so that only the calls cost."""

    class Chain(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(100):
                x = torch.relu(x) + x
            return x

    return Chain()


def exported(module: nn.Module, x: torch.Tensor) -> onnx.ModelProto:
    """Return what torch's exporter writes with norms kept as nodes."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (x,), file, dynamo=False, opset_version=17, do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE, dynamic_axes={"x": {0: "N"}}, input_names=["x"],
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


def rivals(module: nn.Module, x: torch.Tensor) -> Mapping[str, nn.Module]:
    """Return the module, its bridged self, and what onnx2torch makes of it."""
    proto = exported(module.eval(), x)
    found = {"by hand": module, "bridged": GraphModule(Model.from_proto(proto))}
    try:
        import_torchvision()  # onnx2torch wants it, and its compiled part may be missing
        onnx2torch = importlib.import_module("onnx2torch")
        found["onnx2torch"] = onnx2torch.convert(proto)
    except (ImportError, NotImplementedError, RuntimeError, ValueError):
        pass
    return found


def step(module: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """Return one step of training, without the optimiser."""
    module.train()

    def run() -> None:
        module.zero_grad(set_to_none=True)
        module(x).square().mean().backward()

    return run


def forward(module: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """Return one call without gradients."""
    module.eval()

    def run() -> None:
        with torch.no_grad():
            module(x)

    return run


def in_turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[Spent]]:
    """Time calls one after the other, so many rounds."""
    spent: dict[str, list[Spent]] = {name: [] for name in calls}
    for number in range(rounds + 3):
        for name, call in calls.items():
            took = timed(call)[1]
            if number >= 3:
                spent[name].append(took)
    return spent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    cases = {
        "residual net, batch 32": (resnet(), torch.randn(32, 3, 32, 32)),
        "residual net, batch 1": (resnet(), torch.randn(1, 3, 32, 32)),
        "2 encoder layers, batch 8": (encoder(), torch.randn(8, 32, 64)),
        "200 cheap nodes": (elementwise(), torch.randn(1, 4)),
    }
    with kept(TITLE, options.write):
        rows = []
        for title, (module, x) in cases.items():
            taking_part = rivals(module, x)
            nodes = sum(
                node.op not in ("placeholder", "get_attr", "output")
                for node in taking_part["bridged"].graph.nodes
            )
            for what, make in (("forward", forward), ("forward and backward", step)):
                if title == "200 cheap nodes" and what != "forward":
                    continue
                spent = in_turns({name: make(each, x) for name, each in taking_part.items()}, options.rounds)
                wall = {name: median(took.wall for took in several) for name, several in spent.items()}
                ratio = {
                    name: median(a.wall / b.wall for a, b in zip(several, spent["by hand"], strict=True))
                    for name, several in spent.items()
                }
                extra = (wall["bridged"] - wall["by hand"]) / nodes * 1e6
                cells = [f"{wall[name] * 1e3:.2f}" for name in ("by hand", "bridged")]
                cells += [
                    f"{ratio[name]:.3f}" if name in ratio else "-" for name in ("bridged", "onnx2torch")
                ]
                rows.append([title, what, *cells, str(nodes), f"{extra:.2f}"])
        say(f"{options.threads} thread(s)\n")
        say(
            table(
                [
                    "net",
                    "what",
                    "by hand ms",
                    "bridged ms",
                    "ratio",
                    "onnx2torch ratio",
                    "calls",
                    "extra us per call",
                ],
                rows,
                left=2,
            )
        )


if __name__ == "__main__":
    main()
