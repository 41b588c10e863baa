"""The model every pass takes and returns: one graph, and what a bare graph cannot keep."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError, EncodeError

from graphrewrite.errors import InvalidModel
from graphrewrite.ir import garbage
from graphrewrite.ir.clone import clone_graph
from graphrewrite.ir.codec import Encode, Locate, graph_from_proto, graph_to_proto, list_initializers, nowhere
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import all_graphs
from graphrewrite.ir.external import INLINE_LIMIT, ExternalWriter, Locator, read_in, write_beside
from graphrewrite.ir.values import is_sparse, proto_from_constant, utf8
from graphrewrite.ir.weights import Weights

_KEPT_APART = frozenset({"graph", "functions", "metadata_props"})


class Model:
    """An ONNX model in memory.

    Attributes:
        graph: the `onnx_graphsurgeon.Graph`; its `initializers` mapping holds every initializer, used or not.
        functions: model-local functions, as protos.
        opsets: operator-set version by domain; the default domain is "".
        metadata: the model's metadata properties.
        origin: for a weight a pass renamed or replaced: new name -> (old name, how).
    """

    def __init__(
        self,
        graph: gs.Graph,
        opsets: dict[str, int],
        functions: list[onnx.FunctionProto] | None = None,
        metadata: dict[str, str] | None = None,
        shell: onnx.ModelProto | None = None,
    ) -> None:
        self.graph = graph
        self.opsets = opsets
        self.functions = functions or []
        self.metadata = metadata or {}
        self.origin: dict[str, tuple[str, str]] = {}
        self._external = False
        self._shell = shell or onnx.ModelProto(ir_version=10, producer_name="graphrewrite")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Model":
        """Read a model file; numbers in external files are memory-mapped when first needed.

        Raises:
            InvalidModel: not a file, not an ONNX model, or its external data is missing, short or out of bounds.
        """
        file = Path(path)
        try:
            if not file.exists():
                raise InvalidModel(f"there is no file {str(file)!r}; expected an ONNX model; check the path")
            if not file.is_file():
                raise InvalidModel(
                    f"{str(file)!r} is not a file; expected an ONNX model such as model.onnx; name the file itself"
                )
            content = file.read_bytes()
        except (OSError, ValueError) as error:  # no permission, a name too long, a zero in the name
            reason = getattr(error, "strerror", None) or error
            raise InvalidModel(
                f"{str(file)!r} cannot be read ({reason}); expected an ONNX model; check the path and its permissions"
            ) from error
        proto = onnx.ModelProto()
        try:
            proto.ParseFromString(content)
        except DecodeError as error:
            raise InvalidModel(
                f"{str(file)!r} ({len(content)} bytes) is not an ONNX model, or is truncated: its bytes do not parse; "
                "expected a complete .onnx file; check the path, or export it again"
            ) from error
        del content
        locate = Locator(file.parent)
        model = cls._build(proto, locate, repr(str(file)))
        model._external = bool(locate.files)
        return model

    @classmethod
    def from_proto(cls, proto: onnx.ModelProto) -> "Model":
        """Build from a proto whose tensors are all inline; the proto is not kept and may be changed afterwards."""
        return cls._build(proto, nowhere, "the model")

    @classmethod
    @garbage.paused()
    def _build(cls, proto: onnx.ModelProto, locate: Locate, what: str) -> "Model":
        if not proto.HasField("graph") or not (proto.opset_import or proto.ir_version):
            raise InvalidModel(
                f"{what} holds no ONNX graph; expected an exported ONNX model; check that it is the right file"
            )
        if not proto.opset_import:
            raise InvalidModel(
                f"{what} declares no operator set; the file is damaged or pre-dates ONNX 1.0; export it again"
            )
        graph = graph_from_proto(proto.graph, locate)
        shell = onnx.ModelProto()
        for field, value in proto.ListFields():
            if field.name in _KEPT_APART:
                continue
            if isinstance(value, int):
                setattr(shell, field.name, value)
            elif isinstance(value, (str, bytes)):
                setattr(shell, field.name, utf8(value))
            else:
                getattr(shell, field.name).extend(value)
        read_in(shell, locate)
        opsets = _opsets(proto)
        functions = _copies(proto.functions)
        for function in functions:
            read_in(function, locate)
        graph.opset = opsets.get("", gs.Graph.DEFAULT_OPSET)
        return cls(
            graph, opsets, functions, {utf8(e.key): utf8(e.value) for e in proto.metadata_props}, shell
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model in one step; a model above 1.8 GB, or one that came with external data, gets a data file.

        The data file is `NAME.data` beside the model. Both are written under other names first and then renamed, so an
        interrupted save leaves what was there before.

        Raises:
            InvalidModel: the folder does not exist or cannot be written.
        """
        file = Path(path)
        try:
            if file.is_dir() or not file.parent.is_dir():
                raise InvalidModel(
                    f"cannot write {str(file)!r}: expected a file name in an existing folder; create the folder first"
                )
            if self._external or self._tensor_bytes() > INLINE_LIMIT:
                with ExternalWriter(file.with_name(f"{file.name}.data")) as writer:
                    content = _serialised(self._filled(writer.encode))
                    writer.commit(file, content)
            else:
                write_beside(file, _serialised(self._filled()))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InvalidModel(
                f"cannot write {str(file)!r} ({reason}); expected a folder one may write to; "
                "check it and the free space"
            ) from error

    def to_proto(self) -> onnx.ModelProto:
        """Return the whole model as one proto, every tensor inline.

        Raises:
            InvalidModel: the tensors exceed what one proto can hold (2 GB); `save` has no such limit.
        """
        size = self._tensor_bytes()
        if size > INLINE_LIMIT:
            raise InvalidModel(
                f"the model's tensors take {size / 1e9:.1f} GB; one proto can hold "
                f"{INLINE_LIMIT / 1e9:.1f} GB of them safely; use save(), which writes an external data file"
            )
        return self._filled()

    @garbage.paused()
    def clone(self) -> "Model":
        """Copy nodes and tensors in O(nodes); arrays are shared and read-only."""
        copy = Model(
            clone_graph(self.graph),
            dict(self.opsets),
            _copies(self.functions),
            dict(self.metadata),
            self._shell,
        )
        copy.origin = dict(self.origin)
        copy._external = self._external
        return copy

    def nodes(self, *op_types: str) -> list[gs.Node]:
        """Return the nodes of the main graph in order, all of them or those of the given operator types."""
        if not op_types:
            return list(self.graph.nodes)
        return [node for node in self.graph.nodes if node.op in op_types]

    @property
    def weights(self) -> Weights:
        """The initializers of the main graph by name."""
        return Weights(self.graph)

    @property
    def inputs(self) -> list[gs.Variable]:
        """The inputs a caller must feed; an initializer that is also listed as an input is a default, not one."""
        return [tensor for tensor in self.graph.inputs if isinstance(tensor, gs.Variable)]

    @property
    def outputs(self) -> list[gs.Tensor]:
        """The outputs in the order the model declares them."""
        return list(self.graph.outputs)

    @property
    def opset(self) -> int:
        """Version of the default operator set (0 when the model does not import it)."""
        return self.opsets.get("", 0)

    @property
    def ir_version(self) -> int:
        """Version of the file format."""
        return int(self._shell.ir_version)

    @ir_version.setter
    def ir_version(self, version: int) -> None:
        shell = onnx.ModelProto()
        shell.CopyFrom(self._shell)  # clones share it
        shell.ir_version = version
        self._shell = shell

    def _filled(self, encode: Encode = proto_from_constant) -> onnx.ModelProto:
        proto = onnx.ModelProto()
        proto.CopyFrom(self._shell)
        if _opsets(proto) != self.opsets:
            proto.ClearField("opset_import")
            for domain, version in self.opsets.items():
                proto.opset_import.add(domain=domain, version=version)
        proto.functions.extend(self.functions)
        for key, value in self.metadata.items():
            proto.metadata_props.add(key=key, value=value)
        graph_to_proto(self.graph, encode, proto.graph)
        list_initializers(self.graph, proto)
        return proto

    def _tensor_bytes(self) -> int:
        return sum(map(_bytes, _constants(self.graph)))


