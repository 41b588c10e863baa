"""What `factorize --method collaborative` asks for and shows: channels and rank removed together."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import cast

from graphrewrite.cli.method import Applied, show_measured
from graphrewrite.cli.parser import fraction
from graphrewrite.cli.rewriting import Job, show_check
from graphrewrite.cli.screen import Screen
from graphrewrite.errors import InvalidConfig
from graphrewrite.pipeline import Pass
from graphrewrite.pipeline.base import Json
from graphrewrite.report import text

METHOD = "collaborative"
FIELDS = ("macs", "loss")
_COLUMNS = ("channels", "rank", "asked to give", "gives")


def add_options(parser: ArgumentParser) -> None:
    """Declare --macs and --loss."""
    both = parser.add_argument_group(
        f"{METHOD}: input channels and low rank of convolutions, by gradients on --data"
    )
    both.add_argument(
        "--macs", type=fraction, metavar="F", help="keep at most F of the multiply-accumulates (default 0.5)"
    )
    both.add_argument(
        "--loss",
        choices=("labels", "outputs"),
        help="whose gradients: of labels (default), or of the outputs",
    )


def step(options: Namespace) -> Pass:
    """Return the pass.

    Raises:
        InvalidConfig: there is no data.
    """
    from graphrewrite.passes.factor import Collaborative

    if not options.data:
        raise InvalidConfig(f"--method {METHOD} looks at gradients; expected samples; give them with --data")
    kept = 0.5 if options.macs is None else options.macs
    only, skip = tuple(options.only), tuple(options.skip)
    return Collaborative(1 - kept, loss=options.loss or "labels", only=only, skip=skip)


def rows(job: Job) -> list[Mapping[str, Json]]:
    """Return what became of each layer."""
    found = [step for step in job.result.report.steps if step.name == METHOD]
    return [row for each in found for row in cast("list[Mapping[str, Json]]", each.details.get("layers", []))]


def told(job: Job) -> dict[str, dict[str, str]]:
    """Return what is said of each layer: name -> title of a column -> text."""
    return {
        str(row["name"]): dict(
            zip(
                _COLUMNS,
                (
                    f"{row['channels_before']} -> {row['channels_after']}",
                    "" if row["rank_after"] is None else f"{row['rank_before']} -> {row['rank_after']}",
                    f"{cast(float, row['asked']):.1%}",
                    f"{cast(float, row['rate']):.1%}",
                ),
                strict=True,
            )
        )
        for row in rows(job)
    }


def show(applied: Applied, found: Sequence[Mapping[str, Json]], screen: Screen) -> None:
    """Print sizes, what was measured, the check, and what became of each layer."""
    job = applied.job
    show_measured(job, applied.measured, screen)
    if found:
        screen.line()
        table = [(name, *cells.values()) for name, cells in told(job).items()]
        shown = table if screen.verbose else table[:20]
        screen.table(("layer", *_COLUMNS), shown, right=_COLUMNS)
        if len(table) > len(shown):
            screen.line(f"and {len(table) - len(shown)} more (--verbose lists all)")
    show_check(job, screen, [("reduced", text.plural(len(found), "layer"))])
