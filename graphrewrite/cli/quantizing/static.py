"""Weights and activations in 8 bits or less, ranges found on samples beforehand."""

from argparse import Namespace, _ArgumentGroup
from math import inf
from typing import ClassVar

from graphrewrite.cli.parser import add_patterns, share, whole
from graphrewrite.cli.quantizing import SHARED, TRAINING, methods
from graphrewrite.errors import InvalidConfig
from graphrewrite.pipeline import Pass, Pipeline

_NONE = "none"
_TIMES = "vnni"


@methods.register("static")
class Static:
    """Tidies and runs `InsertQdq`, after what makes its work easier if that is asked for."""

    summary: ClassVar[str] = "weights and activations, whose ranges are found on --data"
    takes: ClassVar[frozenset[str]] = frozenset(SHARED) - frozenset(TRAINING)

    def configure(self, group: _ArgumentGroup) -> None:
        """Declare the form of codes, how ranges are found, and what is done before."""
        group.add_argument(
            "--activations",
            metavar="CODES",
            default="uint8",
            help="codes of activations: uint8 (default, the fastest on x86), int8, uint16, int16; uint8_symmetric, "
            "int8_symmetric, int16_symmetric. 16 bits are for accelerators and slow on processors",
        )
        add_patterns(
            group, "--wide", "give layers of these names 16 bits to read, and let them compute in floats"
        )
        group.add_argument(
            "--attention",
            action="store_true",
            help="products of two activations too: faster by 1.1 to 1.5 times, and further from the float model",
        )
        group.add_argument(
            "--mixed",
            metavar="ACC",
            type=share,
            help="measure what each layer costs, and give the dearest more bits until no more than ACC is lost: of the "
            "accuracy where --data has labels (0.01 is a point), otherwise of the outputs' energy (0.01 is 20 dB)",
        )
        group.add_argument(
            "--largest",
            metavar="BYTES",
            type=whole(1),
            help="that weights may take in all: layers get more than --bits where it gains most by the byte",
        )
        group.add_argument(
            "--times",
            metavar="NAME",
            help="measured times by which layers stay in floats that are slower in integers, mostly small ones: "
            f"{_TIMES} (default with 8 bits, processors with such instructions), a file measured elsewhere, or "
            f"{_NONE}: quantise all that has an integer kernel (default with fewer bits, for small files)",
        )
        group.add_argument(
            "--target",
            metavar="NAME",
            default="",
            help="machine that the file is for, where it is not onnxruntime on a processor: all (accelerators that "
            "compute in integers throughout: whatever has numbers on both sides is rounded), or a table of yours",
        )
        group.add_argument(
            "--store",
            type=_stored_bits,
            metavar="N",
            help="file what is left in floats in N bits, 2 to 8 (small layers, LSTM and GRU, transposed convolutions, "
            f"tables, layers in loops): floats again once the model is loaded (default 8, with --mixed or --largest "
            f"{_NONE})",
        )
        group.add_argument(
            "--even-levels",
            action="store_true",
            help="with --bits 6 or less, use all levels, none of which is zero: 4 of 2 bits instead of 3",
        )
        group.add_argument(
            "--keep-biases",
            action="store_true",
            help="do not make up for what rounded weights take from the mean of each output",
        )
        group.add_argument(
            "--round",
            metavar="NAME",
            default="nearest",
            help="which of the two codes beside it a weight gets: nearest (default), nearest_means (and biases by "
            "means in the rounded net: one sweep more), adaround (learned on --data, with torch; for 4 bits and less), "
            "or one of yours",
        )
        group.add_argument(
            "--smooth",
            metavar="ALPHA",
            type=float,
            nargs="*",
            help="first move ranges of loud channels from activations into weights, where that brings the outputs "
            "nearer: ALPHA of them (default 0.5), of several the best for each tensor; for transformers",
        )
        group.add_argument(
            "--equalize",
            action="store_true",
            help="first even out the ranges of channels between convolutions, where that brings the outputs nearer: "
            "for --per-tensor and few bits",
        )
        group.add_argument(
            "--calibrate",
            metavar="NAME",
            default="min_max",
            help="how ranges are found: min_max (default), moving_average, percentile, entropy, mse, or one of yours",
        )
        group.add_argument(
            "--batch",
            type=whole(1),
            default=16,
            metavar="N",
            help="samples that run together for it (default 16)",
        )
        group.add_argument(
            "--cache", metavar="FILE.json", default="", help="keep ranges there, and use those kept earlier"
        )

    def pipeline(self, options: Namespace) -> Pipeline:
        """Tidy, even out where asked, quantise."""
        from graphrewrite.passes.opset import RaiseOpset
        from graphrewrite.passes.quant import EqualizeChannels, InsertQdq, MixedPrecision, SmoothQuant
        from graphrewrite.passes.quant.calibrators import calibrators
        from graphrewrite.passes.quant.rounders import rounders
        from graphrewrite.passes.tidy import Tidy
        from graphrewrite.passes.weights import WeightOnly

        step = InsertQdq(
            calibrator=calibrators.make(options.calibrate),
            activations=options.activations,
            per_channel=options.per_channel,
            weight_bits=8 if options.bits is None else options.bits,
            even_levels=options.even_levels,
            correct_bias=not options.keep_biases,
            only=tuple(options.only),
            skip=tuple(options.skip),
            wide=tuple(options.wide),
            attention=options.attention,
            times=_times(options),
            target=options.target,
            batch=options.batch,
            cache=options.cache,
            rounder=rounders.make(options.round),
        )
        before: list[Pass] = [Tidy(), RaiseOpset(13)]
        if options.equalize:
            before.append(EqualizeChannels(step=step))
        if options.smooth is not None:
            alphas = tuple(options.smooth) or SmoothQuant().alphas
            before.append(SmoothQuant(alphas=alphas, step=step, batch=options.batch))
        last: Pass = step
        if options.mixed is not None or options.largest is not None:
            loss = inf if options.mixed is None else options.mixed
            last = MixedPrecision(step, loss, options.largest or 0)
        steps: list[Pass] = [*before, last]
        if _stored(options):
            steps.append(WeightOnly(_stored(options), block=0, skip=tuple(options.skip)))
        return Pipeline(tuple(steps), verify=options.verify)

    def asked(self, options: Namespace) -> str:
        """Name bits, scales, codes of activations, and how ranges are found."""
        scales = "one scale per output" if options.per_channel else "one scale per weight"
        bits = f"weights of {options.bits or 8} bits, {scales}"
        even = ", channels evened out first" if options.equalize else ""
        smooth = ", loud channels moved into weights first" if options.smooth is not None else ""
        rounded = "" if options.round == "nearest" else f", rounded by {options.round}"
        read = f"{options.activations} activations, ranges by {options.calibrate}"
        mixed = (
            "" if options.mixed is None else f", more bits where more than {options.mixed:g} would be lost"
        )
        within = "" if options.largest is None else f", weights within {options.largest} bytes"
        stored = f", other weights filed in {_stored(options)} bits" if _stored(options) else ""
        target = f", for the target {options.target}" if options.target else ""
        return f"{bits}{rounded}; {read}{even}{smooth}{mixed}{within}{stored}{target}"


def _times(options: Namespace) -> str:
    """Return which times weigh layers, "" for none: who asks for few bits wants them in the file, not floats in 8.

    Raises:
        InvalidConfig: they are named for a target that has kernels of its own.
    """
    if options.target and options.times not in (None, _NONE):
        raise InvalidConfig(
            f"--times {options.times} are those of onnxruntime's kernels, and --target {options.target} rounds "
            "whatever they are; expected one of the two; leave --times away"
        )
    chosen = options.times or (_TIMES if options.bits in (None, 8) and not options.target else _NONE)
    return "" if chosen == _NONE else str(chosen)


def _stored_bits(text: str) -> int:
    """Read how many bits weights are filed in that stay floats, 0 for none."""
    return 0 if text == _NONE else whole(2)(text)


def _stored(options: Namespace) -> int:
    """Return that number: layers that were given more bits on purpose are not rounded behind its back."""
    if options.store is not None:
        return int(options.store)
    return 8 if options.mixed is None and options.largest is None else 0
