"""`graphrewrite quantize`: weights, and mostly activations too, as integers that onnxruntime computes with."""

from argparse import Action, ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from typing import ClassVar, cast

from graphrewrite.cli.left import show_left
from graphrewrite.cli.method import add_told, apply, recorded, show_measured
from graphrewrite.cli.parser import add_patterns, add_rewriting, positive, share, whole
from graphrewrite.cli.quantizing import SHARED, TRAINING, methods
from graphrewrite.cli.rewriting import Job, show_check
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.errors import InvalidConfig
from graphrewrite.pipeline.base import Json
from graphrewrite.report import Section, text

# Key of a row of details["layers"] -> heading of the column; a column is shown where some row has its key.
_COLUMNS = {
    "name": "layer",
    "op": "operator",
    "shape": "weight",
    "bits": "bits",
    "activations": "activations",
    "scales": "scales",
    "relative_error": "weights moved",
    "sensitivity": "cost alone",
    "floats": "computes in floats",
}
_BETWEEN = ("operator between layers", "in integers", "in floats", "why in floats")


@verbs.register("quantize")
class Quantize:
    """Runs one method of quantisation over one model."""

    summary: ClassVar[str] = (
        "Round weights and activations to 8 bits or less, for integer kernels of onnxruntime."
    )
    examples: ClassVar[str] = """
        graphrewrite quantize model.onnx -o int8.onnx --data images.npz
        graphrewrite quantize model.onnx -o int8.onnx --data samples/ --calibrate mse --skip 'head*' -v
        graphrewrite quantize digits.onnx -o int8.onnx --data graphrewrite.models.digits:calibration \\
            --test graphrewrite.models.digits:test --report report.html
        graphrewrite quantize bert.onnx -o fast.onnx --method dynamic
        graphrewrite quantize writer.onnx -o small.onnx --method weight_only --form matmul_nbits
    """

    def __init__(self) -> None:
        self._owned: dict[str, list[Action]] = {}

    def configure(self, parser: ArgumentParser) -> None:
        """Declare MODEL, the method, what methods have in common, and what each of them has for itself."""
        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        add_rewriting(parser)
        what = parser.add_argument_group("what is done")
        summaries = "; ".join(f"{name}: {methods.make(name).summary}" for name in methods)
        what.add_argument(
            "--method",
            choices=tuple(methods),
            default="static",
            metavar="NAME",
            help=f"{summaries} (default static)",
        )
        what.add_argument(
            "--bits",
            type=int,
            metavar="N",
            help="bits of a weight; static: 2 to 8 (default 8), 7 for processors without VNNI, whose sums may "
            "saturate, 6 or less for a smaller file, they are int8 once it is loaded; weight_only: 2 to 8 (default 4); "
            "dynamic: 2 to 8 (default 8)",
        )
        scales = what.add_mutually_exclusive_group()
        scales.add_argument(
            "--per-channel", action="store_true", default=True, help="a scale for each output (default)"
        )
        scales.add_argument(
            "--per-tensor", dest="per_channel", action="store_false", help="one scale for each weight"
        )
        choice = parser.add_argument_group("choice of layers")
        add_patterns(choice, "--only", "quantise no others than layers of these names")
        add_patterns(choice, "--skip", "leave layers of these names in float")
        _add_training(parser)
        for name in methods:
            group = parser.add_argument_group(f"--method {name}")
            methods.make(name).configure(group)
            self._owned[name] = list(group._group_actions)
        add_told(
            parser,
            what,
            "samples that ranges are found on, and the report's comparison; labels are not needed",
        )

    def run(self, options: Namespace, screen: Screen) -> int:
        """Quantise, save, measure when asked, and print what became of each layer."""
        method = methods.make(options.method)
        unheeded = [*self._unheeded(options), *_unshared(options, method.takes)]
        if unheeded:
            raise InvalidConfig(
                f"--method {options.method} does not heed {', '.join(unheeded)}; expected options of its own; "
                "see graphrewrite quantize --help for whose they are"
            )
        applied = apply(
            options, screen, method.pipeline(options), recorded(lambda _: method.asked(options), _sections)
        )
        found = _layers(applied.job)
        show_measured(applied.job, applied.measured, screen)
        _show(applied.job, found, screen)
        return applied.finish(options, screen, {"layers": cast(Json, found)})

    def _unheeded(self, options: Namespace) -> Iterator[str]:
        """Yield what was asked of other methods."""
        for name, actions in self._owned.items():
            for action in actions:
                if name != options.method and getattr(options, action.dest) != action.default:
                    yield action.option_strings[0]


