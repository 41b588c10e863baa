"""What an operator declares about itself, read from its op.toml, and where its other faces are found."""

import importlib
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser

# Now, not later: a package that is loaded hides what its parent calls by the same name, the function below.
from graphrewrite.custom_ops import ops as folders
from graphrewrite.errors import InvalidConfig, UnknownNameError

DOMAIN = "graphrewrite"
VERSION = 1  # of the domain's operator set; a changed meaning is a new operator (see README.md)
# The function bodies hold in every operator set from this one on: onnxruntime reads them in the model's own, whatever
# the function says, so a body keeps to operators and forms that no later set has changed.
OLDEST_OPSET = 13

Value: TypeAlias = int | float | str | Sequence[int] | Sequence[float]
Array: TypeAlias = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Port:
    """An input or output: its name, ONNX element type, and whether the kernel needs it to be an initializer."""

    name: str
    type: str
    meaning: str
    constant: bool = False


@dataclass(frozen=True)
class Attribute:
    """An attribute that every node of the operator carries; `default` is what a node is given when nobody says."""

    name: str
    type: Literal["int", "ints", "float", "floats", "string"]
    meaning: str
    default: Value | None = None
    allowed: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Case:
    """Inputs and attributes on which all faces of an operator must agree.

    `rtol` is relative to the largest output; 0 asks for equal bits, as integers can give.
    """

    name: str
    inputs: Mapping[str, Array]
    attributes: Mapping[str, Value] = field(default_factory=dict)
    rtol: float = 0.0


@dataclass(frozen=True)
class OpSpec:
    """An operator of the domain `graphrewrite`; `folder` is the name of its package under `custom_ops.ops`."""

    folder: str
    name: str
    since: int
    meaning: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    attributes: tuple[Attribute, ...]

    def filled(self, attributes: Mapping[str, Value]) -> dict[str, Value]:
        """Return all attributes of a node: those given, and the defaults of the others; several numbers are a list.

        Raises:
            InvalidConfig: an attribute is unknown, lacks a value, or has one that is not allowed.
        """
        unknown = sorted(set(attributes) - {attribute.name for attribute in self.attributes})
        if unknown:
            raise InvalidConfig(
                f"{self.name} has no attribute {unknown[0]!r}; expected some of "
                f"{', '.join(attribute.name for attribute in self.attributes) or 'none'}; see its op.toml"
            )
        filled: dict[str, Value] = {}
        for attribute in self.attributes:
            value = attributes.get(attribute.name, attribute.default)
            if value is None:
                raise InvalidConfig(
                    f"{self.name} was given no {attribute.name!r} ({attribute.meaning}); it has no default; give one"
                )
            if attribute.allowed and value not in attribute.allowed:
                raise InvalidConfig(
                    f"{self.name}.{attribute.name} is {value!r}; expected one of "
                    f"{', '.join(map(repr, attribute.allowed))}; change it"
                )
            filled[attribute.name] = list(value) if isinstance(value, tuple) else value
        return filled

    def function(self, opset: int) -> onnx.FunctionProto:
        """Return the operator's meaning in standard operators, as a model of this operator set carries it.

        Raises:
            InvalidConfig: the operator set is older than the bodies.
        """
        if opset < OLDEST_OPSET:
            raise InvalidConfig(
                f"{self.name} was to go into a model of operator set {opset}; its function body needs {OLDEST_OPSET} "
                "or newer; export the model again with a newer one, or convert it with graphrewrite convert"
            )
        function = onnx.FunctionProto()
        function.CopyFrom(_parsed(self))
        function.opset_import[0].version = opset
        return function

    @property
    def reference(self) -> Callable[..., Array | tuple[Array, ...]]:
        """The numpy form: inputs in order, attributes by keyword."""
        return cast("Callable[..., Array | tuple[Array, ...]]", self._face("reference").reference)

    @property
    def torch_impl(self) -> Callable[..., object]:
        """The torch form: tensors in order, attributes by keyword. Imports torch."""
        return cast("Callable[..., object]", self._face("torch_impl").torch_impl)

    def cases(self) -> Iterator[Case]:
        """Yield the inputs on which all faces agree."""
        return self._face("cases").cases()

    def _face(self, name: str) -> "_Module":
        return cast("_Module", importlib.import_module(f"{__package__}.ops.{self.folder}.{name}"))


class _Module:
    """For the type checker: what the faces' modules hold."""

    reference: object
    torch_impl: object
    BODY: str
    cases: Callable[[], Iterator[Case]]


@cache
def ops() -> Mapping[str, OpSpec]:
    """Return every operator of this installation by name."""
    found: dict[str, OpSpec] = {}
    for folder in sorted(resources.files(folders).iterdir(), key=lambda entry: entry.name):
        declared = folder.joinpath("op.toml")
        if declared.is_file():
            spec = _spec(folder.name, tomllib.loads(declared.read_text(encoding="utf-8")))
            found[spec.name] = spec
    return found


def find(name: str) -> OpSpec:
    """Return the operator called `name`.

    Raises:
        UnknownNameError: there is none.
    """
    try:
        return ops()[name]
    except KeyError:
        raise UnknownNameError(
            f"there is no operator {name!r} in the domain {DOMAIN!r}; expected one of {', '.join(ops())}; "
            "check the spelling, or update graphrewrite"
        ) from None


def _spec(folder: str, declared: Mapping[str, object]) -> OpSpec:
    def entries(key: str) -> list[dict[str, object]]:
        return cast("list[dict[str, object]]", declared.get(key, []))

    attributes = [
        {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
        for entry in entries("attributes")
    ]
    return OpSpec(
        folder=folder,
        name=str(declared["name"]),
        since=cast(int, declared["since"]),
        meaning=str(declared["meaning"]),
        inputs=tuple(Port(**entry) for entry in entries("inputs")),  # type: ignore[arg-type]
        outputs=tuple(Port(**entry) for entry in entries("outputs")),  # type: ignore[arg-type]
        attributes=tuple(Attribute(**entry) for entry in attributes),  # type: ignore[arg-type]
    )


@cache
def _parsed(spec: OpSpec) -> onnx.FunctionProto:
    attributes = ", ".join(attribute.name for attribute in spec.attributes)
    head = (
        f'<domain: "{DOMAIN}", opset_import: ["" : {OLDEST_OPSET}]>\n{spec.name} '
        + (f"<{attributes}> " if attributes else "")
        + f"({', '.join(port.name for port in spec.inputs)}) => ({', '.join(port.name for port in spec.outputs)})\n"
    )
    return onnx.parser.parse_function(head + spec._face("function").BODY)
