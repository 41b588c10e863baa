"""Handing a model to onnxruntime without a second copy of its weights.

A small model goes over as one block of bytes. In a large one the graph goes over as bytes and the weights as ranges
of files: those that came from an external file are read from there by both sides, those a pass made are written to a
temporary file, which is unlinked as soon as onnxruntime has mapped it. (Measured on onnxruntime 1.31 with 1.6 GB of
weights and no packing: files 66 MB resident after loading; `add_external_initializers` over the same memory-mapped
arrays 3.2 GB, because it copies them.)
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto

from graphrewrite.errors import InvalidModel
from graphrewrite.ir import Model
from graphrewrite.ir.codec import Encode, graph_to_proto, list_initializers
from graphrewrite.ir.edit import all_graphs
from graphrewrite.ir.external import INLINE_LIMIT
from graphrewrite.ir.values import (
    FileRange,
    StoredValues,
    is_sparse,
    packed_bytes,
    proto_from_constant,
    stored_type,
    tensor_bytes,
)

# Weights in memory above this many bytes are staged in a file: 100 MB load in a fifth of the time that copying takes.
STAGE_ABOVE = 16_000_000
# Smaller tensors always go inline: shape arithmetic reads them while the graph is being loaded.
SMALLEST_STAGED = 65_536
_PAGE = 4096


@contextmanager
def staged(
    model: Model, outputs: Sequence[str] = (), above: int = STAGE_ABOVE
) -> Iterator[tuple[bytes, Path | None]]:
    """Yield the serialised graph, and the folder its external data is relative to when it has some.

    `outputs` are tensors to return besides the declared outputs. The temporary file lives as long as the context.

    Raises:
        InvalidModel: more than 2 GB of tensors cannot be moved out of the graph.
    """
    places: dict[int, FileRange] = {}
    in_memory: list[gs.Constant] = []
    current: dict[int, bool] = {}
    for constant in model.graph.initializers.values():
        if is_sparse(constant) or weight_bytes(constant) < SMALLEST_STAGED:
            continue
        stored = constant._values
        source = stored.source if isinstance(stored, StoredValues) else None
        # A save over the model's own file leaves the numbers reachable only through the open handle, not by path.
        if source is not None and current.setdefault(id(source.file), source.is_current()):
            places[id(constant)] = source
        else:
            in_memory.append(constant)
    for file in {id(place.file): place.file for place in places.values() if place.file is not None}.values():
        file.release()
    with tempfile.TemporaryDirectory(prefix="graphrewrite-", ignore_cleanup_errors=True) as scratch:
        total = sum(map(weight_bytes, in_memory))
        if total > above:
            try:
                places |= _write(in_memory, Path(scratch).resolve() / "weights.bin")
            except OSError as error:
                if total > INLINE_LIMIT:
                    raise InvalidModel(
                        f"{total / 1e9:.1f} GB of weights cannot be handed to onnxruntime: writing them to "
                        f"{scratch!r} failed ({error.strerror}); expected that much free space; "
                        "make room, or set TMPDIR to another folder"
                    ) from error
        # onnxruntime takes one folder and refuses to leave it.
        parents = {place.path.parent for place in places.values()}
        folder = Path(os.path.commonpath(parents)) if parents else None

        def encode(constant: gs.Constant) -> TensorProto | onnx.SparseTensorProto:
            place = places.get(id(constant))
            if place is None or folder is None:
                return proto_from_constant(constant)
            return _reference(constant, place, folder)

        yield _serialised(model, outputs, encode), folder


def weight_bytes(constant: gs.Constant) -> int:
    """Return the bytes a constant takes in a file, without reading it."""
    return tensor_bytes(stored_type(constant), tuple(constant.shape))


def _serialised(model: Model, outputs: Sequence[str], encode: Encode) -> bytes:
    proto = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in model.opsets.items():
        proto.opset_import.add(domain=domain, version=version)
    proto.functions.extend(model.functions)
    graph_to_proto(model.graph, encode, proto.graph)
    list_initializers(model.graph, proto)
    for name in outputs:
        proto.graph.output.add(name=name)  # onnxruntime infers the type
    try:
        return bytes(proto.SerializeToString())
    except ValueError as error:
        total = sum(weight_bytes(c) for graph in all_graphs(model.graph) for c in graph.initializers.values())
        raise InvalidModel(
            f"the model cannot be handed to onnxruntime: {total / 1e9:.1f} GB of tensors, too many of them in small "
            f"pieces or inside subgraphs ({error}); expected less than 2 GB there; keep large tensors in the main graph"
        ) from error


def _write(constants: Sequence[gs.Constant], path: Path) -> dict[int, FileRange]:
    """Stream arrays into one file, each on a page of its own; one array under two names is written once."""
    places: dict[int, FileRange] = {}
    written: dict[int, FileRange] = {}
    with open(path, "wb") as file:
        for constant in constants:
            stored = constant._values
            if id(stored) not in written:
                file.seek(-(-file.tell() // _PAGE) * _PAGE)
                start = file.tell()
                if isinstance(stored, StoredValues) and stored.source is not None:
                    stored.source.copy_to(file)
                else:
                    file.write(packed_bytes(constant).data)
                written[id(stored)] = FileRange(path, start, file.tell() - start)
            places[id(constant)] = written[id(stored)]
    return places


def _reference(constant: gs.Constant, place: FileRange, folder: Path) -> TensorProto:
    proto = TensorProto(name=constant.name, data_type=stored_type(constant), dims=list(constant.shape))
    proto.data_location = TensorProto.EXTERNAL
    location = place.path.relative_to(folder).as_posix()
    for key, value in (
        ("location", location),
        ("offset", str(place.offset)),
        ("length", str(weight_bytes(constant))),
    ):
        proto.external_data.add(key=key, value=value)
    return proto
