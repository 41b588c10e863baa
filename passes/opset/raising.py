"""A newer operator set for the step behind, no newer than that step needs."""

from dataclasses import dataclass
from typing import ClassVar

from graphrewrite.errors import InvalidConfig, InvalidModel, UnsupportedOp
from graphrewrite.ir import Model
from graphrewrite.passes.opset.convert import ConvertOpset
from graphrewrite.passes.opset.history import known
from graphrewrite.pipeline import Claim, Context, Note, Outcome, Same, passes


@passes.register("raise_opset")
@dataclass(frozen=True)
class RaiseOpset:
    """Raise a model to an operator set where it is older, and leave it alone where that cannot be.

    Args:
        least: the operator set that the next step needs.

    The next step is left to say what it cannot do with an older model; this one says why it stayed old.
    """

    least: int = 13

    claim: ClassVar[Claim] = Same()

    def __post_init__(self) -> None:
        if isinstance(self.least, bool) or not known(self.least):
            raise InvalidConfig(
                f"RaiseOpset.least is {self.least!r}; expected an operator set that ConvertOpset knows, such as 21"
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Raise it if need be."""
        if not 0 < model.opset < self.least:
            return Outcome(model, False)
        try:
            return ConvertOpset(self.least).run(model, context)
        except (InvalidModel, UnsupportedOp) as error:
            return Outcome(model, False, (Note("skipped", "operator set", str(error)),))
