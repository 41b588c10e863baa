"""What one corpus model is before it is built: a name, its origin, and a function that makes the graph."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import onnx

from tests.corpus.index import Feed

Family: TypeAlias = Literal[
    "cnn",
    "transformer",
    "hybrid",
    "recurrent",
    "segmentation",
    "detection",
    "gan",
    "mlp",
    "superres",
    "graph",
    "audio",
    "other",
]


@dataclass(frozen=True)
class Built:
    """A finished graph with weights inside, and the inputs it takes.

    `standard` is off for what onnxruntime's tools write and its sessions run although the checker refuses it.
    """

    proto: onnx.ModelProto
    feeds: tuple[Feed, ...]
    standard: bool = True


@dataclass(frozen=True)
class Spec:
    """One file of the corpus.

    `name` is the file's stem: architecture, then exporter, then what is special ("resnet18.ts.fp16").
    `build` is called in a process of its own and may take minutes. `core` marks the small first set.
    """

    name: str
    family: Family
    source: str
    exporter: str
    build: Callable[[], Built]
    core: bool = False

    @property
    def architecture(self) -> str:
        """The part of the name that all exports of one network share."""
        return self.name.split(".")[0]
