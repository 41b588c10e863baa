"""Which blocks stay because a pattern names them, or something in them."""

from collections.abc import Sequence
from typing import NamedTuple

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.blocks.block import Blocks
from graphrewrite.passes.patterns import matching


class Skipped(NamedTuple):
    """Block number -> why it stays, and patterns that name nothing in any block."""

    blocks: dict[int, str]
    idle: tuple[str, ...]


def skipped(found: Blocks, patterns: Sequence[str]) -> Skipped:
    """Return the blocks that patterns name: by their own name, or by a node, weight or activation in them.

    In a pattern `*` stands for any text; all else stands for itself.

    Raises:
        InvalidConfig: a pattern names nothing in the model.
    """
    if not patterns:
        return Skipped({}, ())
    places: dict[str, set[int]] = {}
    for number, block in enumerate(found):
        for name in (block.name, *block.weights):
            places.setdefault(name, set()).add(number)
        for index in block.nodes:
            node = found.flow.nodes[index]
            for name in (node.name, *(tensor.name for tensor in node.outputs)):
                places.setdefault(name, set()).add(number)
    everywhere = {name for node in found.flow.nodes for name in (node.name, *(t.name for t in node.outputs))}
    everywhere |= {tensor.name for node in found.flow.nodes for tensor in node.inputs} | places.keys()
    names = sorted(everywhere - {""})
    blocks: dict[int, str] = {}
    idle = []
    for pattern in patterns:
        named = matching(pattern, names)
        if not named:
            raise InvalidConfig(
                f"the skip pattern {pattern!r} names no node, tensor or block of this model; expected one that does; "
                "block names are those of the sums they end in, see `details` of a run"
            )
        numbers = {number for name in named for number in places.get(name, ())}
        for number in sorted(numbers):
            blocks.setdefault(number, f"named by the skip pattern {pattern!r}")
        if not numbers:
            idle.append(pattern)
    return Skipped(blocks, tuple(idle))
