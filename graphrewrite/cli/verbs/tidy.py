"""`graphrewrite tidy`: clean a graph without changing what it computes."""

from argparse import ArgumentParser, Namespace
from collections import Counter
from dataclasses import asdict, dataclass
from typing import ClassVar

from graphrewrite.cli.left import show_left
from graphrewrite.cli.parser import add_rewriting, add_seed, add_threads
from graphrewrite.cli.rewriting import Job, document, rewrite, show_check, show_sizes
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.ir import Model
from graphrewrite.ir.edit import all_graphs
from graphrewrite.pipeline import Pipeline


@dataclass(frozen=True)
class OpChange:
    """How many nodes of one operator there were and are."""

    op: str
    before: int
    after: int


@verbs.register("tidy")
class TidyVerb:
    """Runs the tidy family over one model."""

    summary: ClassVar[str] = (
        "Clean a graph: fold constants and batch norms, drop what does nothing; the outputs stay the same."
    )
    examples: ClassVar[str] = """
        graphrewrite tidy model.onnx -o tidied.onnx
        graphrewrite tidy model.onnx -o tidied.onnx --keep-batchnorm    before training, which needs them
        graphrewrite tidy model.onnx -o tidied.onnx --strict || echo "already tidy"
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare MODEL and what may be kept."""
        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        add_rewriting(parser)
        parser.add_argument("--keep-batchnorm", action="store_true", help="leave batch norms as nodes")
        add_seed(parser)
        add_threads(parser)

    def run(self, options: Namespace, screen: Screen) -> int:
        """Tidy, save, and print what changed."""
        from graphrewrite.passes.tidy import Tidy

        step = Tidy(keep_batchnorm=options.keep_batchnorm)
        job = rewrite(options, screen, Pipeline((step,), verify=options.verify))
        changes = _changes(job.before, job.result.model)
        _show(job, changes, screen)
        screen.document({**document(job), "operators": [asdict(row) for row in changes]})
        return job.code


def _changes(before: Model, after: Model) -> list[OpChange]:
    old, new = _count(before), _count(after)
    return [OpChange(op, old[op], new[op]) for op in sorted({*old, *new}, key=lambda op: (-old[op], op))]


def _count(model: Model) -> Counter[str]:
    return Counter(node.op for graph in all_graphs(model.graph) for node in graph.nodes)


def _show(job: Job, changes: list[OpChange], screen: Screen) -> None:
    show_sizes(job, screen)
    moved = [row for row in changes if row.before != row.after or screen.verbose]
    if moved:
        screen.line()
        rows = [(row.op, str(row.before), str(row.after), f"{row.after - row.before:+d}") for row in moved]
        screen.table(("operator", "before", "after", "change"), rows, right=("before", "after", "change"))
    show_check(job, screen)
    show_left(job.facts.left, screen)
