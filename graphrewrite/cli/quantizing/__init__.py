"""What `graphrewrite quantize --method NAME` does: one file per method, found by name.

To add one: a class with what `Method` asks for, decorated with `@methods.register("name")`, in a file of its own. The
verb declares what several methods have in common (`SHARED`); a method says in `takes` which of these it heeds, and
declares its own options. An option that the chosen method does not heed is refused.
"""

from argparse import Namespace, _ArgumentGroup
from typing import ClassVar, Protocol

from graphrewrite.pipeline import Pipeline
from graphrewrite.registry import Registry

TRAINING = ("epochs", "rate", "labels", "ends")  # of methods that train
SHARED = ("bits", "per_channel", "only", "skip", *TRAINING)


class Method(Protocol):
    """One way to quantise. `summary` is its line on the help page, `takes` those of `SHARED` that it heeds.

    What its last step with details["layers"] says there is shown as a table: a row for each layer, with "left" where it
    stays in float and why.
    """

    summary: ClassVar[str]
    takes: ClassVar[frozenset[str]]

    def configure(self, group: _ArgumentGroup) -> None:
        """Declare options that no other method has."""
        ...

    def pipeline(self, options: Namespace) -> Pipeline:
        """Return the steps; `options.bits` is None where nobody asked for a number."""
        ...

    def asked(self, options: Namespace) -> str:
        """Return what was asked for in words, for the report."""
        ...


methods: Registry[Method] = Registry("way to quantise", package=__name__)

__all__ = ["SHARED", "TRAINING", "Method", "methods"]
