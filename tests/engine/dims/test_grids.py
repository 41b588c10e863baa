"""Assignment to a slice, written as ScatterND over a grid of places: axes the grid covers from end to end may lose."""

from collections.abc import Sequence

import numpy as np
import pytest

from graphrewrite.dims import groups
from graphrewrite.dims.rules import index
from tests.engine.dims.cases import Case, Cases, demand, prove
from tests.support.drawing import Drawing, Drawn

cases = Cases()


def head(d: Drawing, x: Drawn) -> Drawn:
    return d.matmul(x, d.floats(x.size(-1), 3, name="last"))


def layers(d: Drawing) -> tuple[Drawn, Drawn]:
    """Two layers of five channels on [batch, 4 tokens, 4]."""
    x = d.input(2, 4, 4)
    return d.matmul(x, d.floats(4, 5, name="w")), d.matmul(x, d.floats(4, 5, name="u"))


def rows_of_batch(d: Drawing, x: Drawn) -> Drawn:
    """0, 1, ... for each sample, as a column before tokens and channels."""
    shape = d.op("Shape", x, shape=(len(x.shape),))
    count = d.op("Gather", shape, d.const(np.int64(0)), shape=(), axis=0)
    rows = d.op("Range", d.const(np.int64(0)), count, d.const(np.int64(1)), shape=(x.shape[0],))
    return d.reshape(rows, x.shape[0], 1, 1)


def written(d: Drawing, tokens: Sequence[int], channels: Sequence[int]) -> Drawn:
    """Tokens of one layer are overwritten by the first ones of another, as torch's TorchScript exporter writes it."""
    y, z = layers(d)
    piece = d.slice(z, 1, 0, len(tokens))
    columns = [
        rows_of_batch(d, y),
        d.const(np.asarray(tokens, np.int64)[:, None]),
        d.const(np.asarray(channels, np.int64)),
    ]
    parts = [d.unsqueeze(d.expand(column, piece, (len(tokens), 5)), 3) for column in columns]
    return head(d, d.op("ScatterND", y, d.concat(*parts, axis=3), piece, shape=y.shape))


@cases.add("5: last[0] u[1] w[1]", opsets=(13, 18))
def a_window_of_tokens_over_all_channels(d: Drawing) -> Drawn:
    return written(d, [1, 2], range(5))


@cases.add("5: last[0] u[1] w[1]", opsets=(13,))
def tokens_backwards_with_gaps(d: Drawing) -> Drawn:
    return written(d, [3, 1], range(5))


@cases.add(pins={"w[1]": "written by number", "u[1]": "written by number"}, opsets=(13,), moves=False)
def channels_in_another_order(d: Drawing) -> Drawn:
    return written(d, [1, 2], [1, 0, 2, 3, 4])


@cases.add("5: last[0] u[1] w[1]", opsets=(13,), symbolic=[False])
def a_grid_that_was_folded(d: Drawing) -> Drawn:
    """Every place as one constant, tokens 1 and 2 of both samples."""
    y, z = layers(d)
    places = np.stack(np.meshgrid(np.arange(2), [1, 2], np.arange(5), indexing="ij"), axis=-1)
    piece = d.slice(z, 1, 0, 2)
    return head(d, d.op("ScatterND", y, d.const(places), piece, shape=y.shape))


@cases.add(pins={"w[1]": "written by number"}, opsets=(13,), symbolic=[False], moves=False)
def channels_that_hang_on_the_token(d: Drawing) -> Drawn:
    """The second token is written backwards: no axis of the grid is a channel's alone."""
    y, z = layers(d)
    places = np.stack(np.meshgrid(np.arange(2), [1, 2], np.arange(5), indexing="ij"), axis=-1)
    places[:, 1, :, 2] = np.arange(5)[::-1]
    piece = d.slice(z, 1, 0, 2)
    return head(d, d.op("ScatterND", y, d.const(places), piece, shape=y.shape))


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)


def test_a_grid_taken_for_whole_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every axis called covered, the reordered channels come out at wrong places, or nowhere."""
    monkeypatch.setattr(index, "whole_axes", lambda info, tensor, sizes: set(range(len(sizes))))
    model = cases.named("channels-in-another-order").model()
    with pytest.raises(AssertionError):
        prove(model, groups(model))
