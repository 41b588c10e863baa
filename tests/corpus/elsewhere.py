"""Files that other frameworks' exporters wrote, in environments of their own, and files of yours.

Everything in the folder `elsewhere` of the cache is part of the corpus: `FAMILY/ARCHITECTURE.EXPORTER[.SPECIAL].onnx`.
The scripts in `exporters/` put files there with TensorFlow, PaddlePaddle and JAX; a model of your own is copied there.
"""

from functools import partial
from pathlib import Path
from typing import cast, get_args

import onnx
from onnx import helper

from tests.corpus.check import UnfitError
from tests.corpus.index import Feed, cache_folder
from tests.corpus.spec import Built, Family, Spec


def specs_of_source() -> list[Spec]:
    """One spec for each file; files outside the folders of families are not looked at."""
    root = cache_folder() / "elsewhere"
    paths = [path for family in get_args(Family) for path in sorted((root / family).glob("*.onnx"))]
    return [
        Spec(path.stem, cast(Family, path.parent.name), "elsewhere", _exporter(path), partial(load, path))
        for path in paths
    ]


def load(path: Path) -> Built:
    """Load one file; its first free size is the batch.

    Raises:
        UnfitError: other sizes are free too, and nobody knows what they may be.
    """
    proto = onnx.load(path)
    stored = {tensor.name for tensor in proto.graph.initializer}
    feeds = tuple(_feed(value) for value in proto.graph.input if value.name not in stored)
    return Built(proto, feeds)


def _exporter(path: Path) -> str:
    parts = path.stem.split(".")
    return parts[1] if len(parts) > 1 else "unknown"


def _feed(value: onnx.ValueInfoProto) -> Feed:
    kind = value.type.tensor_type
    sizes = tuple(size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim)
    if None in sizes[1:]:
        raise UnfitError(f"input {value.name} has free sizes besides the batch")
    return Feed(value.name, sizes, str(helper.tensor_dtype_to_np_dtype(kind.elem_type)))