def _add_training(parser: ArgumentParser) -> None:
    names = ", ".join(name for name in methods if methods.make(name).takes.issuperset(TRAINING))
    group = parser.add_argument_group(f"training (--method {names})")
    group.add_argument(
        "--epochs", type=whole(1), metavar="N", help="how often every sample is seen (default 10)"
    )
    group.add_argument(
        "--rate", type=positive, metavar="R", help="learning rate at the start (default 0.001)"
    )
    group.add_argument(
        "--labels",
        type=share,
        metavar="SHARE",
        help="share of the loss that is about labels; the rest learns from the model itself (default 0)",
    )
    group.add_argument(
        "--ends",
        type=whole(2),
        metavar="N",
        help="bits of layers that come first or last (default 8; 32: float)",
    )


def _unshared(options: Namespace, takes: frozenset[str]) -> Iterator[str]:
    """Yield what was asked of all methods and is not heeded by this one."""
    asked = {
        "bits": options.bits is not None,
        "per_channel": not options.per_channel,
        "only": bool(options.only),
        "skip": bool(options.skip),
        **{name: getattr(options, name) is not None for name in TRAINING},
    }
    typed = {"per_channel": "--per-tensor"}
    yield from (typed.get(name, f"--{name}") for name in SHARED if asked[name] and name not in takes)


def _layers(job: Job) -> list[Mapping[str, Json]]:
    """Return a row for each layer: what the first step says that did something with it, else the last."""
    found: dict[Json, Mapping[str, Json]] = {}
    for step in job.result.report.steps:
        for row in cast("list[Mapping[str, Json]]", step.details.get("layers", [])):
            earlier = found.get(row["name"])
            if earlier is None:
                found[row["name"]] = row
            elif earlier["left"] and not row["left"]:
                found[row["name"]] = {**row, "floats": earlier["left"]}
    return list(found.values())


def _show(job: Job, found: list[Mapping[str, Json]], screen: Screen) -> None:
    done = [
        (note.subject, note.text)
        for note in job.result.notes
        if note.kind == "done" and note.subject in ("operator set", "layers", "mixed precision")
    ]
    show_check(job, screen, done)
    quantised = [row for row in found if not row["left"]]
    if screen.verbose and quantised:
        screen.line()
        columns, rows = _table(quantised)
        screen.table(columns, rows, right=columns[2:])
    if screen.verbose:
        _show_between(job, screen)
    show_left(job.facts.left, screen)


def _table(quantised: list[Mapping[str, Json]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return titles and rows for layers that were quantised."""
    shown = [key for key in _COLUMNS if any(key in row for row in quantised)]
    rows = [tuple(_cell(key, row.get(key)) for key in shown) for row in quantised]
    return tuple(_COLUMNS[key] for key in shown), rows


def _show_between(job: Job, screen: Screen) -> None:
    """Print how operators between layers compute, and why in floats."""
    rows = _between(job)
    if rows:
        screen.line()
        screen.table(_BETWEEN, rows, right=_BETWEEN[1:3])


def _between(job: Job) -> list[tuple[str, ...]]:
    told = [step.details["between"] for step in job.result.report.steps if "between" in step.details]
    rows = cast("list[Mapping[str, Json]]", told[-1]) if told else []
    return [tuple(str(row[key]) for key in ("op", "integers", "floats", "why")) for row in rows]


def _sections(job: Job) -> tuple[Section, ...]:
    """Return what the page says: each layer that was quantised, and how operators between them compute."""
    columns, layers = _table([row for row in _layers(job) if not row["left"]])
    between = _between(job)
    found = (
        Section("Layers", columns=columns, rows=tuple(layers), numbers=columns[3:]),
        Section("Between layers", columns=_BETWEEN, rows=tuple(between), numbers=_BETWEEN[1:3]),
    )
    return tuple(section for section in found if section.rows)


def _cell(key: str, value: Json) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return text.error(value) if isinstance(value, float) else str(value)
