"""Random graphs over everything the dimension analysis claims to know, each from one seed.

`random_model(seed)` chains blocks (tests/support/blocks_*.py) that fit each other, in one of many operator sets, with a
symbolic or a fixed batch, constants as initializers or as nodes, shapes as numbers or computed as exporters do, and one
or more outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import tests.support.blocks_flat
import tests.support.blocks_map
import tests.support.blocks_seq
from graphrewrite.ir import Model
from graphrewrite.ir.edit import drop_unused
from tests.support.blocks import Block, blocks
from tests.support.drawing import Drawing, Drawn, Style, Unfit

FAMILIES = (tests.support.blocks_flat, tests.support.blocks_map, tests.support.blocks_seq)
OPSETS = (11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)


@dataclass(frozen=True)
class Sample:
    """A random model and how it came about."""

    seed: int
    model: Model
    opset: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"seed {self.seed}, operator set {self.opset}: {' '.join(self.names)}"


def random_model(seed: int) -> Sample:
    """Draw the model of a seed; every block is sure to be in one of the first len(blocks) models."""
    rng = np.random.default_rng([seed, 1])
    lead = list(blocks.values())[seed % len(blocks)]
    opset = int(rng.choice([version for version in OPSETS if lead.since <= version <= lead.until]))
    d = Drawing(
        Style(
            opset,
            bool(rng.random() < 0.6),
            float(rng.choice([0.0, 0.2, 1.0])),
            float(rng.choice([0.0, 0.5, 1.0])),
            seed,
        )
    )
    usable = [b for b in blocks.values() if b.since <= opset <= b.until]
    names: list[str] = []
    passed: list[tuple[str, Drawn]] = []
    kind, x = _start(d, rng, lead.source)
    for place in range(int(rng.integers(2, 7))):
        leads = (
            [lead]
            if kind == lead.source and lead.name not in names and (place == 0 or rng.random() < 0.7)
            else []
        )
        kind, x = _grow(d, rng, leads, usable, kind, x, names)
        passed.append((kind, x))
    outputs = [_head(d, kind, x)]
    if rng.random() < 0.2:
        outputs.append(_head(d, *passed[int(rng.integers(len(passed)))]))
    model = d.model(*outputs)
    drop_unused(model.graph)
    return Sample(seed, model, opset, tuple(names))


def drawn(names: Sequence[str], seed: int, style: Style) -> Model:
    """Draw the named blocks one after another, with a head that reads all channels."""
    d = Drawing(style)
    rng = np.random.default_rng([seed, 2])
    kind = blocks[names[0]].source
    x = _input(d, kind, rng)
    for name in names:
        x = blocks[name].draw(d, x)
        kind = blocks[name].target
    model = d.model(_head(d, kind, x))
    drop_unused(model.graph)
    return model


def _start(d: Drawing, rng: np.random.Generator, kind: str) -> tuple[str, Drawn]:
    if kind != "seq" or rng.random() < 0.7:
        return kind, _input(d, kind, rng)
    words, c, time = 11, int(rng.choice([6, 8])), int(rng.choice([4, 5]))
    ids = d.input(2, time, dtype=np.int64)
    table = d.floats(words, c, scale=1.0)
    return "seq", d.op("Gather", table, ids, shape=(ids.shape[0], time, c))


def _input(d: Drawing, kind: str, rng: np.random.Generator) -> Drawn:
    if kind == "map":
        side = int(rng.choice([5, 6, 8]))
        x = d.input(2, 3, side, side)
        return d.conv(x, int(rng.choice([4, 6, 8])))
    if kind == "seq":
        x = d.input(2, int(rng.choice([4, 5, 9])), int(rng.choice([5, 6])))
        return d.linear(x, int(rng.choice([4, 6, 8])))
    return d.linear(d.input(2, 7), int(rng.choice([6, 8, 12])))


def _grow(
    d: Drawing,
    rng: np.random.Generator,
    leads: Sequence[Block],
    usable: Sequence[Block],
    kind: str,
    x: Drawn,
    names: list[str],
) -> tuple[str, Drawn]:
    """Draw one of `leads` if it fits, else any block that does."""
    fitting = [b for b in usable if b.source == kind]
    for chosen in (*leads, *(fitting[int(place)] for place in rng.permutation(len(fitting)))):
        if chosen.target != kind and chosen not in leads and rng.random() < 0.4:
            continue
        try:
            y = chosen.draw(d, x)
        except Unfit:
            continue
        names.append(chosen.name)
        return chosen.target, y
    return kind, x


def _head(d: Drawing, kind: str, x: Drawn) -> Drawn:
    """Read all channels into a few outputs, so that everything before can be cut."""
    if kind == "map":
        return d.conv(x, 3, 1)
    return d.linear(x, 3)
