"""Quantised models on the oldest and on the newest supported onnxruntime: the same kernels, the same numbers."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphrewrite.ir import Model
from graphrewrite.passes.quant import InsertQdq
from graphrewrite.runtime import run
from tests.custom_ops.runtimes.installed import OLDEST, runtime
from tests.passes.quant.nets import context, net, only, quantised

pytestmark = pytest.mark.slow
SERVED = Path(__file__).with_name("served.py")
STEPS = {
    "eight": InsertQdq(),
    "four": InsertQdq(weight_bits=4),
    "three": InsertQdq(weight_bits=3),
    "ternary": InsertQdq(weight_bits=2),
    "two": InsertQdq(weight_bits=2, even_levels=True),
    "wide": InsertQdq(wide=("six", "hidden")),
    "sixteen": InsertQdq(activations="uint16"),
}


@pytest.mark.parametrize("release", [OLDEST, "newest"])
def test_weights_of_few_bits_are_integers_once_they_are_loaded(release: str, tmp_path: Path) -> None:
    around = context()
    assert around.data is not None
    feeds = next(around.data.batches(8))
    made: dict[str, Model] = {name: quantised(net(), step, around).model for name, step in STEPS.items()}
    for name, model in made.items():
        model.save(tmp_path / f"{name}.onnx")
        np.savez(tmp_path / f"{name}.npz", allow_pickle=False, **feeds)

    runtime(release).python(SERVED, str(tmp_path))

    served = {
        name: Counter(node.op_type for node in onnx.load(tmp_path / f"{name}.served").graph.node)
        for name in made
    }
    assert served["eight"]["QLinearConv"] == 6 and served["eight"]["QGemm"] == 1
    for name in ("four", "three", "ternary", "two"):
        assert served[name] == served["eight"]
    assert served["wide"]["QLinearConv"] == 5 and not served["wide"]["Cast"]
    for name, model in made.items():
        plain = only(run(model, feeds))
        found = np.load(tmp_path / f"{name}.npy")
        assert np.abs(found - plain).max() < 0.03 * np.abs(plain).max(), name
