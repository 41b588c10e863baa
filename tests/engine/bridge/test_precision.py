"""Half-precision weights are trained in float32 and come back in their own type."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge import GraphModule, Optimiser, Stage, finetune
from graphrewrite.bridge.precision import widen
from graphrewrite.bridge.schedules import Constant
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.losses.mse import Mse
from tests.engine.bridge.train.digits import brief, same

WIDE = 8
FEED = np.random.default_rng(0).standard_normal((32, WIDE))


def halved(dtype: object = np.float16) -> Model:
    """Return a layer of half precision between casts."""
    b = Builder(seed=0)
    x = b.op("Cast", b.input(["N", WIDE], "x"), to=10 if dtype is np.float16 else 16)
    weight = b.constant(b.rng.standard_normal((WIDE, 1)).astype(np.float16), "weight")
    return b.model(b.op("Cast", b.op("MatMul", x, weight), to=1))


def test_widening_changes_nothing_that_is_computed() -> None:
    plain, wide = GraphModule(halved()), GraphModule(halved())
    assert widen(wide) == ["weight"] and wide.weight_named("weight").dtype == torch.float32
    x = torch.from_numpy(FEED.astype(np.float32))
    assert torch.equal(plain(x), wide(x))
    assert same(wide.write_back(), halved())
    assert widen(wide) == []


def test_steps_below_the_rounding_add_up() -> None:
    # Each step moves a weight by the rate times a sign: 2^-14, an eighth of a half-precision unit near 1 and below.
    model = halved()
    start = model.weights["weight"].astype(np.float64)
    far = np.abs(start) > 0.6
    recipe = brief(
        Stage(64, 2.0**-14, (Mse(),), Constant()), batch=32, optimiser=Optimiser("Adam", {"eps": 1e-30})
    )
    targets = (FEED @ (start + np.sign(start))).astype(np.float32)
    found = finetune(model, recipe, {"x": FEED.astype(np.float32)}, labels=targets).weights["weight"]
    assert found.dtype == np.float16 and far.sum() >= 2
    moved = np.abs(found.astype(np.float64) - start)[far]
    assert moved == pytest.approx(64 * 2.0**-14, rel=0.3)
