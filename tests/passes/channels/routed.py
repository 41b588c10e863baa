"""Mixtures of experts after the habits of their exporters: a router chooses a few of several nets for each token."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Builder, Model
from tests.passes.channels.nets import floats

TOKENS, WIDTH, HIDDEN, COUNT, CHOSEN = 5, 8, 6, 6, 2


class Net:
    """A net under construction: embedding, router, stacked experts, head; weights are named after their part."""

    def __init__(self, seed: int) -> None:
        self.b = b = Builder(opset=17, seed=seed)
        embed = b.op("MatMul", b.input(["N", TOKENS, 4], "x"), self.weight("embed", 4, WIDTH))
        self.stream = embed
        self.x = b.op("Reshape", embed, self.ints(-1, WIDTH))  # [tokens, width]
        logits = b.op("MatMul", self.x, self.weight("router", WIDTH, COUNT))
        self.logits = b.op("Add", logits, self.weight("router.bias", COUNT))

    def weight(self, name: str, *shape: int) -> gs.Constant:
        scale = np.sqrt(shape[-2]) if len(shape) > 1 else 4
        return self.b.constant(floats(self.b.rng.standard_normal(shape) / scale), name)

    def ints(self, *values: int) -> gs.Constant:
        return self.b.constant(np.array(values, np.int64))

    def top(self, scores: gs.Tensor, count: int = CHOSEN) -> tuple[gs.Variable, gs.Variable]:
        """The best experts of each token, and which they are."""
        values, which = self.b.op_all("TopK", scores, self.ints(count), outputs=2, axis=-1)
        which.dtype = np.int64
        return values, which

    def finish(self, y: gs.Tensor, *more: gs.Tensor) -> Model:
        """Add what the experts give [tokens, width] to the stream, with a head behind."""
        b = self.b
        y = b.op("Reshape", y, self.ints(-1, TOKENS, WIDTH))
        y = b.op("MatMul", b.op("Add", self.stream, y, name="sum"), self.weight("head", WIDTH, 3))
        return b.model(y, *more)

    def looked_up(self, values: gs.Tensor, which: gs.Tensor, nd: bool = False) -> gs.Tensor:
        """Gather the weights of the experts chosen, and weigh what they give (transformers: batched products)."""
        b, k = self.b, CHOSEN
        flat = b.op("Reshape", which, self.ints(-1))
        index = b.op("Unsqueeze", flat, self.ints(1)) if nd else flat
        up, down = self.weight("up", COUNT, WIDTH, HIDDEN), self.weight("down", COUNT, HIDDEN, WIDTH)
        read = (
            [b.op("GatherND", w, index) for w in (up, down)]
            if nd
            else [b.op("Gather", w, index, axis=0) for w in (up, down)]
        )
        x = b.op("Tile", b.op("Unsqueeze", self.x, self.ints(1)), self.ints(1, k, 1))
        x = b.op("Reshape", x, self.ints(-1, 1, WIDTH))
        y = b.op("MatMul", b.relu(b.op("MatMul", x, read[0])), read[1])
        y = b.op("Mul", b.op("Reshape", y, self.ints(-1, k, WIDTH)), b.op("Unsqueeze", values, self.ints(-1)))
        return b.op("ReduceSum", y, self.ints(1), keepdims=0)

    def all_weighed(self, gates: gs.Tensor) -> gs.Tensor:
        """Let all experts work and weigh what they give with gates [tokens, experts] (GShard: einsums)."""
        b = self.b
        up, down = self.weight("up", COUNT, WIDTH, HIDDEN), self.weight("down", COUNT, HIDDEN, WIDTH)
        y = b.relu(b.op("Einsum", self.x, up, equation="tc,ech->teh"))
        return b.op("Einsum", y, down, gates, equation="teh,ehc,te->tc")


def after(seed: int = 0, nd: bool = False) -> Model:
    """Softmax behind the choice: logits, TopK, softmax over the chosen, weights looked up."""
    net = Net(seed)
    values, which = net.top(net.logits)
    return net.finish(net.looked_up(net.b.op("Softmax", values, axis=-1), which, nd))


def before(seed: int = 0) -> Model:
    """Softmax in front of the choice, normalised behind it (Mixtral as transformers export it)."""
    net = Net(seed)
    values, which = net.top(net.b.op("Softmax", net.logits, axis=-1))
    total = net.b.op("ReduceSum", values, net.ints(-1), keepdims=1)
    return net.finish(net.looked_up(net.b.op("Div", values, total), which))


def biased(seed: int = 0) -> Model:
    """Chosen by scores with a correction, weighed by those without (DeepSeek): GatherElements by the same numbers."""
    net = Net(seed)
    scores = net.b.op("Sigmoid", net.logits)
    _, which = net.top(net.b.op("Add", scores, net.weight("correction", COUNT)))
    return net.finish(net.looked_up(net.b.op("GatherElements", scores, which, axis=-1), which))


def scattered(seed: int = 0) -> Model:
    """The chosen weights are written back into zeros over all experts, which all work."""
    net = Net(seed)
    values, which = net.top(net.logits)
    zeros = net.b.op("ConstantOfShape", net.b.op("Shape", net.logits))
    weights = net.b.op("Softmax", values, axis=-1)
    return net.finish(net.all_weighed(net.b.op("ScatterElements", zeros, which, weights, axis=-1)))


def masked(seed: int = 0) -> Model:
    """The chosen are marked in a mask of booleans, all other logits are minus infinity before one softmax."""
    net = Net(seed)
    _, which = net.top(net.logits)
    shape = net.b.op("Shape", net.logits)
    never = net.b.op("Expand", net.b.constant(np.zeros((1, 1), bool)), shape)
    never.dtype = bool
    chosen = net.b.op("Expand", net.b.constant(np.ones((1, 1), bool)), net.b.op("Shape", which))
    chosen.dtype = bool
    mask = net.b.op("ScatterElements", never, which, chosen, axis=-1)
    mask.dtype = bool
    left = net.b.op("Where", mask, net.logits, net.b.constant(floats(-np.inf)))
    return net.finish(net.all_weighed(net.b.op("Softmax", left, axis=-1)))


def switched(seed: int = 0) -> Model:
    """One expert for each token: ArgMax, OneHot, times its probability (Switch transformers)."""
    net = Net(seed)
    shares = net.b.op("Softmax", net.logits, axis=-1)
    best = net.b.op("ArgMax", shares, axis=-1, keepdims=0)
    best.dtype = np.int64
    hot = net.b.op("OneHot", best, net.ints(COUNT), net.b.constant(floats([0, 1])), axis=-1)
    return net.finish(net.all_weighed(net.b.op("Mul", shares, hot)))


def gated(seed: int = 0) -> Model:
    """OneHot of two choices, summed with their weights (GShard)."""
    net = Net(seed)
    values, which = net.top(net.b.op("Softmax", net.logits, axis=-1))
    hot = net.b.op("OneHot", which, net.ints(COUNT), net.b.constant(floats([0, 1])), axis=-1)
    gates = net.b.op(
        "ReduceSum", net.b.op("Mul", hot, net.b.op("Unsqueeze", values, net.ints(-1))), net.ints(1)
    )
    return net.finish(net.all_weighed(net.b.op("Reshape", gates, net.ints(-1, COUNT))))


ROUTED: dict[str, Callable[[int], Model]] = {
    "after": after,
    "after, GatherND": lambda seed: after(seed, nd=True),
    "before": before,
    "biased": biased,
    "scattered": scattered,
    "masked": masked,
    "switched": switched,
    "gated": gated,
}


def planted(build: Callable[[int], Model], seed: int, dead: tuple[int, ...] = (1, 4)) -> Model:
    """A net of which these experts are zero and never chosen: the router is biased against them."""
    model = build(seed)
    for name in ("up", "down"):
        values = np.array(model.weights[name])
        values[list(dead)] = 0
        model.weights[name] = values
    for name in ("router.bias", "correction"):
        if name in model.weights:
            values = np.array(model.weights[name])
            values[list(dead)] = -100
            model.weights[name] = values
    router = np.array(model.weights["router"])
    router[:, list(dead)] = 0
    model.weights["router"] = router
    return model
