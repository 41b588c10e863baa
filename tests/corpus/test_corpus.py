"""The corpus' own bar and index: what they accept, and that they can refuse."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.corpus import (
    foreign_control,
    foreign_frameworks,
    foreign_keras,
    foreign_loops,
    foreign_nets,
    onnx_hub,
)
from tests.corpus.check import UnfitError, check, count_params, runs_at
from tests.corpus.index import INDEX_NAME, Array, Entry, Feed, entries
from tests.corpus.sketch import Sketch
from tests.corpus.spec import Built, Spec

HAND_DRAWN = [
    spec
    for source in (foreign_keras, foreign_frameworks, foreign_control, foreign_nets, foreign_loops)
    for spec in source.specs_of_source()
]
X = (Feed("x", (None, 8)),)


def dense(weight: Array, bias: Array) -> Built:
    """One layer, relu(x @ weight) + bias, with the values given."""
    g = Sketch("dense")
    y = g.node("Relu", g.node("MatMul", "x", g.tensor(weight)))
    return g.finish(X, [(g.node("Add", y, g.tensor(bias)), 2)], 13)


def random_weight() -> NDArray[np.float64]:
    return np.random.default_rng(1).standard_normal((8, 8))


def test_a_random_layer_meets_the_bar() -> None:
    built = dense(random_weight(), np.zeros(8))

    check(built.proto, built.feeds)

    assert count_params(built.proto) == 8 * 8 + 8


def test_a_constant_weight_is_refused() -> None:
    built = dense(np.full((8, 8), 0.5), np.zeros(8))

    with pytest.raises(UnfitError, match="constant"):
        check(built.proto, built.feeds)


def test_an_output_that_is_not_a_number_is_refused() -> None:
    built = dense(random_weight(), np.full(8, np.nan))

    with pytest.raises(UnfitError, match="not finite"):
        check(built.proto, built.feeds)


def test_an_output_that_ignores_the_input_is_refused() -> None:
    # The bias is a million times larger than what the input moves.
    built = dense(random_weight() * 1e-3, np.full(8, 1e4))

    with pytest.raises(UnfitError, match="depends on the input"):
        check(built.proto, built.feeds)


def test_a_batch_fixed_inside_the_graph_is_noticed() -> None:
    g = Sketch("fixed")
    flat = g.node("Reshape", g.node("MatMul", "x", g.weight(8, 8)), g.tensor([2, 8]))
    built = g.finish(X, [(flat, 2)], 13)

    assert runs_at(built.proto, built.feeds, 2)
    assert not runs_at(built.proto, built.feeds, 3)


def test_samples_have_the_batch_and_stay_in_range() -> None:
    feed = Feed("tokens", (None, 5), "int64", 3, 6)

    values = feed.sample(4, np.random.default_rng(0))

    assert values.shape == (4, 5)
    assert values.dtype == np.int64
    assert {int(v) for v in values.flat} == {3, 4, 5}


def test_the_index_returns_what_was_recorded(tmp_path: Path) -> None:
    feeds = (Feed("x", (None, 3, 8, 8)), Feed("mask", (2, 4), "bool"))
    entry = Entry("net.ts", "net", "cnn", "plain", "ts", 13, 10, 4, True, False, feeds, tmp_path)
    gone = Entry("gone.ts", "gone", "cnn", "plain", "ts", 13, 10, 4, True, False, feeds, tmp_path)
    (tmp_path / INDEX_NAME).write_text(json.dumps([entry.record(), gone.record()]))
    entry.path.write_bytes(b"")

    assert entries(tmp_path) == [entry]


def test_no_cache_means_no_entries(tmp_path: Path) -> None:
    assert entries(tmp_path / "absent") == []


@pytest.mark.parametrize("spec", HAND_DRAWN, ids=lambda spec: spec.name)
def test_every_hand_drawn_model_meets_the_bar(spec: Spec) -> None:
    built = spec.build()

    check(built.proto, built.feeds)


def test_weights_of_one_value_are_replaced_in_shipped_topologies() -> None:
    built = onnx_hub.build("squeezenet", 1)

    weights = [
        numpy_helper.to_array(t) for t in built.proto.graph.initializer if t.data_type == TensorProto.FLOAT
    ]
    assert not any(node.op_type == "ConstantOfShape" for node in built.proto.graph.node)
    assert sum(w.size for w in weights) == 1_235_496  # SqueezeNet 1.0's parameters
    assert min(float(w.std()) for w in weights) > 0


def test_weights_inside_constant_nodes_count_as_parameters() -> None:
    node = helper.make_node(
        "Constant", [], ["w"], value=numpy_helper.from_array(np.zeros((3, 4), np.float32))
    )
    value = helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 4])
    model = helper.make_model(helper.make_graph([node], "g", [], [value]))

    assert count_params(model) == 12
