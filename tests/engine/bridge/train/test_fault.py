"""Where the first number that is not finite arose: the place is named, and the last good state stays."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from graphrewrite.bridge import Checkpoints, Optimiser, Stage, finetune
from graphrewrite.bridge.schedules import Constant
from graphrewrite.data import ArraySource
from graphrewrite.errors import Diverged
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.mse import Mse
from tests.engine.bridge.train.digits import brief, net, training

POSITIVE = np.abs(np.random.default_rng(0).standard_normal((16, 4))).astype(np.float32) + 1


def rooted() -> Model:
    """Return sqrt(x) behind a mask of infinities that hurts nobody, and a layer."""
    b = Builder(seed=0)
    x = b.input(["N", 4], "x")
    shut = b.op(
        "Add", b.op("Sqrt", x, name="root"), b.constant(np.array([0, 0, 0, -np.inf], np.float32)), name="shut"
    )
    return b.model(b.linear(b.op("Softmax", shut, axis=1), 1, 4, name="last"))


def run(x: npt.NDArray[np.float32], y: npt.NDArray[np.float64]) -> None:
    data = ArraySource({"x": x.astype(np.float32)}, y.astype(np.float32))
    finetune(rooted(), brief(Stage(1, 0.01, (Mse(),)), batch=16), data)


def test_a_mask_of_infinities_is_no_fault() -> None:
    run(POSITIVE, np.zeros(16))


def test_the_node_where_it_began_is_named() -> None:
    below = POSITIVE.copy()
    below[3, 1] = -1
    with pytest.raises(Diverged, match=r"nan in step 0 .* the tensor 'root_out', which Sqrt 'root' makes"):
        run(below, np.zeros(16))


def test_a_bad_input_and_a_bad_label_are_told_apart() -> None:
    bad = POSITIVE.copy()
    bad[0, 0] = np.nan
    with pytest.raises(Diverged, match="the input 'x' holds nan"):
        run(bad, np.zeros(16))
    with pytest.raises(Diverged, match="all tensors of the model are finite, it arose in the loss Mse"):
        run(POSITIVE, np.full(16, np.inf))


def test_the_last_good_state_stays(tmp_path: Path) -> None:
    recipe = brief(Stage(9, 1e25, (CrossEntropy(),), Constant()), optimiser=Optimiser("sgd"))
    with pytest.raises(Diverged, match="finite"):
        finetune(net(), recipe, training(300), checkpoint=Checkpoints(tmp_path, every=1))
    from safetensors.numpy import load_file

    for file in tmp_path.glob("*.safetensors"):
        weights = {name: tensor for name, tensor in load_file(file).items() if name.startswith("weights/")}
        assert weights and all(np.isfinite(tensor).all() for tensor in weights.values())
