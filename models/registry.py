"""The shipped models by name: where the file lies and what was measured when it was trained."""

from __future__ import annotations

import dataclasses
import difflib
import json
from pathlib import Path

from graphrewrite.errors import InvalidModel, UnknownNameError

FOLDER = Path(__file__).parent / "shipped"
CARDS = FOLDER / "cards.json"


@dataclasses.dataclass(frozen=True)
class Card:
    """What one shipped model is and what was measured on it; written by its training script."""

    name: str
    file: str
    """File name inside the `shipped` folder; one file, no external data."""
    sha256: str
    """Digest of the file the figures below were measured on."""
    task: str
    producer: str
    """Framework and exporter with their versions."""
    script: str
    """Module to run with `python -m` to make the file again."""
    accuracy: float
    """Share of the held-out images classified correctly by onnxruntime on the CPU, 0..1."""
    correct: int
    held_out: int
    """How many images the held-out split has."""
    params: int
    """Elements of all floating-point initializers in the file, batch-norm statistics included."""
    opset: int
    input: str
    layout: str
    """Axis letters of the input: NCHW or NHWC; N is symbolic."""
    calibration: str
    """`module:function` that gives calibration inputs in this layout, as `--data` takes it."""
    test: str
    """`module:function` that gives (inputs, labels) of the held-out images in this layout."""
    seed: int
    epochs: int
    seconds: float
    """Wall-clock time of the training on one core of the machine that trained it."""
    versions: dict[str, str]


def names() -> tuple[str, ...]:
    """Names of the shipped models, sorted."""
    return tuple(sorted(_cards()))


def shipped(name: str) -> Path:
    """Path of a shipped model's ONNX file, inside the installed package.

    Raises:
        UnknownNameError: no shipped model has this name; the message lists the nearest.
        InvalidModel: the card exists but its file was not installed.
    """
    path = FOLDER / card(name).file
    if not path.is_file():
        raise InvalidModel(
            f"the file {path.name} of the shipped model {name!r} is missing; it belongs beside its card in "
            "the package's models/shipped folder; reinstall graphrewrite, or run the script the card names"
        )
    return path


def card(name: str) -> Card:
    """The card of a shipped model.

    Raises:
        UnknownNameError: no shipped model has this name; the message lists the nearest.
    """
    cards = _cards()
    if name not in cards:
        near = difflib.get_close_matches(name, cards, n=3, cutoff=0.4) or sorted(cards)
        raise UnknownNameError(
            f"no shipped model is called {name!r}; the names are those of graphrewrite.models.names(); "
            f"did you mean {', '.join(near)}?"
        )
    return cards[name]


def _cards() -> dict[str, Card]:
    entries = json.loads(CARDS.read_text(encoding="utf-8"))
    return {entry["name"]: Card(**entry) for entry in entries}
