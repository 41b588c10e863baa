"""1xN from a dense model to the operators that skip the blocks, with training in between."""

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.recipes.one_by_n import PruneOneByN
from graphrewrite.pipeline import Context, Pipeline

RNG = np.random.default_rng(0)
IMAGES = ArraySource({"x": RNG.standard_normal((32, 3, 6, 6)).astype(np.float32)}, RNG.integers(0, 4, 32))


def net() -> Model:
    """A residual net with norms; `inner` and `back` are neither first nor last."""
    b = Builder(seed=5)
    x = b.relu(b.batchnorm(b.conv(b.input(["N", 3, 6, 6], "x"), 16, 3, name="stem", bias=False), 16))
    inner = b.relu(b.batchnorm(b.conv(x, 16, 16, name="inner", bias=False), 16))
    joined = b.add(x, b.conv(inner, 16, 16, name="back"))
    return b.model(b.linear(b.op("Flatten", b.op("GlobalAveragePool", joined)), 4, 16, name="head"))


def test_it_masks_trains_folds_and_lowers() -> None:
    step = PruneOneByN(4, 0.75, epochs=1, batch=16, when="always")

    result = Pipeline([step]).run(net(), Context(data=IMAGES))

    done = [part.name for part in result.report.steps]
    assert done == ["mask_blocks", "train_sparse", "tidy", "lower_block_sparse"]
    sparse = result.model.nodes("BlockSparseConv")
    assert len(sparse) == 2  # all but the first and the last layer
    assert not result.model.nodes("BatchNormalization")
    # 16 of the 64 blocks of each layer are left, each of 4 outputs with 9 taps, however wide packed blocks are.
    for node in sparse:
        numbers = result.model.weights[node.inputs[1].name]
        assert np.count_nonzero(numbers) == 16 * 4 * 9


def test_impossible_options() -> None:
    with pytest.raises(InvalidConfig, match="N = 0"):
        PruneOneByN(n=0)
    with pytest.raises(InvalidConfig, match=r"\[0, 1\)"):
        PruneOneByN(sparsity=1.0)
