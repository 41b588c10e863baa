"""Small nets that the tests of channel removal cut, drawn so that every number in them is known or seeded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.data import ArraySource
from graphrewrite.dims import ChannelGroup, Groups, groups
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.channels import Ratio, RemoveChannels
from graphrewrite.passes.channels.criteria import Evidence
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.pipeline.manager import PipelineResult
from graphrewrite.runtime import run
from graphrewrite.serial import Json
from tests.support.tolerances import relative

Wide = npt.NDArray[np.float64]


def floats(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return an array of float32."""
    return np.asarray(values, dtype=np.float32)


def pair(first: npt.ArrayLike, second: npt.ArrayLike, bias: npt.ArrayLike | None = None) -> Model:
    """Two products with a rectifier between: `first` [hidden, in], `second` [out, hidden], named so."""
    b = Builder()
    w, v = floats(first), floats(second)
    x = b.input(["N", w.shape[1]], "x")
    sources = [x, b.constant(w, "first")]
    if bias is not None:
        sources.append(b.constant(floats(bias), "first.bias"))
    hidden = b.relu(b.op("Gemm", *sources, name="one", transB=1))
    return b.model(b.op("Gemm", hidden, b.constant(v, "second"), name="two", transB=1))


def tower(widths: Sequence[int] = (8, 12, 6), seed: int = 0, norm: bool = True) -> Model:
    """Convolutions of these widths on [N, 3, 6, 6], each with norm and rectifier, then a linear head of four."""
    b = Builder(seed=seed)
    y, into = b.input(["N", 3, 6, 6], "x"), 3
    for number, out in enumerate(widths):
        y = b.conv(y, out, into, name=f"conv{number}", bias=not norm)
        y = b.relu(b.batchnorm(y, out) if norm else y)
        into = out
    flat = b.op("Flatten", b.op("GlobalAveragePool", y), axis=1)
    return b.model(b.linear(flat, out=4, into=into, name="head"))


def residual(seed: int = 0) -> Model:
    """A stem, two residual blocks over eight channels, a head; with norms."""
    b = Builder(seed=seed)
    x = b.input(["N", 3, 6, 6], "x")
    y = b.relu(b.batchnorm(b.conv(x, 8, 3, name="stem"), 8))
    for number in range(2):
        inner = b.relu(b.batchnorm(b.conv(y, 10, 8, name=f"block{number}.one"), 10))
        y = b.relu(b.add(y, b.batchnorm(b.conv(inner, 8, 10, name=f"block{number}.two"), 8)))
    flat = b.op("Flatten", b.op("GlobalAveragePool", y), axis=1)
    return b.model(b.linear(flat, out=4, into=8, name="head"))


def grouped(seed: int = 0) -> Model:
    """A convolution with four groups of four channels between two plain ones, and a depthwise one behind."""
    b = Builder(seed=seed)
    x = b.input(["N", 3, 6, 6], "x")
    y = b.relu(b.conv(x, 16, 3, name="before"))
    y = b.relu(b.conv(y, 32, 16, group=4, name="grouped"))
    y = b.relu(b.conv(y, 12, 32, kernel=1, name="middle"))
    y = b.relu(b.conv(y, 12, 12, group=12, name="depthwise"))
    return b.model(b.conv(y, 2, 12, name="after"))


def branches(seed: int = 0) -> Model:
    """Concat of two convolutions, split again into windows, one of them worked on."""
    b = Builder(seed=seed)
    x = b.input(["N", 3, 6, 6], "x")
    joined = b.concat(b.relu(b.conv(x, 6, 3, name="left")), b.relu(b.conv(x, 4, 3, name="right")))
    a, c = b.op_all("Split", joined, b.constant(np.array([5, 5], np.int64)), outputs=2, axis=1)
    y = b.concat(b.relu(b.conv(a, 7, 5, name="inner")), c)
    return b.model(b.conv(y, 3, 12, name="after"))


def attention(heads: int = 4, dim: int = 16, width: int = 24, seed: int = 0) -> Model:
    """Self-attention over [N, 5, 6] as exporters write it out, with an embedding before and a head behind."""
    b = Builder(seed=seed)
    inner = heads * dim
    y = b.op("MatMul", b.input(["N", 5, 6], "x"), b.weight(6, width, name="embed"))

    def parted(name: str, *order: int) -> gs.Variable:
        part = b.op("MatMul", y, b.weight(width, inner, name=name))
        part = b.op("Reshape", part, b.constant(np.array([0, 5, heads, dim], np.int64)))
        return b.op("Transpose", part, perm=list(order))

    q, k, v = parted("q", 0, 2, 1, 3), parted("k", 0, 2, 3, 1), parted("v", 0, 2, 1, 3)
    scores = b.op("Mul", b.op("MatMul", q, k), b.constant(floats(dim**-0.5)))
    mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), v)
    mixed = b.op(
        "Reshape", b.op("Transpose", mixed, perm=[0, 2, 1, 3]), b.constant(np.array([0, 5, inner], np.int64))
    )
    y = b.add(y, b.op("MatMul", mixed, b.weight(inner, width, name="out")))
    return b.model(b.op("MatMul", y, b.weight(width, 3, name="head")))


