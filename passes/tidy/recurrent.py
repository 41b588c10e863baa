"""LSTM, GRU and RNN: an initial state of zeros is what they start from anyway."""

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from graphrewrite.ir import Model
from graphrewrite.match import Draft, RuleSet, is_default_domain, rule
from graphrewrite.match.rules import Result
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.passes.tidy.reading import source, uniform
from graphrewrite.pipeline import Claim, Context, Outcome, Same, passes

# Nodes that repeat, cut or rearrange their first input, so that equal elements stay equal.
_REARRANGING = frozenset(
    [
        "Expand",
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Slice",
        "Tile",
        "Flatten",
        "Identity",
        "Gather",
    ]
)
_STEPS = 32


def same_everywhere(draft: Draft, tensor: gs.Tensor) -> float | None:
    """Return the number all elements of a tensor are equal to, whatever its shape; None when not known."""
    found: set[float] = set()
    stack = [tensor]
    for _ in range(_STEPS):
        if not stack:
            break
        current = stack.pop()
        values = draft.constant(current)
        if values is not None:
            number = uniform(values)
            if number is None:
                return None
            found.add(number)
            continue
        maker = draft.producer(current)
        if maker is None or not is_default_domain(maker):
            return None
        if maker.op in _REARRANGING:
            stack.append(maker.inputs[0])
        elif maker.op in ("Concat", "Split"):
            stack.extend(maker.inputs if maker.op == "Concat" else [maker.inputs[0]])
        elif maker.op == "ConstantOfShape":
            filling = maker.attrs.get("value")
            found.add(0.0 if filling is None else float(filling.values.reshape(-1)[0]))
        else:
            return None
    return next(iter(found)) if len(found) == 1 and not stack else None


@rule("LSTM", "GRU", "RNN", name="initial state of zeros", reach=4)
def zero_state(draft: Draft, node: gs.Node) -> Result:
    """Leave out initial states that are zero; sequence lengths stay."""
    changed = False
    for index in (5, 6):
        state = source(node, index)
        if state is not None and same_everywhere(draft, state) == 0.0:
            draft.set_input(node, index, None)
            changed = True
    return changed


RULES = RuleSet.of(zero_state)


@passes.register("drop_zero_states")
@dataclass(frozen=True)
class DropZeroStates:
    """Leave out initial states of LSTM, GRU and RNN that are zero."""

    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        """Leave them out."""
        return tidy(model, lambda: RULES)
