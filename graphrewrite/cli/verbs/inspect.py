"""`graphrewrite inspect`: what a model is, what it costs, and which channels can be removed from it."""

from argparse import ArgumentParser, Namespace
from typing import ClassVar

from graphrewrite.cli.describe import Facts, FileFacts, as_json, describe, describe_file
from graphrewrite.cli.left import listed
from graphrewrite.cli.loading import load
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.report import text

_LONG = 100


@verbs.register("inspect")
class Inspect:
    """Prints the facts of one model file; runs nothing."""

    summary: ClassVar[str] = (
        "Show what a model is and costs: format, inputs, operators, MACs, parameters, channel groups."
    )
    examples: ClassVar[str] = """
        graphrewrite inspect model.onnx
        graphrewrite inspect model.onnx --groups          which channels may go, and why others may not
        graphrewrite inspect model.onnx --json | jq .macs
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare MODEL and --groups."""
        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        parser.add_argument(
            "--groups", action="store_true", help="find the groups of channels that can be removed together"
        )

    def run(self, options: Namespace, screen: Screen) -> int:
        """Print the facts, and the groups when asked."""
        model = load(options.model)
        file, facts = describe_file(options.model, model), describe(model)
        document = {"file": as_json(file), **as_json(facts)}
        _show(file, facts, screen)
        if options.groups:
            # The analysis brings large parts of scipy; most commands do without.
            from graphrewrite.cli.groups import describe_groups, show_groups

            groups = describe_groups(model)
            document["groups"] = as_json(groups)
            show_groups(groups, screen)
        screen.document(document)
        return 0


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
    by_reason: dict[str, list[str]] = {}
    for name, reason in facts.estimates.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, found in by_reason.items():
        screen.line(f"{reason}: {listed(found, screen, 'node')}")


def _short(value: str, screen: Screen) -> str:
    line = text.one_line(value)
    return line if screen.verbose or len(line) <= _LONG else f"{line[:_LONG]}... ({len(line)} characters)"
