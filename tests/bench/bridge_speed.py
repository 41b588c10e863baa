"""Speed of bridged modules beside the torch modules they were exported from: training steps, and calls per node.

`python tests/bench/bridge_speed.py [--threads 2] [--write]` prints a table and puts it into RESULTS.md. Rivals take
turns in one process; times are medians of CPU seconds, ratios are to the module written by hand, of medians and of
minima. onnx2torch takes part where it is installed and converts the graph.
"""

import argparse
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

sys.path.append(str(Path(__file__).resolve().parents[2]))

import onnx
import torch
from torch import nn

from graphrewrite.bridge import GraphModule
from graphrewrite.ir import Model
from tests.bench.common import Spent, kept, middle, say, table, timed
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


class Recurrent(nn.Module):
    """Two layers of LSTM and a score of the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = nn.LSTM(32, 64, 2, batch_first=True)
        self.score = nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, 5]."""
        found: torch.Tensor = self.score(self.loop(x)[0][:, -1])
        return found


class Chain(nn.Module):
    """A long chain of the cheapest operators there are, so that only the calls cost."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return something of the shape of x."""
        for _ in range(100):
            x = torch.relu(x) + x
        return x


def lived(module: nn.Module) -> nn.Module:
    """Move weights and statistics from where they began; exporters would store what is equal once."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.01)
    return module


def exported(module: nn.Module, x: torch.Tensor) -> onnx.ModelProto:
    """Return what torch's exporter writes with norms kept as nodes."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (x,), file, dynamo=False, opset_version=17,
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


def in_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, seconds: float
) -> dict[str, list[Spent]]:
    """Time calls in turns, each first in its turn, for at least so many rounds and seconds of the first of them."""
    spent: dict[str, list[Spent]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(3):
            call()
    order, first = list(calls), next(iter(spent.values()))
    while len(first) < rounds or sum(took.cpu for took in first) < seconds:
        for name in order:
            spent[name].append(timed(calls[name])[1])
        order = [*order[1:], order[0]]
    return spent


def row(spent: Mapping[str, list[Spent]], calls: int) -> list[str]:
    """Return the cells of one measurement."""
    usual = {name: middle(several).cpu for name, several in spent.items()}
    least = {name: min(took.cpu for took in several) for name, several in spent.items()}
    cells = [f"{usual[name] * 1e3:.2f}" for name in ("by hand", "bridged")]
    for name in ("bridged", "onnx2torch"):
        cells += [
            f"{found[name] / found['by hand']:.3f}" if name in found else "-" for found in (usual, least)
        ]
    return [*cells, str(calls), f"{(least['bridged'] - least['by hand']) / calls * 1e6:.2f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=2.0)
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
        "2 layers of LSTM, batch 8": (Recurrent(), torch.randn(8, 20, 32)),
        "200 cheap nodes": (Chain(), torch.randn(1, 4, requires_grad=True)),
    }
    with kept(TITLE, options.write):
        rows = []
        for title, (module, x) in cases.items():
            taking_part = rivals(lived(module), x)
            graph = cast(GraphModule, taking_part["bridged"]).graph
            calls = sum(node.op not in ("placeholder", "get_attr", "output") for node in graph.nodes)
            for what, make in (("forward", forward), ("forward and backward", step)):
                steps = {name: make(each, x) for name, each in taking_part.items()}
                rows.append([title, what, *row(in_turns(steps, options.rounds, options.seconds), calls)])
        titles = ["net", "what", "by hand ms", "bridged ms", "ratio", "of minima", "onnx2torch", "of minima"]
        say(f"{options.threads} thread(s)\n")
        say(table([*titles, "calls", "extra us a call"], rows, left=2))


if __name__ == "__main__":
    main()
