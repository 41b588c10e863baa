"""Nets with residual blocks of every kind, drawn so that what is a block is known by construction."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite import cost
from graphrewrite.dims.sweep import analyse
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.inline import inlined
from graphrewrite.passes.blocks import Blocks, RemoveBlocks, find
from graphrewrite.passes.blocks.criteria import Block, Evidence
from graphrewrite.passes.channels.budgets import Mask, Ratio
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.pipeline.manager import PipelineResult
from tests.passes.channels.nets import floats

T, C = 5, 8  # time and width of the sequences


def blocks_of(model: Model) -> Blocks:
    """Find the blocks of a model."""
    analysis = analyse(inlined(model))
    return find(analysis, cost.of(analysis.model, analysis.info))


def names(model: Model) -> list[str]:
    """Return the names of the blocks, in order."""
    return [block.name for block in blocks_of(model)]


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


class Named:
    """A criterion that is told the answer: scores by the name of the block, 10 where none is given."""

    def __init__(self, **scores: float) -> None:
        self.scores = scores

    def score(self, block: Block, evidence: Evidence) -> float:
        return self.scores.get(block.name, 10.0)


def left_out(model: Model, *blocks: str) -> PipelineResult:
    """Leave exactly these blocks out, fully verified."""
    found = blocks_of(model)
    wanted = {block.name for block in found if block.name in blocks}
    assert wanted == set(blocks), (wanted, [b.name for b in found])

    class Exactly:
        def choose(self, problem: object) -> Mask:
            chosen = [n for n, block in enumerate(found) if block.name in wanted]
            mask = np.zeros(len(found), dtype=bool)
            for number in chosen:
                mask[found.within(number)] = True
            return mask

    step = RemoveBlocks(Named(), Exactly(), floor=0)
    outcome = Pipeline([_Unsaved(step)], verify="full")  # type: ignore[list-item]
    return outcome.run(model, Context(threads=1))


class _Unsaved:
    """A step as the pipeline takes it, whose parts are registered nowhere."""

    def __init__(self, step: RemoveBlocks) -> None:
        self.step, self.claim = step, step.claim

    def run(self, model: Model, context: Context) -> object:
        return self.step.run(model, context)


# --- maps -------------------------------------------------------------------------------------------------------------


def basic(b: Builder, x: gs.Tensor, channels: int, name: str, last: str = "Relu") -> gs.Variable:
    """The block of a ResNet: two convolutions with norms, added, the rectifier behind the sum."""
    inner = b.relu(b.batchnorm(b.conv(x, channels, channels, name=f"{name}.one"), channels))
    y = b.batchnorm(b.conv(inner, channels, channels, name=f"{name}.two"), channels, name=f"{name}.norm")
    return b.op(last, b.op("Add", y, x, name=name))


def resnet(blocks: int = 3, seed: int = 0) -> Model:
    """A stem, two stages with these many identity blocks, a projection between them, a head."""
    b = Builder(seed=seed)
    y = b.relu(b.conv(b.input(["N", 3, 8, 8], "x"), 6, 3, name="stem"))
    for number in range(blocks):
        y = basic(b, y, 6, f"a{number}")
    shortcut = b.conv(y, 10, 6, kernel=1, stride=2, name="shortcut")
    y = b.relu(b.op("Add", b.conv(y, 10, 6, stride=2, name="down"), shortcut, name="projection"))
    for number in range(blocks):
        y = basic(b, y, 10, f"b{number}")
    flat = b.op("Flatten", b.op("GlobalAveragePool", y), axis=1)
    return b.model(b.linear(flat, out=4, into=10, name="head"))


def inverted(seed: int = 0) -> Model:
    """A MobileNet block with squeeze and excitation, and one whose branch is broadcast (global context)."""
    b = Builder(seed=seed)
    x = b.conv(b.input(["N", 3, 6, 6], "x"), 6, 3, name="stem")
    y = b.relu(b.conv(x, 18, 6, kernel=1))
    y = b.relu(b.conv(y, 18, 18, group=18))
    gate = b.op(
        "Sigmoid", b.conv(b.relu(b.conv(b.op("GlobalAveragePool", y), 4, 18, kernel=1)), 18, 4, kernel=1)
    )
    x = b.op("Add", x, b.conv(b.op("Mul", y, gate), 6, 18, kernel=1), name="inverted")
    context = b.conv(b.op("GlobalAveragePool", x), 6, 6, kernel=1)
    x = b.op("Add", x, context, name="context")
    return b.model(b.conv(x, 2, 6, name="head"))


def nested(seed: int = 0) -> Model:
    """A block of blocks (two residuals in one, scaled by 0.2), and one around everything but the ends."""
    b = Builder(seed=seed)
    x = b.conv(b.input(["N", 3, 6, 6], "x"), 6, 3, name="stem")
    y = basic(b, basic(b, x, 6, "inner0"), 6, "inner1")
    y = b.op("Mul", b.conv(y, 6, 6, name="tail"), b.constant(floats(0.2)))
    y = b.op("Add", x, y, name="outer")
    y = b.op("Add", b.conv(y, 6, 6, name="body"), x, name="long")
    return b.model(b.conv(y, 2, 6, name="head"))


def shuffled(seed: int = 0) -> Model:
    """A shortcut whose channels are shuffled on the way: no identity, whatever its shape says."""
    b = Builder(seed=seed)
    x = b.conv(b.input(["N", 3, 6, 6], "x"), 8, 3, name="stem")
    z = b.op("Reshape", x, b.constant(ints(0, 2, 4, 6, 6)))
    z = b.op("Transpose", z, perm=[0, 2, 1, 3, 4])
    z = b.op("Reshape", z, b.constant(ints(0, 8, 6, 6)))
    y = b.op("Add", z, b.conv(b.relu(b.conv(x, 8, 8)), 8, 8), name="shuffled")
    y = basic(b, y, 8, "plain")
    return b.model(b.conv(y, 2, 8, name="head"))


def viewed(seed: int = 0) -> Model:
    """A shortcut that goes through a view ([N, T, H, W] seen as [N, T, H*W]) and a norm on its way."""
    b = Builder(seed=seed)
    x = b.conv(b.input(["N", 3, 6, 6], "x"), 8, 3, name="stem")
    inner = b.conv(b.relu(b.conv(x, 8, 8)), 8, 8)
    flat = b.op("Reshape", inner, b.constant(ints(0, 8, 36)))
    way = b.op("Reshape", b.batchnorm(x, 8), b.constant(ints(0, 8, 36)))
    y = b.op("Add", way, flat, name="viewed")
    y = b.op("Reshape", y, b.constant(ints(0, 8, 6, 6)))
    return b.model(b.conv(y, 2, 8, name="head"))


def densenet(seed: int = 0) -> Model:
    """Layers that are concatenated: nothing is added to anything."""
    b = Builder(seed=seed)
    x = b.conv(b.input(["N", 3, 6, 6], "x"), 4, 3)
    for number in range(3):
        x = b.concat(x, b.conv(b.relu(x), 4, 4 * (number + 1)))
    return b.model(b.conv(x, 2, 16))


def unet(seed: int = 0) -> Model:
    """A skip over a lower level, concatenated."""
    b = Builder(seed=seed)
    x = b.relu(b.conv(b.input(["N", 3, 8, 8], "x"), 4, 3))
    low = b.relu(b.conv(b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 6, 4))
    scales = b.constant(floats([1, 1, 2, 2]))
    up = b.op("Resize", low, None, scales, mode="nearest")
    return b.model(b.conv(b.concat(x, up), 2, 10))


# --- sequences --------------------------------------------------------------------------------------------------------


def norm(b: Builder, x: gs.Tensor, name: str | None = None) -> gs.Variable:
    """A layer norm over the last axis."""
    gain, offset = (b.constant(floats(v + 0.1 * b.rng.standard_normal(C))) for v in (1, 0))
    return b.op("LayerNormalization", x, gain, offset, axis=-1, name=name)


def matmul(b: Builder, x: gs.Tensor, into: int, out: int, name: str) -> gs.Variable:
    """A product with a bias, as exporters write it: MatMul and Add."""
    bias = b.constant(floats(0.1 * b.rng.standard_normal(out)), f"{name}.bias")
    weight = b.constant(floats(b.rng.standard_normal((into, out)) / np.sqrt(into)), f"{name}.weight")
    return b.op("Add", bias, b.op("MatMul", x, weight, name=name), name=f"{name}.add")


def mlp(b: Builder, x: gs.Tensor, name: str) -> gs.Variable:
    """Two products with a GELU written out between, whose own sums are no blocks."""
    h = matmul(b, x, C, 12, f"{name}.up")
    cube = b.op("Mul", b.op("Pow", h, b.constant(floats(3))), b.constant(floats(0.044715)))
    inner = b.op("Mul", b.op("Add", h, cube, name=f"{name}.gelu"), b.constant(floats(0.7978845)))
    half = b.op("Add", b.op("Tanh", inner), b.constant(floats(1)))
    h = b.op("Mul", b.op("Mul", h, half), b.constant(floats(0.5)))
    return matmul(b, h, 12, C, f"{name}.down")


def attention(b: Builder, x: gs.Tensor, mask: gs.Tensor, name: str) -> tuple[gs.Variable, gs.Variable]:
    """One head with a mask; returns what it gives, and its keys."""
    q, k, v = (matmul(b, x, C, C, f"{name}.{part}") for part in "qkv")
    k = b.op("Identity", k, name=f"{name}.keys")
    scores = b.op("Add", b.op("MatMul", q, b.op("Transpose", k, perm=[0, 2, 1])), mask)
    mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), v)
    return matmul(b, mixed, C, C, f"{name}.out"), k


def transformer(
    layers: int = 3, style: str = "pre", cached: bool = False, hidden: bool = False, seed: int = 0
) -> Model:
    """A transformer over [N, T, C] with a mask made from an input.

    `style` is "pre" or "post" norm, or "parallel" (attention and MLP read the same tensor and are added at once).
    `cached` makes the keys outputs of the model, `hidden` the stream itself.
    """
    b = Builder(seed=seed)
    x: gs.Tensor = b.op("MatMul", b.input(["N", T, 4], "x"), b.weight(4, C, name="embed"))
    allowed = b.input(["N", 1, T], "allowed")
    mask = b.op("Mul", b.op("Sub", b.constant(floats(1)), allowed), b.constant(floats(-100)))
    keys: list[gs.Variable] = []
    for n in range(layers):
        read = x if style == "post" else norm(b, x)
        found, k = attention(b, read, mask, f"attention{n}")
        keys.append(k)
        if style == "parallel":
            other = mlp(b, read, f"mlp{n}")
            x = b.op("Add", b.op("Add", x, found, name=f"first{n}"), other, name=f"sum{n}")
            continue
        x = b.op("Add", found, x, name=f"sum{n}.attention")
        x = norm(b, x) if style == "post" else x
        found = mlp(b, x if style == "post" else norm(b, x), f"mlp{n}")
        x = b.op("Add", x, found, name=f"sum{n}.mlp")
        x = norm(b, x) if style == "post" else x
    outputs = [x] if hidden else [matmul(b, norm(b, x), C, 3, "head")]
    return b.model(*outputs, *(keys if cached else []))


def gated(seed: int = 0) -> Model:
    """Blocks joined otherwise: a Sum of three, a difference, a gate times a branch, a rotary turn (no block)."""
    b = Builder(seed=seed)
    x: gs.Tensor = b.op("MatMul", b.input(["N", T, 4], "x"), b.weight(4, C, name="embed"))
    x = b.op("Sum", mlp(b, x, "left"), x, mlp(b, x, "right"), name="three")
    x = b.op("Sub", x, mlp(b, x, "noise"), name="difference")
    gate = b.op("Sigmoid", matmul(b, x, C, C, "gate"))
    x = b.op("Add", x, b.op("Mul", gate, mlp(b, x, "value")), name="gated")
    turned = b.op("Mul", x, b.constant(floats(np.linspace(-1, 1, C))))
    x = b.op("Add", turned, b.op("Mul", norm(b, x), b.constant(floats(np.ones(C)))), name="turn")
    return b.model(matmul(b, x, C, 3, "head"))


def planted(seed: int = 0, depth: int = 4, dead: Sequence[int] = (1, 3)) -> Model:
    """A pre-norm stack of MLPs and a ResNet tail; blocks at these places end in weights and a bias of zero."""
    b = Builder(seed=seed)
    x: gs.Tensor = b.op("MatMul", b.input(["N", T, 4], "x"), b.weight(4, C, name="embed"))
    for n in range(depth):
        x = b.op("Add", x, mlp(b, norm(b, x), f"mlp{n}"), name=f"mlp{n}.sum")
    model = b.model(matmul(b, norm(b, x), C, 3, "head"))
    for n in dead:
        for part in ("weight", "bias"):
            name = f"mlp{n}.down.{part}"
            model.weights[name] = np.zeros_like(model.weights[name])
    return model


def planted_maps(seed: int = 0, dead: Sequence[str] = ("a1", "b0")) -> Model:
    """A ResNet in which these blocks end in a norm with a gain and an offset of zero."""
    model = resnet(3, seed)
    for name in dead:
        (node,) = [node for node in model.nodes("BatchNormalization") if node.name == f"{name}.norm"]
        for tensor in node.inputs[1:3]:
            model.weights[tensor.name] = np.zeros_like(model.weights[tensor.name])
    return model


NETS: dict[str, Callable[[], Model]] = {
    "resnet": resnet,
    "inverted": inverted,
    "nested": nested,
    "viewed": viewed,
    "pre": transformer,
    "post": lambda: transformer(style="post"),
    "parallel": lambda: transformer(style="parallel"),
    "cached": lambda: transformer(cached=True),
    "hidden": lambda: transformer(hidden=True),
    "gated": gated,
}


def remove(model: Model, step: RemoveBlocks, context: Context | None = None) -> PipelineResult:
    """Run one step with full verification."""
    return Pipeline([step], verify="full").run(model, context or Context(threads=1))


def half(model: Model) -> PipelineResult:
    """Leave half of every stream out."""
    return remove(model, RemoveBlocks(budget=Ratio(0.5), floor=0))
