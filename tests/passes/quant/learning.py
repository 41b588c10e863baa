"""A small net with quantizers in it, trained a little, and whole numbers to compare it with."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from graphrewrite.bridge import GraphModule, attach, fold
from graphrewrite.bridge.transforms.attaching import attached
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.quant.aware import Placed, Scheme, place
from graphrewrite.passes.quant.learned import Counts, Learned, Steps, read, written

Codes = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]


def chain(seed: int = 0) -> Model:
    """Three convolutions with pooling between them, and a product behind."""
    b = Builder(seed=seed)
    x = b.input(["N", 1, 8, 8], "x")
    hidden = b.relu(b.conv(x, 4, 1, name="a"))
    hidden = b.op("MaxPool", b.relu(b.conv(hidden, 6, 4, name="b")), kernel_shape=[2, 2], strides=[2, 2])
    hidden = b.relu(b.conv(hidden, 6, 6, name="c"))
    return b.model(b.linear(b.op("Flatten", hidden), 5, 96, name="d"))


def residual(seed: int = 0) -> Model:
    """A block whose shortcut is read by a sum, between two layers."""
    b = Builder(seed=seed)
    stem = b.relu(b.conv(b.input(["N", 1, 8, 8], "x"), 4, 1, name="stem"))
    inner = b.conv(b.relu(b.conv(stem, 4, 4, name="one")), 4, 4, name="two")
    six = b.op("Clip", b.add(stem, inner), b.constant(np.float32(0)), b.constant(np.float32(0.9)))
    pooled = b.op("GlobalAveragePool", b.relu(b.conv(six, 6, 4, name="three")))
    return b.model(b.linear(b.op("Flatten", pooled), 5, 6, name="head"))


def feed(samples: int = 32, seed: int = 0) -> Singles:
    """Return inputs of both nets."""
    return np.random.default_rng(seed).standard_normal((samples, 1, 8, 8)).astype(np.float32)


@dataclass(frozen=True)
class Trained:
    """A placed model with its quantizers, trained; its biases are those that are deployed."""

    placed: Placed
    module: GraphModule
    learned: Learned

    @property
    def integers(self) -> Model:
        """What is deployed."""
        return written(self.placed, self.learned, integers=True)

    def codes(self, x: Singles) -> dict[str, Codes]:
        """Return what the module makes of each rounded activation, in steps; of the output, as it is."""
        seen: dict[str, torch.Tensor] = {}

        def keep(name: str, out: torch.Tensor) -> None:
            seen[name] = out.detach().double()

        hooks = [
            standing.register_forward_hook(lambda _, __, out, name=standing.tensor: keep(name, out))
            for _, standing in attached(self.module)
            if not standing.is_weight
        ]
        self.module.run({"x": x})
        for hook in hooks:
            hook.remove()
        return {
            name: np.rint(out.numpy() / self.learned.forms[name].step).astype(np.int64)
            for name, out in seen.items()
        }


def taught(module: GraphModule, steps: int) -> GraphModule:
    """Take some steps towards nothing in particular, and return the module as it then answers."""
    optimiser = torch.optim.Adam(module.parameters(), 0.01)
    x = torch.from_numpy(feed(seed=9))
    module.train()
    for _ in range(steps):
        optimiser.zero_grad()
        (module(x) - 1).square().mean().backward()
        optimiser.step()
    return module.eval()


def trained(model: Model, scheme: Scheme, steps: int = 4) -> Trained:
    """Attach quantizers and train a little."""
    placed = place(model, scheme, {})
    module = GraphModule(placed.model)
    attach(module, placed.transforms)
    taught(module, steps)
    learned = read(placed, fold(module))
    for layer in layers(placed, learned):
        with torch.no_grad():
            module.weight_named(layer.bias_name).copy_(torch.from_numpy(layer.bias * layer.unit))
    return Trained(placed, module, learned)


class Whole(NamedTuple):
    """A layer in whole numbers: its bias counts units, the input's step times the weight's [outputs]."""

    name: str
    read: Steps | Counts
    weight: Codes
    bias: Singles
    bias_name: str
    unit: Singles


def layers(placed: Placed, learned: Learned) -> Iterator[Whole]:
    """Yield the layers of a placed model; each has a bias."""
    for layer in placed.choice.layers.values():
        source = layer.node.inputs[0].name
        grid = learned.forms[placed.choice.rounded.get(source, source)]
        codes, steps, _ = learned.weights[layer.node.inputs[1].name]
        name = layer.node.inputs[2].name
        before = np.asarray(learned.model.weights[name], np.float64)
        unit = np.broadcast_to(np.float32(grid.step) * steps, before.shape).astype(np.float32)
        yield Whole(
            layer.node.name,
            grid,
            codes.astype(np.int64),
            np.rint(before / unit).astype(np.float32),
            name,
            unit,
        )
