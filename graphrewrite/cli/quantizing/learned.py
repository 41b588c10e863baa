"""Quantizers that are learned: the model is trained on --data with its roundings in it, towards itself as it was."""

from argparse import Namespace, _ArgumentGroup
from typing import TYPE_CHECKING, ClassVar

from graphrewrite.cli.quantizing import SHARED, methods
from graphrewrite.pipeline import Pipeline

if TYPE_CHECKING:
    from graphrewrite.passes.quant.quantizers import Quantizer

_EPOCHS, _RATE, _ENDS = 10, 0.001, 8


class _Learned:
    """What the methods have in common: they tidy and run `QuantizeAware`."""

    summary: ClassVar[str]
    takes: ClassVar[frozenset[str]] = frozenset(SHARED) - {"per_channel"}

    def configure(self, group: _ArgumentGroup) -> None:
        """Declare nothing: all options are those of training."""

    def quantizer(self, options: Namespace) -> "Quantizer":
        """Return what rounds layers between the ends."""
        raise NotImplementedError

    def pipeline(self, options: Namespace) -> Pipeline:
        """Tidy, but for norms, which learn too; train and write."""
        from graphrewrite.bridge.optimisers import Optimiser
        from graphrewrite.passes.opset import RaiseOpset
        from graphrewrite.passes.recipes.qat import QuantizeAware
        from graphrewrite.passes.tidy import Tidy
        from graphrewrite.passes.train import Distill

        epochs, rate, ends = _chosen(options)
        training = Distill(epochs, rate, labels=options.labels or 0.0, optimiser=Optimiser("adam"))
        step = QuantizeAware(
            self.quantizer(options), training, ends, ends, only=options.only, skip=options.skip
        )
        return Pipeline((Tidy(keep_batchnorm=True), RaiseOpset(13), step), verify=options.verify)

    def asked(self, options: Namespace) -> str:
        """Name the quantizer, its bits, those of the ends, and the training."""
        epochs, rate, ends = _chosen(options)
        bits = "in float" if ends == 32 else f"with {ends} bits"
        labels = f", {options.labels:.0%} of the loss by labels" if options.labels else ""
        return (
            f"{options.method} with {self.quantizer(options).bits} bits, first and last layer {bits}; "
            f"{epochs} epochs at {rate:g}, taught by the model itself{labels}"
        )


def _chosen(options: Namespace) -> tuple[int, float, int]:
    return (
        options.epochs or _EPOCHS,
        options.rate or _RATE,
        _ENDS if options.ends is None else options.ends,
    )


@methods.register("lsq")
class LsqMethod(_Learned):
    """Learned steps."""

    summary: ClassVar[str] = "trained on --data, the steps of even grids learned too (4 bits)"
    takes: ClassVar[frozenset[str]] = frozenset(SHARED)

    def quantizer(self, options: Namespace) -> "Quantizer":
        """Return the steps, one for each output or one for a weight."""
        from graphrewrite.passes.quant.quantizers.lsq import Lsq

        return Lsq(options.bits or 4, options.per_channel)


@methods.register("pams")
class PamsMethod(_Learned):
    """Learned ends."""

    summary: ClassVar[str] = "trained on --data, the ends of symmetric grids learned too (4 bits)"

    def quantizer(self, options: Namespace) -> "Quantizer":
        """Return ends that are watched for the first of the epochs."""
        from graphrewrite.passes.quant.quantizers.pams import Pams

        return Pams(options.bits or 4, warmup=1 / max(2, options.epochs or _EPOCHS))


@methods.register("n2uq")
class N2uqMethod(_Learned):
    """Learned thresholds."""

    summary: ClassVar[str] = "trained on --data, activations compared with learned thresholds (2 bits)"

    def quantizer(self, options: Namespace) -> "Quantizer":
        """Return thresholds for activations and even levels for weights."""
        from graphrewrite.passes.quant.quantizers.n2uq import N2uq

        return N2uq(options.bits or 2)
