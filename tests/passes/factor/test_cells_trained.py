"""Factored gates through a training: every factor learns under its own name, and the lowered loop computes the same."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")

from graphrewrite.bridge import Recipe, Stage, finetune
from graphrewrite.bridge.weights import stored
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.factor import FactorCells, LowerWavelet
from graphrewrite.passes.factor.factorizations.wavelet import Wavelet
from graphrewrite.passes.losses.mse import Mse
from graphrewrite.passes.losses.wavelet import WaveletFilters
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run

HIDDEN = 12


def net(op: str) -> Model:
    """Return a layer over samples [N, T, 3] that runs both ways; what its states end as, [N, 2 HIDDEN]."""
    b = Builder(opset=17, seed=4)
    gates = {"GRU": 3, "LSTM": 4}[op]
    x = b.op("Transpose", b.input(["N", "T", 3], "x"), perm=[1, 0, 2])
    weights = (
        b.weight(2, gates * HIDDEN, 3),
        b.weight(2, gates * HIDDEN, HIDDEN),
        b.weight(2, 2 * gates * HIDDEN),
    )
    attrs = {"hidden_size": HIDDEN, "direction": "bidirectional"}
    _, last = b.op_all(op, x, *weights, outputs=2, name="cell", domain=None, **attrs)
    last = b.op("Transpose", last, perm=[1, 0, 2])
    return b.model(b.op("Reshape", last, b.constant(np.array([-1, 2 * HIDDEN]))))


@pytest.mark.parametrize("op", ["GRU", "LSTM"])
def test_factors_learn_and_go_back_into_the_loop(op: str) -> None:
    step = FactorCells(Wavelet(levels=2, permutation="random", diagonals="ones"), "full", smallest=0)
    start = Pipeline([step]).run(net(op), Context(seed=1)).model
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 4, 3)).astype(np.float32)
    recipe = Recipe((Stage(1, 0.01, (Mse(), WaveletFilters())),), batch=4)

    wanted = rng.standard_normal((8, 2 * HIDDEN)).astype(np.float32)
    trained = finetune(start, recipe, {"x": x}, labels=wanted, progress=lambda *_: None)

    before, after = stored(start), stored(trained)
    factors = [name for name in before if name.startswith("cell.state.")]
    assert (
        len(factors) == 5 * 2 * {"GRU": 3, "LSTM": 4}[op]
    )  # two ways, three diagonals and two pairs of filters
    assert all(not np.array_equal(before[name].array, after[name].array) for name in factors)
    lowered = Pipeline([LowerWavelet()]).run(trained)
    assert lowered.report.steps[0].verified.how == "same"
    loops = [node.attrs["body"].nodes for node in lowered.model.nodes("Scan")]
    assert sum(node.op == "WaveletLinear" for nodes in loops for node in nodes) == len(factors) // 5
    (one,), (two,) = (run(model, {"x": x}).values() for model in (trained, lowered.model))
    np.testing.assert_allclose(np.asarray(one), np.asarray(two), atol=1e-5)
