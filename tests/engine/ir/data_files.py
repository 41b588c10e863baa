"""Models with numbers in files beside them, for the tests of reading and of writing such files."""

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from tests.engine.ir.protos import info, model, node

VALUES = np.arange(1000, dtype=np.float32)


def outside(name: str, dims: list[int], kind: int = TensorProto.FLOAT, **where: object) -> TensorProto:
    """Return a tensor whose numbers lie elsewhere."""
    made = TensorProto(name=name or None, data_type=kind, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in where.items():
        made.external_data.add(key=key, value=str(value))
    return made


def reader(*tensors: TensorProto) -> ModelProto:
    """A model that adds up its initializers."""
    names = [each.name for each in tensors]
    return model([node("Sum", ["x", *names], ["y"])], [info("x", [1000])], [info("y", [1000])], tensors)


def write(folder: Path, proto: ModelProto, name: str = "m.onnx", **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in files.items():
        (folder / f"{stem}.bin").write_bytes(content)
    (folder / name).write_bytes(proto.SerializeToString())
    return folder / name


def whole(path: Path) -> ModelProto:
    """Read a model by onnx's own means, external data included."""
    proto = onnx.load(str(path))
    for each in proto.graph.initializer:
        each.ClearField("data_location")  # which onnx sets to the default
    return proto


def locations(path: Path) -> dict[str, str]:
    proto = onnx.load(str(path), load_external_data=False)
    return {t.name: e.value for t in proto.graph.initializer for e in t.external_data if e.key == "location"}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))