def _constants(graph: gs.Graph) -> Iterator[gs.Constant]:
    """Yield every tensor with numbers: initializers and tensor attributes, of nested graphs too."""
    for nested in all_graphs(graph):
        yield from nested.initializers.values()
        for node in nested.nodes:
            for value in node.attrs.values():
                if isinstance(value, gs.Constant):
                    yield value
                elif isinstance(value, np.ndarray):
                    yield gs.Constant("", value)


def _bytes(constant: gs.Constant) -> int:
    stored = constant._values
    if is_sparse(constant):
        return int(stored.tensor.ByteSize())
    return int(stored.nbytes)


def _serialised(proto: onnx.ModelProto) -> bytes:
    try:
        content: bytes = proto.SerializeToString()
        return content
    except (EncodeError, ValueError) as error:
        raise InvalidModel(
            f"the model cannot be written ({error}); one model file holds at most 2 GB beside its external data; "
            "expected small functions, texts and sparse tensors; store large numbers as initializers"
        ) from error


def _copies(functions: Iterable[onnx.FunctionProto]) -> list[onnx.FunctionProto]:
    made = []
    for function in functions:
        made.append(onnx.FunctionProto())
        made[-1].CopyFrom(function)
    return made


def _opsets(proto: onnx.ModelProto) -> dict[str, int]:
    opsets: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = domain_name(entry.domain)
        opsets[domain] = max(entry.version, opsets.get(domain, 0))
    return opsets
