"""`graphrewrite ops`: the operators of our own, and what runs them on this machine."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from graphrewrite import custom_ops
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.custom_ops import OpSpec
from graphrewrite.pipeline.base import Json

if TYPE_CHECKING:
    from graphrewrite.custom_ops.presence import Presence


@verbs.register("ops")
class Ops:
    """Prints what the installation holds; runs no model."""

    summary: ClassVar[str] = "Show our own operators, and whether compiled kernels run them on this machine."
    examples: ClassVar[str] = """
        graphrewrite ops
        graphrewrite ops PackSigns           one of them in full: inputs, outputs, attributes
        graphrewrite ops --json | jq .isa    the instruction set the kernels use
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare the operator to show."""
        parser.add_argument("op", metavar="OPERATOR", nargs="?", help="show only this one, in full")

    def run(self, options: Namespace, screen: Screen) -> int:
        """Print the library, the instruction sets and the operators."""
        shown = [custom_ops.find(options.op)] if options.op else list(custom_ops.ops().values())
        # Asking brings onnxruntime; a misspelt name need not wait for it.
        from graphrewrite.custom_ops.presence import presence

        found = presence()
        screen.facts(
            [
                ("library", str(found.library or "none")),
                ("onnxruntime", found.runtime),
                ("instruction set", _isa(found)),
                ("domain", f"{custom_ops.DOMAIN} {custom_ops.VERSION}"),
            ]
        )
        if found.why_not:
            screen.warn(found.why_not)
        screen.line()
        if options.op:
            _show(shown[0], found, screen)
        else:
            _table(shown, found, screen)
        screen.document(
            {
                "library": None if found.library is None else str(found.library),
                "onnxruntime": found.runtime,
                "isa": found.isa,
                "isas": list(found.isas),
                "why_not": found.why_not,
                "domain": custom_ops.DOMAIN,
                "version": custom_ops.VERSION,
                "operators": [_json(spec, found) for spec in shown],
            }
        )
        return 0


def _isa(found: "Presence") -> str:
    if not found.isas:
        return "none: nodes run through their function bodies"
    return f"{found.isa or 'none'}, of {', '.join(found.isas)}"


def _runs(spec: OpSpec, found: "Presence") -> str:
    return "kernel" if spec.name in found.ops else "function body"


def _table(shown: Sequence[OpSpec], found: "Presence", screen: Screen) -> None:
    screen.table(
        ("operator", "version", "runs as", "inputs", "attributes"),
        [
            (
                spec.name,
                str(spec.since),
                _runs(spec, found),
                ", ".join(port.name for port in spec.inputs),
                ", ".join(attribute.name for attribute in spec.attributes),
            )
            for spec in shown
        ],
        right=("version",),
    )


def _show(spec: OpSpec, found: "Presence", screen: Screen) -> None:
    screen.heading(f"{spec.name}  version {spec.since}, runs as {_runs(spec, found)}")
    screen.line(spec.meaning)
    screen.line()
    ports = [("input", port) for port in spec.inputs] + [("output", port) for port in spec.outputs]
    screen.table(
        ("", "name", "type", "meaning"),
        [
            (side, port.name, port.type + (", constant" if port.constant else ""), port.meaning)
            for side, port in ports
        ],
    )
    if spec.attributes:
        screen.line()
        screen.table(
            ("attribute", "type", "default", "meaning"),
            [
                (
                    entry.name,
                    entry.type,
                    "none" if entry.default is None else repr(entry.default),
                    entry.meaning,
                )
                for entry in spec.attributes
            ],
        )


def _json(spec: OpSpec, found: "Presence") -> dict[str, Json]:
    def ports(side: Sequence[custom_ops.spec.Port]) -> list[Json]:
        return [
            {"name": port.name, "type": port.type, "constant": port.constant, "meaning": port.meaning}
            for port in side
        ]

    return {
        "name": spec.name,
        "version": spec.since,
        "kernel": spec.name in found.ops,
        "meaning": spec.meaning,
        "inputs": ports(spec.inputs),
        "outputs": ports(spec.outputs),
        "attributes": [
            {
                "name": entry.name,
                "type": entry.type,
                "default": cast(Json, entry.default),
                "allowed": cast("list[Json]", list(entry.allowed)),
                "meaning": entry.meaning,
            }
            for entry in spec.attributes
        ],
    }
