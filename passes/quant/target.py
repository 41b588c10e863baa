"""What computes in integers on a machine that has kernels of its own: a table in a file, one line an operator."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidConfig

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


class Target(NamedTuple):
    """Operators that compute in integers whatever stands around them.

    `layers` are those with a constant weight; `operators` maps others to the inputs that are numbers, none for all.
    """

    layers: frozenset[str]
    operators: Mapping[str, tuple[int, ...]]

    def slots(self, node: gs.Node) -> tuple[int, ...]:
        """Return which inputs of a node are numbers."""
        return tuple(
            slot
            for slot in self.operators[node.op] or range(len(node.inputs))
            if slot < len(node.inputs) and not node.inputs[slot].is_empty()
        )


def load_target(name: str) -> Target:
    """Return the table of a name that comes with this package, or of a file.

    Raises:
        InvalidConfig: there is none, or it is no such table.
    """
    folder = resources.files("graphrewrite.passes.quant") / "tables"
    shipped = folder / f"{name}.toml"
    if not shipped.is_file() and not Path(name).is_file():
        there = sorted(
            each.name.removesuffix(".toml") for each in folder.iterdir() if each.name.endswith(".toml")
        )
        raise InvalidConfig(
            f"no target is known by the name {name!r}; expected {', '.join(there)}, or a file like these; with none, "
            "what onnxruntime gains by on processors is quantised"
        )
    text = (shipped if shipped.is_file() else Path(name)).read_text(encoding="utf-8")
    try:
        table = tomllib.loads(text)
        layers = frozenset(map(str, table["layers"]))
        operators = {
            str(op): tuple(int(slot) for slot in slots) for op, slots in table.get("operators", {}).items()
        }
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidConfig(
            f"the target {name!r} cannot be read ({error}); expected a list `layers`, and a table [operators] of the "
            "inputs that are numbers; see the tables that come with this package"
        ) from error
    if not layers <= _LAYERS:
        raise InvalidConfig(
            f"the target {name!r} names {', '.join(sorted(layers - _LAYERS))} as layers; expected some of "
            f"{', '.join(sorted(_LAYERS))}; others are operators"
        )
    return Target(layers, operators)
