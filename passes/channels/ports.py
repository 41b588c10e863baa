"""Graph inputs and outputs whose lengths may shrink, by pattern, and what the caller has to know afterwards."""

import re
from collections.abc import Sequence

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.pipeline import Note
from graphrewrite.pipeline.base import Json
from graphrewrite.runtime import Ports

# Longer lists of positions are told in the details only.
_LISTED = 12


def changeable(model: Model, patterns: Sequence[str]) -> frozenset[str]:
    """Return the graph inputs and outputs that patterns name; `*` is any text, all else stands for itself.

    Raises:
        InvalidConfig: a pattern names no input or output.
    """
    names = list(dict.fromkeys(tensor.name for tensor in (*model.inputs, *model.outputs)))
    found: set[str] = set()
    for pattern in patterns:
        fits = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL).fullmatch
        chosen = [name for name in names if fits(name)]
        if not chosen:
            raise InvalidConfig(
                f"the pattern {pattern!r} of what may change names no input or output of this model; "
                f"expected some of {', '.join(names)}; give names of inputs and outputs, * for any text"
            )
        found.update(chosen)
    return frozenset(found)


def changes(model: Model, ports: Ports) -> list[Note]:
    """Return a note for each input and output of the new `model` that became shorter."""
    notes = []
    inputs = {tensor.name for tensor in model.inputs}
    for tensor in (*model.inputs, *model.outputs):
        kept = ports.get(tensor.name)
        if not kept:
            continue
        sizes = ", ".join("?" if dim is None else str(dim) for dim in tensor.shape or ())
        shape = f" as [{sizes}]" if tensor.shape is not None else ""
        axes = " and ".join(
            f"positions {', '.join(map(str, positions))} of axis {axis}"
            if len(positions) <= _LISTED
            else f"{len(positions)} positions of axis {axis}"
            for axis, positions in kept.items()
        )
        does = "must feed" if tensor.name in inputs else "gets"
        text = f"the caller {does} it{shape} from now on with {axes} of the original"
        notes.append(Note("done", tensor.name, text))
    return notes


def told(ports: Ports) -> dict[str, Json]:
    """Return the kept positions as JSON: name -> axis -> positions."""
    return {
        name: {str(axis): [int(p) for p in positions] for axis, positions in axes.items()}
        for name, axes in ports.items()
    }
