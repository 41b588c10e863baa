"""What the passes of this folder say of their layers, all in one form."""

from collections.abc import Callable, Sequence

from graphrewrite.ir import Model, constant_value
from graphrewrite.passes.weights.sites import Left, Site
from graphrewrite.pipeline import Note, Outcome
from graphrewrite.pipeline.base import Json


def too_old(model: Model, why: str) -> Outcome:
    """Return that nothing was done with a model, because of its operator set."""
    return Outcome(model, False, (Note("skipped", "the whole model", why),), details={"layers": []})


def row(site: Site, bits: int, scales: int, away: float, **more: Json) -> dict[str, Json]:
    """Return what the details say of a weight that was rounded; `away` is how far it moved, relative."""
    values = constant_value(site.weight)
    assert values is not None
    return {
        "name": site.label,
        "op": site.node.op,
        "shape": [int(size) for size in values.shape],
        "bits": bits,
        "scales": scales,
        **more,
        "relative_error": away,
        "left": "",
    }


def outcome(
    model: Model,
    rows: Sequence[dict[str, Json]],
    left: Sequence[Left],
    told: str,
    nothing: str,
    reference: Callable[[], Model],
) -> Outcome:
    """Return a rewritten model with a row for each layer; one without rows is as it was, for the reason `nothing`."""
    notes = [Note("skipped", each.name, each.why) for each in left]
    layers: list[Json] = [*rows]
    layers += [{"name": each.name, "left": each.why} for each in left]
    if rows:
        done = Note("done", "layers", told)
        return Outcome(model, True, (done, *notes), reference, {"layers": layers})
    notes = notes or [Note("skipped", "the whole model", nothing)]
    return Outcome(model, False, tuple(notes), details={"layers": layers})
