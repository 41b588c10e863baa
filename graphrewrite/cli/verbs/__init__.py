"""The verbs of the command line, one file each: a class registered by the name users type."""

from argparse import ArgumentParser, Namespace
from typing import ClassVar, Protocol

from graphrewrite.cli.screen import Screen
from graphrewrite.registry import Registry


class Verb(Protocol):
    """One command. `summary` is its line in the overview, `examples` end its help page."""

    summary: ClassVar[str]
    examples: ClassVar[str]

    def configure(self, parser: ArgumentParser) -> None:
        """Declare arguments; called only when this verb was typed."""
        ...

    def run(self, options: Namespace, screen: Screen) -> int:
        """Do the work and return the exit code; raise an error of the family for bad input."""
        ...


verbs: Registry[Verb] = Registry("verb", package=__name__)

__all__ = ["Verb", "verbs"]
