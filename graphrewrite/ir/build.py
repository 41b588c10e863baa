"""Draw small graphs by calling: `b = Builder(); y = b.relu(b.conv(x, out=8))`.

Used by tests, models and rewrites. Weights come from a seeded generator, so a drawing is the same everywhere.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs

from graphrewrite.errors import ShapeError
from graphrewrite.ir.edit import add_constant
from graphrewrite.ir.model import Model


class Builder:
    """Collects nodes; every method returns the new tensor. `op` draws any operator, the rest are short forms."""

    def __init__(self, opset: int = 17, seed: int = 0, ir_version: int = 8) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = gs.Graph(nodes=[], inputs=[], outputs=[], name="graph", opset=opset)
        self.graph.initializers = {}
        self.graph.shell = onnx.GraphProto()
        self._opset = opset
        self._ir_version = ir_version
        self._count = 0

    def input(
        self, shape: Sequence[int | str], name: str | None = None, dtype: npt.DTypeLike = np.float32
    ) -> gs.Variable:
        """Declare a graph input; a string is a symbolic dimension."""
        tensor = gs.Variable(name or self._name("x"), np.dtype(dtype), list(shape))
        self.graph.inputs.append(tensor)
        return tensor

    def constant(self, values: npt.ArrayLike, name: str | None = None) -> gs.Constant:
        """File an initializer."""
        return add_constant(self.graph, name or self._name("c"), np.asarray(values))

    def weight(self, *shape: int, name: str | None = None) -> gs.Constant:
        """File a random float32 initializer scaled by 1/sqrt(fan-in)."""
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        return self.constant(self._normal(shape) / np.float32(np.sqrt(max(fan, 1))), name or self._name("w"))

    def op(
        self,
        op_type: str,
        *inputs: gs.Tensor | None,
        outputs: int = 1,
        name: str | None = None,
        domain: str | None = None,
        **attrs: object,
    ) -> gs.Variable:
        """Add a node and return its first output (`op_all` returns all of them)."""
        return self.op_all(op_type, *inputs, outputs=outputs, name=name, domain=domain, **attrs)[0]

    def op_all(
        self,
        op_type: str,
        *inputs: gs.Tensor | None,
        outputs: int = 1,
        name: str | None = None,
        domain: str | None = None,
        **attrs: object,
    ) -> list[gs.Variable]:
        """Add a node and return its outputs; None stands for an omitted optional input."""
        label = name or self._name(op_type.lower())
        made = [gs.Variable(f"{label}_out" if outputs == 1 else f"{label}_out{i}") for i in range(outputs)]
        sources = [gs.Variable.empty() if tensor is None else tensor for tensor in inputs]
        self.graph.nodes.append(gs.Node(op_type, label, dict(attrs), sources, made, domain))
        return made

    def conv(
        self,
        x: gs.Tensor,
        out: int,
        into: int,
        kernel: int | Sequence[int] = 3,
        group: int = 1,
        stride: int = 1,
        bias: bool = True,
        pad: int | None = None,
        name: str | None = None,
    ) -> gs.Variable:
        """Add a 2-D convolution from `into` to `out` channels, same padding unless `pad` says otherwise."""
        shape = [kernel, kernel] if isinstance(kernel, int) else list(kernel)
        if into % group or out % group:
            raise ShapeError(
                f"conv with {group} groups cannot map {into} to {out} channels; both must be multiples of the groups"
            )
        pads = [k // 2 if pad is None else pad for k in shape]
        sources = [x, self.weight(out, into // group, *shape)]
        if bias:
            sources.append(self.constant(self._normal((out,))))
        rank = len(shape)
        return self.op(
            "Conv",
            *sources,
            name=name,
            kernel_shape=shape,
            strides=[stride] * rank,
            pads=pads + pads,
            group=group,
            dilations=[1] * rank,
        )

    def batchnorm(self, x: gs.Tensor, channels: int, name: str | None = None) -> gs.Variable:
        """Add an inference batch norm with random statistics."""
        gain, offset = 1 + 0.2 * self._normal((channels,)), 0.2 * self._normal((channels,))
        mean, variance = 0.2 * self._normal((channels,)), 0.5 + np.abs(self._normal((channels,)))
        return self.op(
            "BatchNormalization",
            x,
            *(self.constant(v) for v in (gain, offset, mean, variance)),
            name=name,
            epsilon=1e-5,
        )

    def relu(self, x: gs.Tensor) -> gs.Variable:
        """Add a rectifier."""
        return self.op("Relu", x)

    def add(self, a: gs.Tensor, b: gs.Tensor) -> gs.Variable:
        """Add a sum."""
        return self.op("Add", a, b)

    def concat(self, *parts: gs.Tensor, axis: int = 1) -> gs.Variable:
        """Add a concatenation."""
        return self.op("Concat", *parts, axis=axis)

    def linear(
        self, x: gs.Tensor, out: int, into: int, bias: bool = True, name: str | None = None
    ) -> gs.Variable:
        """Add a Gemm over the last axis of a 2-D tensor, weight stored [out, into]."""
        sources = [x, self.weight(out, into)]
        if bias:
            sources.append(self.constant(self._normal((out,))))
        return self.op("Gemm", *sources, name=name, transB=1)

    def model(self, *outputs: gs.Tensor, dtypes: Sequence[npt.DTypeLike] | None = None) -> Model:
        """Close the drawing; the given tensors become the graph outputs."""
        for index, tensor in enumerate(outputs):
            if isinstance(tensor, gs.Variable) and tensor.dtype is None:
                tensor.dtype = np.dtype(dtypes[index] if dtypes else np.float32)
        self.graph.outputs = list(outputs)
        opsets = {"": self._opset}
        for node in self.graph.nodes:
            if node.domain:
                opsets.setdefault(node.domain, 1)
        shell = onnx.ModelProto(ir_version=self._ir_version, producer_name="graphrewrite")
        return Model(self.graph, opsets, shell=shell)

    def _normal(self, shape: Sequence[int]) -> npt.NDArray[np.float32]:
        return self.rng.standard_normal(tuple(shape)).astype(np.float32)

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"