def recurrent(seed: int = 0) -> Model:
    """An LSTM between two products."""
    b = Builder(seed=seed)
    y = b.op("MatMul", b.input([5, "N", 4], "x"), b.weight(4, 6, name="embed"))
    gates = [b.weight(1, 32, 6, name="lstm.w"), b.weight(1, 32, 8, name="lstm.r")]
    gates.append(b.constant(floats(b.rng.standard_normal((1, 64))), "lstm.b"))
    y = b.op("Squeeze", b.op("LSTM", y, *gates, hidden_size=8), b.constant(np.array([1], np.int64)))
    return b.model(b.op("MatMul", y, b.weight(8, 3, name="head")))


NETS = {net.__name__: net for net in (tower, residual, grouped, branches, attention, recurrent)}


def samples(model: Model, count: int = 16, seed: int = 5) -> ArraySource:
    """Return normal samples for a model with one float input whose symbolic axis is its first."""
    (tensor,) = model.inputs
    rng = np.random.default_rng(seed)
    assert tensor.shape is not None
    return ArraySource({tensor.name: floats(rng.standard_normal((count, *tensor.shape[1:])))})


def group_of(found: Groups, tensor: str, axis: int = 0) -> ChannelGroup:
    """Return the group that one axis of a weight belongs to."""
    (group,) = [g for g in found if any(m.tensor == tensor and m.axis == axis for m in g.members)]
    return group


def only_group(model: Model) -> ChannelGroup:
    """Return the single group of a model."""
    (group,) = groups(model)
    return group


def cut(model: Model, step: RemoveChannels, context: Context | None = None) -> PipelineResult:
    """Run one step with full verification."""
    return Pipeline([step], verify="full").run(model, context or Context(threads=1))


def details(result: PipelineResult) -> dict[str, Json]:
    """Return what the only step has to tell."""
    (step,) = result.report.steps
    return dict(step.details)


class Told(TypedDict):
    """What a step says about a group."""

    name: str
    units: int
    kept: int
    macs_per_unit: float
    lowest_kept_score: float
    highest_removed_score: float | None


def groups_told(result: PipelineResult) -> list[Told]:
    """Return what the only step says about its groups."""
    return cast(list[Told], details(result)["groups"])


def kept_told(result: PipelineResult) -> dict[str, dict[str, list[int]]]:
    """Return tensor -> axis -> kept positions (a list of lists for the slots of a grouped convolution)."""
    return cast(dict[str, dict[str, list[int]]], details(result)["kept"])


@dataclass(frozen=True)
class Doomed:
    """A criterion that is told the answer: units with one of these places in their group go first."""

    places: tuple[int, ...]

    def score(self, group: ChannelGroup, evidence: Evidence) -> Wide:
        return np.array([float(unit not in self.places) for unit in range(group.units)])


def without(
    model: Model, places: tuple[int, ...], context: Context | None = None, **options: object
) -> Model:
    """Remove exactly these units of the model's only group."""
    keep = 1 - len(places) / only_group(model).units
    step = RemoveChannels(Doomed(places), Ratio(keep), **options)  # type: ignore[arg-type]
    return cut(model, step, context).model


def values(model: Model, source: ArraySource, *names: str) -> list[Wide]:
    """Return tensors, or all outputs when none is named, for all samples in one run."""
    found = run(model, dict(source.arrays), list(names) or None, threads=1)
    return [np.asarray(array, dtype=np.float64) for array in found.values()]


def outputs(model: Model, count: int = 7, seed: int = 1) -> Wide:
    """Return the only output for seeded normal inputs."""
    (array,) = values(model, samples(model, count, seed))
    return array


def weight(model: Model, name: str) -> Wide:
    """Return an initializer."""
    return np.asarray(model.weights[name], dtype=np.float64)


def error(model: Model, other: Model) -> float:
    """Return the largest difference of the only outputs over the largest value."""
    return relative(outputs(other), outputs(model))


def proved(result: PipelineResult, worlds: int = 2) -> None:
    """Check that something was cut and that it was compared with its reference."""
    (step,) = result.report.steps
    assert result.changed and step.verified.how == "reference" and len(step.verified.worlds) == worlds
    assert step.verified.movement is not None and step.verified.movement > 1e-3
