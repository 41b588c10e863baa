"""The model in memory: graph, weights, functions, opsets, metadata, and small edits that keep them in step."""

from graphrewrite.ir.build import Builder
from graphrewrite.ir.custom import custom_node
from graphrewrite.ir.edit import Namer
from graphrewrite.ir.model import Model
from graphrewrite.ir.shapes import ShapeInfo, infer
from graphrewrite.ir.symbols import Dim, Sym
from graphrewrite.ir.values import Array, array_of, constant_value
from graphrewrite.ir.weights import Weights

__all__ = [
    "Array",
    "Builder",
    "Dim",
    "Model",
    "Namer",
    "ShapeInfo",
    "Sym",
    "Weights",
    "array_of",
    "constant_value",
    "custom_node",
    "infer",
]
