"""What the verbs that apply one method to one model share: run it, measure it when asked, write the page."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from graphrewrite.cli.parser import add_data, add_seed, add_threads
from graphrewrite.cli.record import Measured, measure, record
from graphrewrite.cli.rewriting import Job, document, rewrite
from graphrewrite.cli.screen import Screen
from graphrewrite.pipeline import Pipeline
from graphrewrite.pipeline.base import Json
from graphrewrite.report import layers


@dataclass(frozen=True)
class Applied:
    """A method that was applied: the job, and what was measured of it."""

    job: Job
    measured: Measured

    def finish(self, options: Namespace, screen: Screen, more: dict[str, Json]) -> int:
        """Say where the page is, print the JSON document with `more` in it, and return the exit code."""
        if options.report and self.job.facts.output:
            screen.line(f"report written to {options.report}")
        screen.document({**document(self.job), **more, **self.measured.to_json()})
        return self.job.code


def add_told(parser: ArgumentParser, data_for: str = "samples to run the report's comparison on") -> None:
    """Declare --data, --test, --report, --seed and --threads."""
    told = parser.add_argument_group("report")
    add_data(told, data_for)
    told.add_argument(
        "--test",
        metavar="PATH",
        help="held-out samples, like --data: measure accuracy (with labels) or agreement on them",
    )
    told.add_argument(
        "--report", metavar="FILE.html", help="write a page with layers, plots, latency and accuracy"
    )
    add_seed(parser)
    add_threads(parser)


def apply(options: Namespace, screen: Screen, pipeline: Pipeline, asked: Callable[[Job], str]) -> Applied:
    """Rewrite the model, measure what --test and --report ask for, write the page; `asked` puts the request into words.

    Raises:
        GraphRewriteError: bad input, an impossible request, or a step that broke its claim.
    """
    if options.report:
        from graphrewrite.report.page import require

        require()  # before the work, not after it
    job = rewrite(
        options,
        screen,
        pipeline,
        reads=[path for path in (options.test,) if path],
        writes=[path for path in (options.report,) if path],
    )
    measured = measure(job, options, screen) if job.facts.output else Measured()
    if options.report and job.facts.output:
        from graphrewrite.ir.external import write_beside
        from graphrewrite.report import page

        left = {entry.subject: entry.reason for entry in job.facts.left}
        rows = tuple(
            replace(row, why=left.get(row.name, "")) for row in layers(job.before, job.result.model, {})
        )
        write_beside(Path(options.report), page(record(job, rows, measured, asked(job), {})).encode("utf-8"))
    return Applied(job, measured)
