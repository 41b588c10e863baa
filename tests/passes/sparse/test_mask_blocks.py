"""Masks over whole models: what is zero, what moved, and that moving changes nothing."""

from typing import Any, cast

import numpy as np
import pytest

from graphrewrite.dims import groups
from graphrewrite.errors import InvalidConfig, VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.inline import inlined
from graphrewrite.passes.sparse import mask_blocks
from graphrewrite.passes.sparse.layers import layers_of
from graphrewrite.passes.sparse.mask_blocks import MaskBlocks, sparsities
from graphrewrite.passes.sparse.masks.magnitude import Magnitude
from graphrewrite.passes.sparse.masks.one_by_n import OneByN
from graphrewrite.passes.sparse.rearrange import Orders, movable, put
from graphrewrite.pipeline import Context, Pipeline
from tests.support.graphs import random_model
from tests.support.oracles import run_all, worlds


def residual() -> Model:
    """Two residual layers, a depthwise one, a concatenation, a flatten: everything a channel may pass."""
    b = Builder(seed=5)
    x = b.input(["N", 3, 6, 6], "x")
    stem = b.relu(b.batchnorm(b.conv(x, out=16, into=3, name="stem", bias=False), 16))
    inner = b.relu(b.conv(stem, out=12, into=16, name="inner"))
    deep = b.relu(b.op("Conv", inner, b.weight(12, 1, 3, 3, name="deep"), group=12, pads=[1, 1, 1, 1]))
    joined = b.add(stem, b.conv(deep, out=16, into=12, name="back"))
    both = b.concat(joined, b.conv(joined, out=8, into=16, name="side"))
    flat = b.op("Flatten", both, axis=1)
    return b.model(b.linear(flat, out=5, into=24 * 36, name="head"))


def checked(model: Model, step: MaskBlocks) -> Model:
    return Pipeline((step,)).run(model, Context()).model


def test_the_asked_share_is_zero_and_the_ends_stay() -> None:
    after = sparsities(checked(residual(), MaskBlocks(OneByN(4), 0.75)))
    assert {n: round(s, 2) for n, s in after.items() if s} == {"inner": 0.75, "back": 0.75, "side": 0.75}


def test_ends_and_skip() -> None:
    after = sparsities(checked(residual(), MaskBlocks(OneByN(4), 0.5, ends=True, skip=("ba*",))))
    assert after["head"] == pytest.approx(0.5, abs=0.2) and after["stem"] == 0.5 and after["back"] == 0


def test_strong_filters_become_neighbours() -> None:
    """Rows of unequal strength: sorted, blocks of four keep more of the mass."""
    model = residual()
    rng = np.random.default_rng(0)
    for name in (layer.weight for layer in layers_of(model) if layer.name in ("inner", "back")):
        weight = model.weights[name]
        model.weights[name] = (
            weight.astype(np.float64) * rng.gamma(0.5, size=(len(weight), 1, 1, 1))
        ).astype(np.float32)
    for name in ("inner", "back"):
        assert kept_mass(model, True, name) > kept_mass(model, False, name)


def kept_mass(model: Model, rearrange: bool, layer: str) -> float:
    step = MaskBlocks(OneByN(4), 0.5, rearrange=rearrange)
    told = cast(Any, Pipeline((step,)).run(model, Context()).report.steps[0].details)
    return float(told["layers"][layer]["kept_mass"])


@pytest.mark.parametrize("seed", range(30))
def test_any_order_of_movable_channels_changes_no_output(seed: int) -> None:
    """Random graphs, random orders of every group that is said to be movable, one after the other."""
    model = inlined(random_model(seed).model)
    found = groups(model)
    rng = np.random.default_rng(seed)
    orders = {n: rng.permutation(found.groups[n].units) for n, why in movable(found).items() if not why}
    plain = found.analysis.model
    moved = plain.clone()
    put(moved, Orders(found, orders).of(moved.weights))
    feeds = worlds(plain, seed)
    for before, after in zip(run_all(plain, feeds), run_all(moved, feeds), strict=True):
        for name, wanted in before.items():
            off = np.abs(after[name].astype(np.float64) - wanted.astype(np.float64)).max(initial=0)
            assert off <= 1e-4 * max(np.abs(wanted.astype(np.float64)).max(initial=0), 1e-20), name


def test_most_channels_of_plain_nets_may_move() -> None:
    assert [why for why in movable(groups(residual())).values() if why] == []


def test_channels_that_meet_groups_or_neighbours_stay() -> None:
    b = Builder(seed=1)
    x = b.input(["N", 3, 6, 6], "x")
    one = b.conv(x, out=8, into=3, name="one")
    grouped = b.op("Conv", one, b.weight(8, 4, 3, 3, name="grouped"), group=2, pads=[1, 1, 1, 1])
    ranked = b.op("LRN", b.conv(grouped, out=8, into=8, name="two"), size=3)
    why = movable(groups(b.model(b.conv(ranked, out=2, into=8, name="last"))))
    assert why and all(why.values())


def test_a_wrong_order_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim fails when the biases, norms and the head of moved channels are forgotten."""
    right = Orders.of

    def forgetful(self: Orders, weights: object) -> dict[str, np.ndarray]:
        return {n: w for n, w in right(self, weights).items() if w.ndim > 2}  # type: ignore[arg-type]

    monkeypatch.setattr(Orders, "of", forgetful)
    with pytest.raises(VerificationError):
        checked(residual(), MaskBlocks(OneByN(4), 0.5))


def test_unstructured_masks_move_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_blocks, "groups", lambda model: pytest.fail("nothing to sort"))
    after = checked(residual(), MaskBlocks(Magnitude(), 0.5))
    assert sparsities(after)["inner"] == pytest.approx(0.5, abs=0.01)


def test_nothing_to_mask_is_said() -> None:
    b = Builder()
    result = Pipeline((MaskBlocks(),)).run(b.model(b.relu(b.input(["N", 4], "x"))), Context())
    assert not result.changed


def test_weights_that_no_mask_reaches_are_told_of() -> None:
    b = Builder(opset=18)
    x = b.input(["T", "N", 8], "x")
    (states,) = b.op_all(
        "GRU", x, b.weight(1, 12, 8), b.weight(1, 12, 4), outputs=1, name="cell", hidden_size=4
    )
    image = b.conv(b.input(["N", 4, 4, 4], "image"), out=4, into=4, group=4, name="depthwise")
    image = b.op("ConvTranspose", b.conv(image, out=2, into=4, name="plain"), b.weight(2, 3, 2, 2), name="up")
    result = Pipeline([MaskBlocks(OneByN(2), 0.5)]).run(b.model(states, image))

    why = {note.subject: note.text for note in result.notes if note.kind == "skipped"}
    assert "write_out_gates" in why["cell"] and "depthwise" in why["depthwise"] and "transposed" in why["up"]
    assert "plain" not in why and "plain" in result.report.steps[0].details["layers"]  # type: ignore[operator]


def test_impossible_options() -> None:
    with pytest.raises(InvalidConfig, match=r"\[0, 1\)"):
        MaskBlocks(sparsity=1.0)
    with pytest.raises(InvalidConfig, match="names no layer"):
        MaskBlocks(skip=("nobody",)).run(residual(), Context())
