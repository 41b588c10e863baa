"""Topologies shipped as test data inside the onnx package, given real weights.

Their weights are ConstantOfShape nodes, all one value; every wrong cut of such a net looks right. Each is replaced
by random values: kernels that keep the variance, gains around one, positive variances.
"""

import math
import zlib
from collections.abc import Iterable, MutableSequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.corpus.index import Array, Feed
from tests.corpus.spec import Built, Spec

T = TypeVar("T")
# Name, and the factor by which channels are narrowed so that the file stays small.
NAMES = {
    "bvlc_alexnet": 4, "densenet121": 1, "inception_v1": 1, "inception_v2": 1, "resnet50": 2, "shufflenet": 1,
    "squeezenet": 1, "vgg19": 4, "zfnet512": 4,
}  # fmt: skip
# Sizes that are no channel counts: one, the colours, the classes.
FIXED = (1, 3, 1000)


def folder() -> Path:
    """Where the onnx package keeps them."""
    return Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def build(topology: str, narrow: int) -> Built:
    """Load one topology and give it weights, `narrow` times fewer channels everywhere."""
    proto = onnx.load(folder() / f"light_{topology}.onnx")
    rng = np.random.default_rng(zlib.crc32(topology.encode()))
    graph = proto.graph
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    shapes = {name: list(values.shape) for name, values in stored.items() if values.dtype == np.float32}
    made = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "ConstantOfShape"}
    shapes |= {name: [int(size) for size in stored[source]] for name, source in made.items()}
    _keep(graph.node, [node for node in graph.node if node.output[0] not in made])
    roles = _roles(graph.node)
    _keep(graph.input, [value for value in graph.input if value.name in roles and value.name not in stored])
    feeds = tuple(Feed(v.name, tuple(d.dim_value for d in v.type.tensor_type.shape.dim)) for v in graph.input)
    integers = [t for t in graph.initializer if t.name in roles and t.name not in shapes]
    for t in integers:
        if roles[t.name] == ("Reshape", 1):
            target = [_narrow(int(size), narrow) for size in stored[t.name]]
            t.CopyFrom(numpy_helper.from_array(np.array(target, np.int64), t.name))
    _keep(graph.initializer, integers)
    # Sixteen residual blocks with gains around one would add up until the softmax saturates.
    gain = 0.5 if any(node.op_type == "Sum" for node in graph.node) else 1.0
    for name, shape in shapes.items():
        narrowed = [_narrow(size, narrow) if axis < 2 else size for axis, size in enumerate(shape)]
        if name in roles:
            graph.initializer.append(
                numpy_helper.from_array(_values(narrowed, *roles[name], gain, rng), name)
            )
    # Before IR version 4 every initializer had to be an input as well.
    graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in graph.initializer)
    del graph.value_info[:]
    return Built(proto, feeds)


def _roles(nodes: Iterable[onnx.NodeProto]) -> dict[str, tuple[str, int]]:
    """The operator that uses each tensor and at which place, looking through a change of rank."""
    roles = {text: (node.op_type, place) for node in nodes for place, text in enumerate(node.input)}
    for node in nodes:
        if node.op_type in ("Unsqueeze", "Reshape") and node.output[0] in roles:
            roles[node.input[0]] = roles[node.output[0]]
    return roles


def _narrow(size: int, factor: int) -> int:
    return size if size in FIXED or size < 0 else size // factor


def _keep(field: MutableSequence[T], kept: list[T]) -> None:
    del field[:]
    field.extend(kept)


def _values(shape: list[int], op: str, place: int, gain: float, rng: np.random.Generator) -> Array:
    if op in ("Mul", "BatchNormalization") and place in (1, 4):
        values = rng.uniform(0.7, 1.3, shape) * (gain if place == 1 else 1.0)
    elif len(shape) > 1:
        # Gemm weights are [out, in] here, as kernels are.
        values = rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
    else:
        values = rng.uniform(-0.1, 0.1, shape)
    return values.astype(np.float32)


def specs_of_source() -> list[Spec]:
    """One spec per shipped file."""
    return [
        Spec(
            f"hub_{name}.caffe2", "cnn", "onnx", "caffe2", partial(build, name, narrow), name == "squeezenet"
        )
        for name, narrow in NAMES.items()
    ]
