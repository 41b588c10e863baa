"""The pass that rounds weights beforehand and activations as they come, so that products are sums of integers."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.garbage import paused
from graphrewrite.passes.patterns import as_tuples, check_weights_named
from graphrewrite.passes.tidy.reading import integer, real, source
from graphrewrite.passes.weights.integers import Floats, Integers, Layer, in_bytes, write
from graphrewrite.passes.weights.outcomes import outcome, too_old
from graphrewrite.passes.weights.sites import Left, Picked, Site, sites
from graphrewrite.pipeline import Claim, Context, Outcome, SameAs, passes

_OLDEST_OPSET = 11  # DynamicQuantizeLinear


@passes.register("dynamic_quantize")
@dataclass(frozen=True)
class DynamicQuantize:
    """Round weights of matrix products to int8 and what they multiply to uint8, with a range found on every run.

    Args:
        weight_bits: 2 to 8; 7 cannot saturate the 16-bit sums of processors without VNNI.
        per_channel: a step for each output of a weight; otherwise one for all.
        convolutions: round convolutions too, which onnxruntime's ConvInteger computes slower than floats: for files
            that are to be small or to run elsewhere.
        smallest: weights with fewer numbers stay in floats, where calling operators costs more than the product.
        only: patterns (`*` is any text) of the layers to round; empty for all.
        skip: patterns of layers to leave in float.

    No data is needed. A tensor that several layers read is rounded once. The claim is equality with a graph of floats
    in which every rounding is written out.
    """

    weight_bits: int = 8
    per_channel: bool = True
    convolutions: bool = False
    smallest: int = 1024
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    claim: ClassVar[Claim] = SameAs(1e-5, "the input model with every rounding written out in floats")

    def __post_init__(self) -> None:
        if isinstance(self.weight_bits, bool) or not 2 <= self.weight_bits <= 8:
            raise InvalidConfig(
                f"DynamicQuantize.weight_bits is {self.weight_bits!r}; expected a whole number from 2 to 8"
            )
        as_tuples(self, "only", "skip")

    @paused()
    def run(self, model: Model, context: Context) -> Outcome:
        """Round every product that can be, and say why the others stay."""
        if model.opset < _OLDEST_OPSET:
            old = f"its operator set is {model.opset}; ranges found on every run need {_OLDEST_OPSET}: convert it"
            return too_old(model, old)
        before, made, left = model.clone(), list[Layer](), list[Left]()
        picked = Picked(self.only, self.skip, self.smallest)
        for site in sites(model, {"Gemm", "MatMul", "Conv"} if self.convolutions else {"Gemm", "MatMul"}):
            why = site.why if isinstance(site, Left) else _why_not(site) or picked.why_not(site)
            if why is not None:
                left.append(Left(site.name, why))
            elif isinstance(site, Site):
                made.append(in_bytes(site, self.weight_bits, self.per_channel))
        named = [each.site.name for each in made] + [each.name for each in left]
        check_weights_named((*self.only, *self.skip), named)
        if made:
            write(model, made, Integers())
        told, nothing = (
            f"quantised {len(made)} of {len(made) + len(left)}",
            "it has no product with a constant weight",
        )
        return outcome(model, [each.row for each in made], left, told, nothing, partial(_slow, before, made))


def _why_not(site: Site) -> str | None:
    node = site.node
    if site.slot != 1:
        return "its first input is the constant one"
    if node.op == "MatMul" and len(site.rows.split) != 2:
        return "its weight is a batch of matrices"
    if node.op == "Gemm" and integer(node, "transA", 0):
        return "it transposes its input"
    if source(node, 2) is not None and real(node, "beta", 1.0) != 1.0:
        return "it multiplies what it adds, by its factor beta"
    return None


def _slow(before: Model, made: list[Layer]) -> Model:
    model = before.clone()
    write(model, made, Floats())
    return model


__all__ = ["DynamicQuantize"]
