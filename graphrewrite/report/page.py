"""The report as one HTML file that needs nothing beside it: no scripts, no fonts, no pictures from elsewhere."""

import importlib
from importlib.resources import files

from graphrewrite.errors import MissingExtra
from graphrewrite.report import plots, text
from graphrewrite.report.groups import groups
from graphrewrite.report.record import Left, Record


def require() -> None:
    """Check that a page can be made, before the work that it is to show.

    Raises:
        MissingExtra: jinja2 or matplotlib is not installed.
    """
    for name in ("jinja2", "matplotlib"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingExtra(
                f"a report page needs {name}, which cannot be imported ({error}); it comes with an extra; "
                'install it with pip install "graphrewrite[report]"'
            ) from error


def page(record: Record) -> str:
    """Return the page as HTML text. Names out of the model are escaped: a model file must not script a browser.

    Raises:
        MissingExtra: jinja2 or matplotlib is not installed.
    """
    require()
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": text.count,
        "size": text.size,
        "seconds": text.seconds,
        "error": text.error,
    }
    environment.filters |= {"shape": text.shape, "safe_text": text.safe, "drawn": Markup}
    source = files("graphrewrite.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        record=record,
        counts=text.count,
        sizes=text.size,
        shapes=text.shape,
        durations=text.seconds,
        tiles=_tiles(record),
        depth=Markup(plots.depth(record.layers)),
        scores=Markup(plots.scores(record.scores)),
        groups=Markup(groups(record.groups, record.kept) if record.groups else ""),
        left=_by_reason(record.left),
        verdict=_verdict(record),
    )


def _tiles(record: Record) -> list[tuple[str, str, str, str]]:
    """Return (what, before, after, change) for the figures people look for first."""
    before, after = record.before, record.after
    tiles = [
        (
            "MACs per sample",
            text.count(before.macs),
            text.count(after.macs),
            text.change(before.macs, after.macs),
        ),
        (
            "parameters",
            text.count(before.params),
            text.count(after.params),
            text.change(before.params, after.params),
        ),
        ("file", text.size(before.bytes), text.size(after.bytes), text.change(before.bytes, after.bytes)),
    ]
    if before.latency and after.latency:
        old, new = before.latency.median, after.latency.median
        tiles.append(
            ("latency, median", text.seconds(old), text.seconds(new), text.change(1, after.latency.ratio))
        )
    if before.accuracy and after.accuracy:
        old, new = before.accuracy.share, after.accuracy.share
        tiles.append(
            ("accuracy", f"{100 * old:.2f} %", f"{100 * new:.2f} %", f"{100 * (new - old):+.2f} points")
        )
    elif record.agreement:
        worst = min(record.agreement, key=lambda entry: entry.snr)
        tiles.append(("output, signal to noise", "", f"{worst.snr:.1f} dB", f"cosine {worst.cosine:.4f}"))
    return tiles


def _verdict(record: Record) -> tuple[bool, str]:
    """Return whether every step was checked, and that in a line."""
    if record.is_unchanged:
        return True, "nothing was changed"
    if not record.checks:
        return False, "not verified"
    errors = [entry.error for entry in record.checks if entry.error is not None]
    worst = f", largest error {text.error(max(errors))}" if errors else ""
    return True, f"verified{worst}"


def _by_reason(left: tuple[Left, ...]) -> list[tuple[str, list[str]]]:
    grouped: dict[str, list[str]] = {}
    for entry in left:
        grouped.setdefault(entry.reason, []).append(entry.subject)
    return sorted(grouped.items(), key=lambda item: (-len(item[1]), item[0]))
