"""`graphrewrite inspect`: what a model is, what it costs, and which channels can be removed from it."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from graphrewrite.cli.describe import Facts, FileFacts, as_json, describe, describe_file
from graphrewrite.cli.files import check_outputs
from graphrewrite.cli.left import listed
from graphrewrite.cli.loading import load
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.ir import Model
from graphrewrite.ir.external import write_beside
from graphrewrite.pipeline.base import Json
from graphrewrite.report import text

if TYPE_CHECKING:
    from graphrewrite.dims.explanation import Explanation

_LONG = 100


@verbs.register("inspect")
class Inspect:
    """Prints the facts of one model file; runs nothing."""

    summary: ClassVar[str] = (
        "Show what a model is and costs: format, inputs, operators, MACs, parameters, channel groups."
    )
    examples: ClassVar[str] = """
        graphrewrite inspect model.onnx
        graphrewrite inspect model.onnx --groups                 which channels may go, and why others may not
        graphrewrite inspect model.onnx --group layer1.0.conv1   one group in full
        graphrewrite inspect model.onnx --picture groups.svg     the groups along the depth of the net
        graphrewrite inspect model.onnx --dot groups.dot         the same as a graph, for Graphviz
        graphrewrite inspect model.onnx --json | jq .macs
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare MODEL, and what to tell and draw of its groups."""
        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        told = parser.add_argument_group("groups of channels that can be removed together")
        told.add_argument(
            "--groups",
            action="store_true",
            help="explain them: who ties whom, savings, what stays whole and why",
        )
        told.add_argument(
            "--group",
            metavar="NAME",
            help="explain one of them in full, by its name, a weight or a layer of it",
        )
        told.add_argument(
            "--all", action="store_true", help="every group and every name, instead of the first few"
        )
        told.add_argument(
            "--dot",
            nargs="?",
            const="-",
            metavar="FILE",
            help="write them as a graph in Graphviz's language; without FILE print it, and nothing else",
        )
        told.add_argument(
            "--picture", metavar="FILE", help="draw them along the depth of the net, as FILE.svg or FILE.png"
        )

    def run(self, options: Namespace, screen: Screen) -> int:
        """Print the facts, and what was asked about the groups."""
        outputs = _outputs(options)
        model = load(options.model)
        if options.dot == "-" and not screen.as_json:
            screen.line(_dot(_explained(model), options))
            return 0
        file, facts = describe_file(options.model, model), describe(model)
        document = {"file": as_json(file), **as_json(facts)}
        if not options.group:
            _show(file, facts, screen)
        if options.groups or options.group or outputs or options.dot:
            document |= _groups(model, options, screen)
        screen.document(document)
        return 0


def _outputs(options: Namespace) -> list[str]:
    """Return the files to write, checked before any work.

    Raises:
        InvalidConfig: one cannot be written, or is no kind of picture.
        MissingExtra: what draws pictures is not installed.
    """
    outputs = [path for path in (options.picture, options.dot) if path and path != "-"]
    check_outputs(outputs, [options.model])
    if options.picture:
        from graphrewrite.report.groups import check_picture

        check_picture(options.picture)
    return outputs


def _groups(model: Model, options: Namespace, screen: Screen) -> dict[str, Json]:
    """Explain, print and draw the groups; return what the document says of them."""
    # The analysis brings large parts of scipy; most commands do without.
    from graphrewrite.cli.groups import show_group, show_groups

    found = _explained(model)
    document: dict[str, Json] = {"groups": cast(Json, found.to_json())}
    if options.group:
        group = found.find(options.group)
        document["group"] = cast(Json, as_json(group))
        show_group(group, found, screen, whole=True)
    elif options.groups:
        show_groups(found, screen, options.all or screen.verbose)
    if options.dot == "-":
        document["dot"] = _dot(found, options)
    elif options.dot:
        write_beside(Path(options.dot), _dot(found, options).encode("utf-8"))
        screen.line(f"graph written to {options.dot}")
    if options.picture:
        from graphrewrite.report.groups import picture

        write_beside(
            Path(options.picture), picture(found, Path(options.model).name, Path(options.picture).suffix)
        )
        screen.line(f"picture written to {options.picture}")
    return document


def _explained(model: Model) -> "Explanation":
    from graphrewrite.dims.explain import explain
    from graphrewrite.ir.inline import inlined

    return explain(inlined(model))


def _dot(found: "Explanation", options: Namespace) -> str:
    from graphrewrite.report.dot import dot

    return dot(found, Path(options.model).name, whole=options.all)


def _show(file: FileFacts, facts: Facts, screen: Screen) -> None:
    sample = "per sample" if facts.batch > 1 else "per run"
    sizes = ", ".join(f"{name} {text.shape(shape)}" for name, shape in facts.sizes.items())
    external = ", ".join(f"{name} ({text.size(size)})" for name, size in file.external_data.items())
    inside = f" and {facts.nodes_in_subgraphs} in subgraphs" if facts.nodes_in_subgraphs else ""
    at_once = text.size(facts.peak_activation_bytes)
    screen.heading(f"{file.path}  {text.size(file.bytes)}")
    screen.facts(
        [
            ("operator sets", ", ".join(f"{domain} {version}" for domain, version in facts.opsets.items())),
            ("IR version", str(facts.ir_version)),
            ("producer", f"{facts.producer} {facts.producer_version}".strip() or "not said"),
            ("nodes", f"{facts.nodes}{inside}"),
            ("parameters", f"{text.count(facts.params)} ({text.size(facts.weight_bytes)})"),
            ("MACs", f"{text.count(facts.macs)} {sample}" + (f", with {sizes}" if sizes else "")),
            ("activations", f"{text.size(facts.activation_bytes)} {sample}, at most {at_once} alive at once"),
            ("external data", external or "none"),
            ("functions", ", ".join(facts.functions) or "none"),
            ("sha256", file.sha256),
            *((f"metadata {key}", _short(value, screen)) for key, value in facts.metadata.items()),
        ]
    )
    screen.line()
    screen.table(
        ("", "name", "type", "shape"),
        [("input", entry.name, entry.type, text.shape(entry.shape)) for entry in facts.inputs]
        + [("output", entry.name, entry.type, text.shape(entry.shape)) for entry in facts.outputs],
    )
    screen.line()
    total = max(facts.macs, 1)
    screen.table(
        ("operator", "nodes", "MACs", "share", "parameters"),
        [
            (
                row.op,
                str(row.nodes),
                text.count(row.macs),
                f"{100 * row.macs / total:.1f} %",
                text.count(row.params),
            )
            for row in facts.operators
        ],
        right=("nodes", "MACs", "share", "parameters"),
    )
    _show_gaps(facts, screen)


def _show_gaps(facts: Facts, screen: Screen) -> None:
    """Say which figures are missing or estimates: a total that silently leaves something out is a wrong total."""
    for op, names in facts.no_cost_rule.items():
        screen.line(f"no cost rule for {op}, not in the totals: {listed(names, screen, 'node')}")
    if facts.unsized:
        screen.line(f"sizes unknown, not in the totals: {listed(facts.unsized, screen, 'node')}")
    told = {*facts.unsized, *(name for names in facts.no_cost_rule.values() for name in names)}
    by_reason: dict[str, list[str]] = {}
    for name, reason in facts.estimates.items():
        if name in told:  # one line for all of them says more than one for each
            continue
        by_reason.setdefault(reason, []).append(name)
    for reason, found in by_reason.items():
        screen.line(f"{reason}: {listed(found, screen, 'node')}")


def _short(value: str, screen: Screen) -> str:
    line = text.one_line(value)
    return line if screen.verbose or len(line) <= _LONG else f"{line[:_LONG]}... ({len(line)} characters)"
