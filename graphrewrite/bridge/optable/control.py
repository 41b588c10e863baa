"""If, Loop and Scan: bodies that are modules of their own, run by Python."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx, nn

from graphrewrite.bridge.forms import lowers
from graphrewrite.bridge.host import Numbers, single
from graphrewrite.bridge.numbers import tensor_of
from graphrewrite.bridge.site import BodyOf, Site
from graphrewrite.bridge.value import Value
from graphrewrite.errors import UnsupportedOp

_TURN, _GOING = np.dtype(np.int64), np.dtype(bool)


@dataclass(frozen=True)
class Rows:
    """One output that collects something from every round.

    Attributes:
        dtype: its element type, None when it is not known.
        sizes: sizes of what a round gives; unknown ones are None.
        axis: where the rounds are counted.
        backwards: whether the last round comes first.
    """

    dtype: torch.dtype | None
    sizes: tuple[int | None, ...] | None
    axis: int = 0
    backwards: bool = False

    def joined(self, made: Sequence[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
        """Stack what the rounds gave; without any, sizes that nobody declared are 0.

        Raises:
            UnsupportedOp: there was no round, and nobody declared the type or rank.
        """
        if made:
            return torch.stack(tuple(made)[::-1] if self.backwards else tuple(made), self.axis)
        if self.dtype is None or self.sizes is None:
            raise UnsupportedOp(
                "a Loop or Scan without a single round makes an output of unknown type or rank; expected that the body "
                "declares it; run shape inference on the model, or feed inputs that give a round"
            )
        sizes = [size or 0 for size in self.sizes]
        sizes.insert(self.axis % (len(sizes) + 1), 0)
        return torch.zeros(sizes, dtype=self.dtype, device=like.device)


def _rows(body: BodyOf, first: int, axes: Sequence[int] = (), backwards: Sequence[int] = ()) -> list[Rows]:
    """Describe the outputs of a body from `first` on."""
    return [
        Rows(
            None if kind is None else tensor_of(np.zeros(0, kind)).dtype,
            sizes,
            axes[i] if i < len(axes) else 0,
            bool(backwards[i]) if i < len(backwards) else False,
        )
        for i, (kind, sizes) in enumerate(body.outputs[first:])
    ]


class Branches(nn.Module):
    """Two bodies, of which a condition chooses one in each run.

    Args:
        then_branch: runs when the condition holds.
        else_branch: runs otherwise.
        split: how many of the captured tensors belong to the first.
    """

    def __init__(self, then_branch: nn.Module, else_branch: nn.Module, split: int) -> None:
        super().__init__()
        self.then_branch = then_branch
        self.else_branch = else_branch
        self.split = split

    def forward(self, condition: Numbers, *captured: object) -> tuple[object, ...]:
        """Return the outputs of the branch."""
        if single(condition):
            made: tuple[object, ...] = self.then_branch(*captured[: self.split])
        else:
            made = self.else_branch(*captured[self.split :])
        return made


@lowers("If", host=(0,))
def choose(site: Site) -> list[fx.Node] | list[Value]:
    """Write the branch that is taken where that is settled, a choice while running otherwise."""
    condition = site.numbers(0)
    if condition is not None and not isinstance(condition, fx.Node):
        return site.branch("then_branch" if single(condition) else "else_branch")
    one, two = site.body("then_branch"), site.body("else_branch")
    module = Branches(one.module, two.module, len(one.captured))
    made = site.module(module, condition, *one.captured, *two.captured)
    return [site.item(made, i) for i in range(site.outputs)]


class Looping(nn.Module):
    """A body run again and again, its first outputs being the next round's inputs.

    Args:
        body: takes the number of the round and whether it goes on, as numbers, then what is carried and captured.
        carried: how many values go from round to round.
        rows: the outputs that collect something from every round.
    """

    def __init__(self, body: nn.Module, carried: int, rows: Sequence[Rows]) -> None:
        super().__init__()
        self.body = body
        self.carried = carried
        self.rows = tuple(rows)

    def forward(
        self, limit: Numbers | None, condition: Numbers | None, like: torch.Tensor, *values: object
    ) -> tuple[object, ...]:
        """Return what is carried at the end, then the collected outputs."""
        state, captured = values[: self.carried], values[self.carried :]
        last = None if limit is None else single(limit)
        going = True if condition is None else bool(single(condition))
        made: list[list[torch.Tensor]] = [[] for _ in self.rows]
        turn = 0
        while going and (last is None or turn < last):
            goes_on, *found = self.body(turn, going, *state, *captured)
            state = tuple(found[: self.carried])
            for row, entry in zip(made, found[self.carried :], strict=True):
                row.append(entry)
            going = bool(single(goes_on))
            turn += 1
        return (*state, *(rows.joined(row, like) for rows, row in zip(self.rows, made, strict=True)))


@lowers("Loop", host=(0, 1))
def loop(site: Site) -> list[fx.Node]:
    """Write the call of a loop; trip count and condition go in and out of the body as numbers."""
    body = site.body("body", given=(_TURN, _GOING), told=1)
    carried = [site.tensor(slot) for slot in range(2, len(site.inputs))]
    module = Looping(body.module, len(carried), _rows(body, 1 + len(carried)))
    made = site.module(module, site.numbers(0), site.numbers(1), site.like, *carried, *body.captured)
    return [site.item(made, i) for i in range(site.outputs)]


class Scanning(nn.Module):
    """A body run along an axis of some tensors.

    Args:
        body: takes the state, a slice of each tensor, then what is captured.
        states: how many values go from round to round.
        inputs: axis of each tensor, and whether it is read backwards.
        rows: the outputs that collect something from every round.
    """

    def __init__(
        self, body: nn.Module, states: int, inputs: Sequence[tuple[int, bool]], rows: Sequence[Rows]
    ) -> None:
        super().__init__()
        self.body = body
        self.states = states
        self.inputs = tuple(inputs)
        self.rows = tuple(rows)

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the last state, then the collected outputs."""
        state, along = values[: self.states], values[self.states : self.states + len(self.inputs)]
        captured = values[self.states + len(self.inputs) :]
        slices = [
            tensor.unbind(axis)[:: -1 if backwards else 1]
            for tensor, (axis, backwards) in zip(along, self.inputs, strict=True)
        ]
        made: list[list[torch.Tensor]] = [[] for _ in self.rows]
        for entries in zip(*slices, strict=True):
            found = self.body(*state, *entries, *captured)
            state = tuple(found[: self.states])
            for row, entry in zip(made, found[self.states :], strict=True):
                row.append(entry)
        joined = (rows.joined(row, along[0]) for rows, row in zip(self.rows, made, strict=True))
        return (*state, *joined)


