"""Sequences, which are lists of tensors here, and optionals, which are None when they are empty."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import fx, nn

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.host import Numbers, single
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.value import Value
from graphrewrite.errors import InvalidData


@op("SequenceConstruct", since=11)
def construct(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Put tensors into a list."""
    return list(tensors)


@op("SequenceEmpty", since=11, ignores=("dtype",))
def empty() -> list[torch.Tensor]:
    """Return an empty list; what it may hold makes no difference."""
    return []


@op("SequenceAt", since=11, host=("position",))
def at(sequence: Sequence[torch.Tensor], position: Numbers) -> torch.Tensor:
    """Return one entry; a negative position counts from the end."""
    return sequence[single(position)]


@op("SequenceInsert", since=11, host=("position",))
def insert(
    sequence: Sequence[torch.Tensor], tensor: torch.Tensor, position: Numbers | None = None
) -> list[torch.Tensor]:
    """Return a longer list; without a position the tensor goes to the end."""
    place = len(sequence) if position is None else single(position)
    return [*sequence[:place], tensor, *sequence[place:]]


@op("SequenceErase", since=11, host=("position",))
def erase(sequence: Sequence[torch.Tensor], position: Numbers | None = None) -> list[torch.Tensor]:
    """Return a list without one entry, by default the last."""
    left = list(sequence)
    del left[-1 if position is None else single(position)]
    return left


@lowers("SequenceLength", since=11, gradient=False)
def length(site: Site) -> Value:
    """Write the length as a number that graphs may compute sizes with."""
    return Value("", numbers=site.call(len, site.tensor(0)), rank=0)


@op("SplitToSequence", since=11, host=("split",))
def split_to_sequence(
    x: torch.Tensor, split: Numbers | None = None, *, axis: int = 0, keepdims: int = 1
) -> list[torch.Tensor]:
    """Cut into slices of one (whose axis may be dropped), of an equal size, or of several sizes."""
    if split is None:
        return list(torch.split(x, 1, axis) if keepdims else torch.unbind(x, axis))
    return list(torch.split(x, list(split) if isinstance(split, tuple) else split, axis))


@op("ConcatFromSequence", since=11)
def concat_from_sequence(sequence: Sequence[torch.Tensor], *, axis: int, new_axis: int = 0) -> torch.Tensor:
    """Join the entries along an axis, or along one of their own."""
    return torch.stack(list(sequence), axis) if new_axis else torch.cat(list(sequence), axis)


class Mapping(nn.Module):
    """A body run on each entry of sequences.

    Args:
        body: the body.
        inputs: how many inputs the node has; sequences give an entry, tensors stay.
        outputs: how many sequences come out.
    """

    def __init__(self, body: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = body
        self.inputs = inputs
        self.outputs = outputs

    def forward(self, *values: object) -> tuple[list[torch.Tensor], ...]:
        """Return a list for each output of the body."""
        given, captured = values[: self.inputs], values[self.inputs :]
        first = given[0]
        assert isinstance(first, (list, tuple))
        found: tuple[list[torch.Tensor], ...] = tuple([] for _ in range(self.outputs))
        for i in range(len(first)):
            entries = [value[i] if isinstance(value, (list, tuple)) else value for value in given]
            for made, kept in zip(self.body(*entries, *captured), found, strict=True):
                kept.append(made)
        return found


@lowers("SequenceMap", since=17)
def sequence_map(site: Site) -> list[fx.Node]:
    """Write the call of a body on all entries."""
    body = site.body("body")
    given = [site.tensor(slot) for slot in range(len(site.inputs))]
    made = site.module(Mapping(body.module, len(given), len(body.outputs)), *given, *body.captured)
    return [site.item(made, i) for i in range(site.outputs)]


@op("Optional", since=15, ignores=("type",))
def optional(value: object = None) -> object:
    """Return the value itself; an optional without one is None."""
    return value


@op("OptionalGetElement", since=15)
def get_element(value: object) -> object:
    """Return what an optional holds.

    Raises:
        InvalidData: it holds nothing.
    """
    if value is None:
        raise InvalidData(
            "an empty optional was asked for its element; expected one that holds a tensor or sequence; feed it, or "
            "have the graph ask OptionalHasElement first"
        )
    return value


@lowers("OptionalHasElement", since=15, gradient=False)
def has_element(site: Site) -> Value:
    """Write the answer as a number, so that a choice by it waits for no device."""
    if not site.has(0):
        return Value("", array=np.array(False))
    return Value("", numbers=site.call(is_there, site.tensor(0)), rank=0, kind=np.dtype(bool))


def is_there(value: object) -> bool:
    """Tell whether an optional holds something."""
    return value is not None
