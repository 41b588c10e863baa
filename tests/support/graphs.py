"""Random graphs over everything the dimension analysis claims to know, each from one seed.

`random_model(seed)` chains blocks (tests/support/blocks_*.py) that fit each other, in one of many operator sets, with a
symbolic or a fixed batch (and length), constants as initializers or as nodes, shapes as numbers or computed, and one or
more outputs. Blocks are joined to earlier ones at random (sums, products, concatenations), so that what
one of them ties meets what another ties.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import tests.support.blocks_along
import tests.support.blocks_attention
import tests.support.blocks_flat
import tests.support.blocks_functions
import tests.support.blocks_fused
import tests.support.blocks_groups
import tests.support.blocks_map
import tests.support.blocks_map_norms
import tests.support.blocks_mixture
import tests.support.blocks_moves
import tests.support.blocks_seq
import tests.support.blocks_space
import tests.support.blocks_steps
from graphrewrite.ir import Model
from graphrewrite.ir.edit import drop_unused
from tests.support.blocks import Block, blocks
from tests.support.drawing import Drawing, Drawn, Shape, Style, Unfit
from tests.support.verdict import declare

FAMILIES = (
    tests.support.blocks_along,
    tests.support.blocks_attention,
    tests.support.blocks_flat,
    tests.support.blocks_functions,
    tests.support.blocks_fused,
    tests.support.blocks_groups,
    tests.support.blocks_map,
    tests.support.blocks_map_norms,
    tests.support.blocks_mixture,
    tests.support.blocks_moves,
    tests.support.blocks_seq,
    tests.support.blocks_space,
    tests.support.blocks_steps,
)
OPSETS = (11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24)


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
    """Draw the model of a seed; every block gets the first try in one of len(blocks) models in a row."""
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
            bool(rng.random() < 0.15),
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
        if rng.random() < 0.5:
            x = _joined(d, rng, kind, x, passed)
        passed.append((kind, x))
    outputs = [_head(d, kind, x)]
    if rng.random() < 0.2:
        outputs.append(_head(d, *passed[int(rng.integers(len(passed)))]))
    model = d.model(*outputs)
    drop_unused(model.graph)
    if rng.random() < 0.4:
        declare(model, float(rng.choice([0.5, 1.0])), seed)
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
    if d.style.symbolic and d.style.dynamic_time:
        ids = d.declared(("N", "T"), np.int64)
    table = d.floats(words, c, scale=1.0)
    d.tables.append(table)
    return "seq", d.op("Gather", table, ids, shape=(*ids.shape, c))


def _input(d: Drawing, kind: str, rng: np.random.Generator) -> Drawn:
    if kind == "map":
        side = int(rng.choice([5, 6, 8]))
        x = d.input(2, 3, side, side)
        return d.conv(x, int(rng.choice([4, 6, 8])))
    if kind == "seq":
        sizes = 2, int(rng.choice([4, 5, 9])), int(rng.choice([5, 6]))
        dynamic = d.style.symbolic and d.style.dynamic_time
        x = d.declared(("N", "T", sizes[2])) if dynamic else d.input(*sizes)
        return d.linear(x, int(rng.choice([4, 6, 8])))
    if kind == "line":
        return d.conv(d.input(2, 3, int(rng.choice([5, 6, 8]))), int(rng.choice([4, 6, 8])))
    if kind == "volume":
        return d.conv(d.input(2, 2, 2, 4, 4), int(rng.choice([4, 6])))
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


def _joined(
    d: Drawing, rng: np.random.Generator, kind: str, x: Drawn, passed: Sequence[tuple[str, Drawn]]
) -> Drawn:
    """Join with an earlier tensor of the same kind: as it is, projected to the same channels, or side by side."""
    here = len(x.shape) - 1 if kind == "seq" else 1
    options = [
        old
        for name, old in passed
        if name == kind and old is not x and _without(old.shape, here) == _without(x.shape, here)
    ]
    if not options:
        return x
    old = options[int(rng.integers(len(options)))]
    if x.size(here) + old.size(here) <= 24 and rng.random() < 0.25:
        return d.concat(x, old, axis=here)
    if old.shape != x.shape:
        old = d.linear(old, x.size(here)) if kind in ("seq", "flat") else d.conv(old, x.size(here), 1)
    return d.binary(str(rng.choice(["Add", "Add", "Add", "Mul", "Max", "Sub"])), x, old)


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


def _head(d: Drawing, kind: str, x: Drawn) -> Drawn:
    """Read all channels into a few outputs, so that everything before can be cut; through an embedding at times."""
    if kind in ("map", "line", "volume"):
        return d.conv(x, 3, 1)
    tied = next((table for table in d.tables if table.shape[1] == x.shape[-1]), None)
    if tied is not None and d.chance(0.5):
        return d.matmul(x, d.transpose(tied, 1, 0))
    return d.linear(x, 3)