class ScanningEach(Scanning):
    """The scan of operator set 8: each sample of a batch by itself, as far as its sequence goes."""

    def forward(self, lengths: Numbers | None, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return states and outputs with the batch in front; outputs behind a sequence's end are zeros."""
        own = self.states + len(self.inputs)
        steps = values[self.states].shape[1]
        made = []
        for sample in range(values[self.states].shape[0]):
            length = steps if lengths is None else _length(lengths, sample)
            states = [value[sample] for value in values[: self.states]]
            along = [value[sample][:length] for value in values[self.states : own]]
            found = super().forward(*states, *along, *values[own:])
            padded = [_filled_up(value, steps - length) for value in found[self.states :]]
            made.append((*found[: self.states], *padded))
        return tuple(torch.stack(column) for column in zip(*made, strict=True))


def _length(lengths: Numbers, sample: int) -> int:
    assert isinstance(lengths, tuple)
    return lengths[sample]


def _filled_up(value: torch.Tensor, missing: int) -> torch.Tensor:
    if not missing:
        return value
    return torch.cat([value, value.new_zeros((missing, *value.shape[1:]))])


@lowers("Scan", since=8, host=(0,))
def scan_batch(site: Site) -> list[fx.Node]:
    """Write the scan of a batch."""
    body = site.body("body")
    given = [site.tensor(slot) for slot in range(1, len(site.inputs))]
    count = site.integer("num_scan_inputs", 1)
    backwards = site.integers("directions", (0,) * count)
    states = len(given) - count
    module = ScanningEach(body.module, states, [(0, bool(flag)) for flag in backwards], _rows(body, states))
    made = site.module(module, site.numbers(0), *given, *body.captured)
    return [site.item(made, i) for i in range(site.outputs)]


@lowers("Scan", since=9)
def scan(site: Site) -> list[fx.Node]:
    """Write a scan along an axis of each tensor."""
    body = site.body("body")
    given = [site.tensor(slot) for slot in range(len(site.inputs))]
    count = site.integer("num_scan_inputs", 1)
    axes = site.integers("scan_input_axes", (0,) * count)
    backwards = site.integers("scan_input_directions", (0,) * count)
    states = len(given) - count
    rows = _rows(body, states, site.integers("scan_output_axes"), site.integers("scan_output_directions"))
    inputs = [(axis, bool(flag)) for axis, flag in zip(axes, backwards, strict=True)]
    made = site.module(Scanning(body.module, states, inputs, rows), *given, *body.captured)
    return [site.item(made, i) for i in range(site.outputs)]
