"""Nets of known layout, to plant useless units in by the names of their weights, without asking the analysis.

A `Plan` says where a unit lives: unit u of a kind owns the positions `where[name, axis][u]` of the weights making it.
Zeroing those is all there is to planting.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.ir import Builder, Model

Places = Mapping[tuple[str, int], npt.NDArray[np.int64]]  # (weight, axis) -> [units, positions of a unit]


@dataclass(frozen=True)
class Plan:
    """A model, and for every kind of unit where its members live; `count` units of each kind are planted.

    `together` says which units of a kind can only be planted together (one for each group of a grouped convolution).
    """

    model: Model
    kinds: Mapping[str, Places]
    counts: Mapping[str, int] = field(default_factory=dict)
    together: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)


def alone(count: int) -> npt.NDArray[np.int64]:
    """Return the places of units that own one position each."""
    return np.arange(count)[:, None]


def convolutions(seed: int) -> Plan:
    """Plain, depthwise, pointwise and grouped convolutions with norms; the grouped one has six slots in each group."""
    b = Builder(seed=seed)
    y = b.input(["N", 3, 8, 8], "x")
    widths = {"plain": (8, 3, 1), "depthwise": (8, 1, 8), "pointwise": (12, 8, 1), "grouped": (8, 6, 2)}
    for name, (out, into, group) in widths.items():
        kernel = 1 if name == "pointwise" else 3
        w = b.weight(out, into, kernel, kernel, name=name)
        y = b.op(
            "Conv",
            y,
            w,
            b.weight(out, name=f"{name}.bias"),
            kernel_shape=[kernel, kernel],
            pads=[kernel // 2] * 4,
            group=group,
        )
        vectors = [b.weight(out, name=f"{name}.{part}") for part in ("gain", "shift")]
        mean = b.constant(np.zeros(out, np.float32))
        y = b.relu(b.op("BatchNormalization", y, *vectors, mean, b.constant(np.ones(out, np.float32))))
    y = b.op("Flatten", b.op("GlobalAveragePool", y), axis=1)
    model = b.model(b.op("MatMul", y, b.weight(8, 3, name="head")))

    def made(*names: str) -> Places:
        parts = [f"{name}{part}" for name in names for part in ("", ".bias", ".gain", ".shift")]
        return {(part, 0): alone(widths[names[0]][0]) for part in parts}

    return Plan(
        model,
        {"plain": made("plain", "depthwise"), "pointwise": made("pointwise"), "grouped": made("grouped")},
        {"plain": 2, "pointwise": 4, "grouped": 2},
        # The grouped convolution reads twelve channels in two halves and makes eight; both lose equally many per half.
        {"pointwise": np.arange(12).reshape(2, 6), "grouped": np.arange(8).reshape(2, 4)},
    )


def transformer(seed: int, gated: bool = False, heads: int = 4, dim: int = 8, hidden: int = 16) -> Plan:
    """A layer of a transformer with biases; queries and keys share head dims, values have their own."""
    b = Builder(seed=seed)
    inner, width = heads * dim, 24
    y = b.op("MatMul", b.input(["N", 5, 6], "x"), b.weight(6, width, name="embed"))

    def dense(x: gs.Tensor, into: int, out: int, name: str) -> gs.Tensor:
        return b.add(b.op("MatMul", x, b.weight(into, out, name=name)), b.weight(out, name=f"{name}.bias"))

    def norm(x: gs.Tensor, name: str) -> gs.Tensor:
        return b.op("LayerNormalization", x, b.constant(np.ones(width, np.float32), f"{name}.gain"), axis=-1)

    def parted(name: str) -> gs.Tensor:
        part = b.op(
            "Reshape", dense(norm(y, name), width, inner, name), b.constant(np.array([0, 5, heads, dim]))
        )
        return b.op("Transpose", part, perm=[0, 2, 1, 3])

    q, k, v = parted("q"), parted("k"), parted("v")
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
    scores = b.op("Mul", scores, b.constant(np.float32(dim**-0.5)))
    mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    y = b.add(y, dense(b.op("Reshape", mixed, b.constant(np.array([0, 5, inner]))), inner, width, "out"))
    z = norm(y, "before")
    up = dense(z, width, hidden, "up")
    if gated:
        gate = dense(z, width, hidden, "gate")
        middle = b.op("Mul", b.op("Mul", gate, b.op("Sigmoid", gate)), up)
    else:
        middle = b.op("Mul", up, b.op("Sigmoid", up))
    y = b.add(y, dense(middle, hidden, width, "down"))
    model = b.model(b.op("MatMul", y, b.weight(width, 3, name="head")))
    grid = np.arange(inner).reshape(heads, dim)

    def of(places: npt.NDArray[np.int64], *names: str) -> Places:
        return {key: places for name in names for key in ((name, 1), (f"{name}.bias", 0))}

    return Plan(
        model,
        {
            "head": of(grid, "q", "k", "v"),
            "dim": of(grid.T, "q", "k"),
            "value dim": of(grid.T, "v"),
            "hidden": of(alone(hidden), *(("up", "gate") if gated else ("up",))),
        },
        {"head": 1, "dim": 2, "value dim": 3, "hidden": 5},
    )


def recurrent(kind: str, seed: int) -> Plan:
    """A recurrent layer in both directions between two products; a hidden unit lives in every gate of both."""
    gates, hidden = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 8
    b = Builder(seed=seed)
    y = b.op("MatMul", b.input([5, "N", 4], "x"), b.weight(4, 6, name="embed"))
    weights = [b.weight(2, gates * hidden, 6, name="w"), b.weight(2, gates * hidden, hidden, name="r")]
    weights.append(b.weight(2, 2 * gates * hidden, name="b"))
    y, _ = b.op_all(kind, y, *weights, outputs=2, hidden_size=hidden, direction="bidirectional")
    y = b.op("Reshape", b.op("Transpose", y, perm=[0, 2, 1, 3]), b.constant(np.array([5, -1, 2 * hidden])))
    model = b.model(b.op("MatMul", y, b.weight(2 * hidden, 3, name="head")))
    rows = np.arange(gates * hidden).reshape(gates, hidden).T
    both = np.arange(2 * gates * hidden).reshape(2 * gates, hidden).T
    return Plan(model, {"hidden": {("w", 1): rows, ("r", 1): rows, ("b", 1): both}}, {"hidden": 3})


def experts(seed: int, count: int = 4, hidden: int = 6) -> Plan:
    """Experts in weights of rank three, weighed by gates of their own; and units inside them, the same in all."""
    b = Builder(seed=seed)
    width = 8
    x = b.op("MatMul", b.input(["N", 5, 4], "x"), b.weight(4, width, name="embed"))
    gate = b.op("Sigmoid", b.op("MatMul", x, b.weight(width, count, name="router")))
    y = b.op(
        "MatMul", b.op("Unsqueeze", x, b.constant(np.array([1]))), b.weight(count, width, hidden, name="into")
    )
    y = b.relu(b.add(y, b.weight(count, 1, hidden, name="into.bias")))
    y = b.op("MatMul", y, b.weight(count, hidden, width, name="back"))
    gate = b.op("Unsqueeze", b.op("Transpose", gate, perm=[0, 2, 1]), b.constant(np.array([3])))
    y = b.op("ReduceSum", b.op("Mul", y, gate), b.constant(np.array([1])), keepdims=0)
    model = b.model(b.op("MatMul", b.add(x, y), b.weight(width, 3, name="head")))
    named = [("router", 1), ("into", 0), ("into.bias", 0), ("back", 0)]
    return Plan(
        model,
        {
            "expert": dict.fromkeys(named, alone(count)),
            "hidden": dict.fromkeys([("into", 2), ("into.bias", 2)], alone(hidden)),
        },
        {"expert": 1, "hidden": 2},
    )


def siblings(seed: int) -> Plan:
    """One tower read twice, and two towers joined and split again."""
    b = Builder(seed=seed)
    shared, bias, second = (
        b.weight(6, 8, name="shared"),
        b.weight(8, name="shared.bias"),
        b.weight(8, 5, name="second"),
    )
    sides = []
    for name in ("left", "right"):
        x = b.relu(b.add(b.op("MatMul", b.input(["N", 6], name), shared), bias))
        sides.append(b.op("MatMul", x, second))
    joined = b.concat(
        b.op("Abs", b.op("Sub", *sides)), b.relu(b.op("MatMul", sides[0], b.weight(5, 6, name="extra")))
    )
    first, rest = b.op_all("Split", joined, b.constant(np.array([5, 6])), outputs=2, axis=1)
    y = b.add(
        b.op("MatMul", first, b.weight(5, 3, name="head")), b.op("MatMul", rest, b.weight(6, 3, name="head2"))
    )
    return Plan(
        b.model(y),
        {
            "shared": {("shared", 1): alone(8), ("shared.bias", 0): alone(8)},
            "extra": {("extra", 1): alone(6)},
        },
        {"shared": 3, "extra": 2},
    )


PLANS: Mapping[str, Callable[[int], Plan]] = {
    "convolutions": convolutions,
    "transformer": transformer,
    "gated transformer": lambda seed: transformer(seed, gated=True),
    "one head a dim": lambda seed: transformer(seed, heads=4, dim=4),
    "LSTM": lambda seed: recurrent("LSTM", seed),
    "GRU": lambda seed: recurrent("GRU", seed),
    "RNN": lambda seed: recurrent("RNN", seed),
    "experts": experts,
    "siblings": siblings,
}
