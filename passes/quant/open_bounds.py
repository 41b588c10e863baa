"""Upper bounds that no sample reaches are taken away: a Relu lets factors of channels through, a Relu6 does not."""

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from graphrewrite.data import MinMax, collect
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.match import Draft, is_default_domain
from graphrewrite.passes.quant.plan import name_of
from graphrewrite.passes.tidy.reading import single, source
from graphrewrite.pipeline import Claim, Context, Free, Note, Outcome, passes


@passes.register("open_bounds")
@dataclass(frozen=True)
class OpenBounds:
    """Make a Relu of a Clip from zero whose upper bound no sample comes near (for Nagel et al. 2019, section 5.1.1).

    Args:
        share: of the bound that the largest value on the samples may reach.
        batch: samples that run together.

    On these samples outputs stay the same; on others that reach a bound they do not, so nothing is claimed.
    """

    share: float = 0.9
    batch: int = 16

    claim: ClassVar[Claim] = Free()
    asks: ClassVar[tuple[str, ...]] = ("data",)

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InvalidConfig(
                f"OpenBounds.share is {self.share!r}; expected a number above 0 and at most 1"
            )
        if isinstance(self.batch, bool) or self.batch < 1:
            raise InvalidConfig(f"OpenBounds.batch is {self.batch!r}; expected a whole number of at least 1")

    def run(self, model: Model, context: Context) -> Outcome:
        """Look at what every Clip reads, and replace those that never cut above."""
        draft = Draft(model)
        bounds = {id(node): high for node in draft.nodes() if (high := _bound(draft, node)) is not None}
        clips = [node for node in draft.nodes() if id(node) in bounds]
        if not clips:
            return Outcome(
                model, False, (Note("skipped", "the whole model", "no Clip from zero has a bound"),)
            )
        if context.data is None:
            raise InvalidConfig(
                f"OpenBounds looks at what {len(clips)} Clips read on samples, and there is no data; expected "
                "Context(data=...); a few hundred samples without labels will do"
            )
        wanted = {node.inputs[0].name: MinMax() for node in clips}
        collect(model, context.data, wanted, self.batch, context.seed, context.progress, context.threads)
        notes: list[Note] = []
        for node in clips:
            high, largest = bounds[id(node)], float(wanted[node.inputs[0].name].result().high.max())
            told = f"reaches {largest:.3g} of {high:g}"
            if largest > self.share * high:
                notes.append(Note("skipped", name_of(node), told))
                continue
            draft.anchor = node
            draft.replace(node.outputs[0], draft.op("Relu", node.inputs[0], like=node.outputs[0]))
            notes.append(Note("done", name_of(node), f"{told}: a Relu now"))
        if all(note.kind == "skipped" for note in notes):
            return Outcome(model, False, tuple(notes))
        draft.close()
        return Outcome(model, True, tuple(notes))


def _bound(draft: Draft, node: gs.Node) -> float | None:
    """Return the upper bound of a Clip from zero."""
    if node.op != "Clip" or not is_default_domain(node):
        return None
    if "min" in node.attrs or "max" in node.attrs:
        low, high = node.attrs.get("min"), node.attrs.get("max")
    else:
        low, high = (None if (end := source(node, slot)) is None else single(draft, end) for slot in (1, 2))
    return float(high) if low == 0 and isinstance(high, (int, float)) and high > 0 else None


__all__ = ["OpenBounds"]
