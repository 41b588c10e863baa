"""What the verbs that apply one method to one model share: run it, measure it when asked, write the page."""

from argparse import ArgumentParser, Namespace, _ActionsContainer
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from graphrewrite.cli.parser import add_data, add_seed, add_threads
from graphrewrite.cli.record import Measured, measure, record
from graphrewrite.cli.rewriting import Job, document, rewrite, show_sizes
from graphrewrite.cli.screen import Screen
from graphrewrite.pipeline import Pipeline
from graphrewrite.pipeline.base import Json
from graphrewrite.report import Record, Section, text
from graphrewrite.report.became import became, section


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


def add_told(
    parser: ArgumentParser,
    data_in: _ActionsContainer | None = None,
    data_for: str = "samples to run the report's comparison on",
) -> None:
    """Declare --data, --test, --report, --seed and --threads.

    A method that learns from samples has --data among its own options, `data_in`, and says `data_for` what.
    """
    told = parser.add_argument_group("report")
    add_data(told if data_in is None else data_in, data_for)
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


def show_measured(job: Job, measured: Measured, screen: Screen) -> None:
    """Print the table of before and after with what was measured in it, and how far the outputs moved."""
    more = []
    if measured.latency is not None:
        old, new = measured.latency
        more.append(
            ("latency", text.seconds(old.median), text.seconds(new.median), text.change(1, new.ratio))
        )
    found = measured.quality
    if found is not None and found.before is not None and found.after is not None:
        was, now = 100 * found.before.share, 100 * found.after.share
        more.append(("accuracy", f"{was:.2f} %", f"{now:.2f} %", f"{now - was:+.2f} points"))
    show_sizes(job, screen, more)
    if found is not None:
        for entry in found.agreement:
            top = "" if entry.same_top is None else f", same top score for {100 * entry.same_top:.1f} %"
            screen.line(f"{entry.output}: signal to noise {entry.snr:.1f} dB, cosine {entry.cosine:.4f}{top}")
        screen.line(f"on {measured.samples}")
    if measured.timing:
        screen.line(f"latency on {measured.timing}; its change is of runs side by side")


def recorded(
    asked: Callable[[Job], str], sections: Callable[[Job], tuple[Section, ...]]
) -> Callable[[Job, Measured], Record]:
    """Return what makes a page's record of a job: `asked` is the request in words, `sections` are the command's own."""
    return lambda job, measured: replace(record(job, (), measured, asked(job), {}), sections=sections(job))


def layered(job: Job, told: Mapping[str, Mapping[str, str]] = MappingProxyType({})) -> Section:
    """Return the part of a page that says what each layer became, what that costs, and why others were left.

    `told` maps a layer's name to what the method says of it: title of a column -> text.
    """
    left: dict[str, dict[str, None]] = {}
    for entry in job.facts.left:
        left.setdefault(entry.subject, {})[entry.reason] = None
    why = {name: "; ".join(reasons) for name, reasons in left.items()}
    return section(became(job.before, job.result.model), told, why)


def apply(
    options: Namespace,
    screen: Screen,
    pipeline: Pipeline,
    made: Callable[[Job, Measured], Record],
    reads: Sequence[str | None] = (),
) -> Applied:
    """Rewrite the model, measure what --test and --report ask for, and write the page of what `made` gives.

    `reads` are further files of the command, which must not be written to.

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
        reads=[path for path in (options.test, *reads) if path],
        writes=[path for path in (options.report,) if path is not None],
    )
    measured = measure(job, options, screen) if job.facts.output else Measured()
    if options.report and job.facts.output:
        from graphrewrite.ir.external import write_beside
        from graphrewrite.report import page

        write_beside(Path(options.report), page(made(job, measured)).encode("utf-8"))
    return Applied(job, measured)
