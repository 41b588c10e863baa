"""`graphrewrite methods`: everything that can be chosen by name."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from graphrewrite.cli.describe import as_json
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs

if TYPE_CHECKING:
    from graphrewrite.cli.methods import Method, Option


@verbs.register("methods")
class Methods:
    """Prints what registries hold; runs no model."""

    summary: ClassVar[str] = "List every method by kind: its paper, what it needs, its options."
    examples: ClassVar[str] = """
        graphrewrite methods
        graphrewrite methods --kind criterion
        graphrewrite methods hrank                      one of them in full: what it does, options with defaults
        graphrewrite methods --json | jq '.methods[].name'
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare the method or kind to show."""
        parser.add_argument("name", metavar="METHOD", nargs="?", help="show only those of this name, in full")
        parser.add_argument("--kind", metavar="KIND", help="list only methods of this kind")

    def run(self, options: Namespace, screen: Screen) -> int:
        """Print the methods."""
        from graphrewrite.cli import methods

        found = methods.listing()
        shown = methods.chosen(found, options.name, options.kind)
        if options.name:
            for method in shown:
                _show(method, screen)
        else:
            _table(shown, screen)
        for package, absent in found.left_out.items():
            screen.warn(f"{package} is left out: it needs {absent}, which is not installed")
        screen.document({"methods": [as_json(method) for method in shown], "left_out": {**found.left_out}})
        return 0


def _table(shown: Sequence["Method"], screen: Screen) -> None:
    screen.table(
        ("kind", "method", "paper", "needs", "options"),
        [
            (
                method.kind,
                method.name,
                "; ".join(method.papers),
                ", ".join(method.needs),
                ", ".join(option.name for option in method.options),
            )
            for method in shown
        ],
    )


def _show(method: "Method", screen: Screen) -> None:
    screen.heading(f"{method.name}  ({method.kind})")
    screen.facts(
        [
            ("paper", "; ".join(method.papers) or "none"),
            ("needs", ", ".join(method.needs) or "the model only"),
        ]
    )
    screen.line()
    for line in method.text.splitlines():
        screen.line(line)
    if method.options:
        screen.line()
        screen.table(
            ("option", "type", "default"),
            [(option.name, option.type, _default(option)) for option in method.options],
        )
    screen.line()


def _default(option: "Option") -> str:
    return "has to be given" if option.required else str(option.default)
