"""Ways to make samples for a model: one per file, found by name."""

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

from graphrewrite.data import ArraySource, DataSource
from graphrewrite.ir import Model
from graphrewrite.registry import Registry

Progress: TypeAlias = Callable[[str, int, int], None]


@runtime_checkable
class Synthesiser(Protocol):
    """A frozen dataclass whose fields are its settings."""

    def synthesise(
        self, model: Model, source: DataSource, samples: int, seed: int = 0, progress: Progress | None = None
    ) -> ArraySource:
        """Return `samples` labelled samples for a model, learned from the labelled ones of `source`.

        Raises:
            InvalidConfig: the model has not what the method works on.
            InvalidData: the samples do not fit, or have no labels.
        """
        ...


synthesisers: Registry[Synthesiser] = Registry("synthesiser", package=__name__, of=Synthesiser)

__all__ = ["Progress", "Synthesiser", "synthesisers"]
