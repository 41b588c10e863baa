"""An If whose condition is known gives way to the branch that is taken."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model
from graphrewrite.match import Draft, RuleSet, refuse, rule
from graphrewrite.match.rules import Result
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.pipeline import Claim, Context, Outcome, Same, passes

NAME = "If with a known condition"


@rule("If", name=NAME)
def inline_if(draft: Draft, node: gs.Node) -> Result:
    """Put the nodes of the branch that is always taken in the place of the If."""
    condition = draft.value(node.inputs[0])
    if condition is None or condition.size != 1 or condition.dtype != np.bool_:
        return False
    name = "then_branch" if condition.reshape(-1)[0] else "else_branch"
    branch = node.attrs.get(name)
    if not isinstance(branch, gs.Graph) or len(branch.outputs) != len(node.outputs):
        return False
    made_inside = {id(tensor) for inner in branch.nodes for tensor in inner.outputs}
    pairs = [(old, new) for old, new in zip(node.outputs, branch.outputs, strict=True) if not old.is_empty()]
    inside = [id(new) for _, new in pairs]
    for old, new in pairs:
        unfit = id(new) not in made_inside or inside.count(id(new)) > 1
        if draft.is_output(old) and unfit:
            refuse(f"its branch hands on {new.name!r}, which cannot take the name of an output of the model")
    draft.adopt(node, name)
    for old, new in pairs:
        draft.replace(old, new)
    return True


RULES = RuleSet.of(inline_if)


@passes.register("inline_if")
@dataclass(frozen=True)
class InlineIf:
    """Replace an If whose condition is known by the branch that is taken."""

    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        """Inline them."""
        return tidy(model, lambda: RULES)
