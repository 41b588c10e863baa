"""Optimisers by name: a recipe is text, so it names torch's classes instead of holding them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from graphrewrite.errors import InvalidConfig, UnknownNameError
from graphrewrite.serial import Json

if TYPE_CHECKING:
    import torch

_SHORT = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}


class Group(NamedTuple):
    """Parameters under one rule: whether they decay, and what their rate is multiplied by."""

    parameters: "Sequence[torch.nn.Parameter]"
    decays: bool = True
    factor: float = 1.0


@dataclass(frozen=True)
class Optimiser:
    """One of torch's optimisers: `sgd`, `adam`, `adamw`, or the name of any class in `torch.optim`.

    `options` are its keyword arguments but for the rate, which belongs to the stage.
    """

    name: str = "adamw"
    options: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "lr" in self.options:
            raise InvalidConfig(
                "Optimiser.options holds 'lr'; the rate may differ from stage to stage; set Stage.rate instead"
            )

    def make(self, groups: "Iterable[Group]", rate: float) -> "torch.optim.Optimizer":
        """Return the optimiser for groups of parameters; empty ones are left out.

        Its groups carry their `factor`, which whoever sets the rate of a step multiplies it by.

        Raises:
            UnknownNameError: torch has no such optimiser.
            InvalidConfig: it does not take these options, or cannot make single steps.
        """
        import torch

        factory = getattr(torch.optim, _SHORT.get(self.name, self.name), None)
        known = [
            name for name in dir(torch.optim) if _is_kind(getattr(torch.optim, name), torch.optim.Optimizer)
        ]
        if factory is None or not _is_kind(factory, torch.optim.Optimizer):
            close = get_close_matches(self.name, [*_SHORT, *known], n=3) or list(_SHORT)
            raise UnknownNameError(
                f"torch has no optimiser {self.name!r}; did you mean {', '.join(close)}? (any class of torch.optim)"
            )
        if factory is torch.optim.LBFGS:
            raise InvalidConfig(
                "LBFGS runs the model several times a step; expected an optimiser that takes one gradient; take another"
            )
        made_of: list[dict[str, object]] = [
            {"params": parameters, "lr": rate * group.factor, "factor": group.factor}
            | ({} if group.decays else {"weight_decay": 0.0})
            for group in groups
            if (parameters := list(group.parameters))
        ]
        try:
            made: torch.optim.Optimizer = factory(made_of, lr=rate, **self.options)
        except (TypeError, ValueError) as error:
            raise InvalidConfig(
                f"the optimiser {self.name!r} does not take {dict(self.options)} ({error}); expected arguments of "
                f"torch.optim.{factory.__name__}; correct Optimiser.options"
            ) from error
        return made


def _is_kind(found: object, base: type) -> bool:
    return isinstance(found, type) and issubclass(found, base) and found is not base
