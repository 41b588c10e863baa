"""The table of blocks that random graphs are made of.

A block takes a tensor of one kind and returns one of another. Kinds: "map" is [N, C, H, W], "seq" is [N, T, C], "flat"
is [N, C]. A block that does not fit raises `Unfit`; what it had drawn by then stays in the graph, read by nobody.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.support.drawing import Drawing, Drawn

Draw = Callable[[Drawing, Drawn], Drawn]


@dataclass(frozen=True)
class Block:
    """A way to go on drawing from a tensor of kind `source`."""

    name: str
    source: str
    target: str
    draw: Draw
    since: int
    until: int


blocks: dict[str, Block] = {}


def block(source: str, target: str | None = None, since: int = 11, until: int = 99) -> Callable[[Draw], Draw]:
    """File a block for operator sets since..until."""

    def add(draw: Draw) -> Draw:
        name = f"{source}.{draw.__name__}"
        blocks[name] = Block(name, source, target or source, draw, since, until)
        return draw

    return add
