"""Numbers drawn at random: shapes, types, distributions, what a seed and the mode of the module do."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge import GraphModule
from graphrewrite.ir import Array, Model
from tests.engine.bridge.nodes import bridged, by_reference, node_model, same

X = np.full((200, 300), 0.3, np.float32)
FLOAT16, INT64 = 10, 7


def drawn(op: str, given: list[Array | None], attributes: dict[str, object], opset: int = 22) -> Array:
    (found,) = bridged(node_model(op, given, 1, attributes, opset=opset), given)
    return found


@pytest.mark.parametrize("op", ["RandomNormal", "RandomNormalLike"])
def test_normal_numbers_have_the_mean_and_scale_asked_for(op: str) -> None:
    asked: dict[str, object] = {"mean": 2.0, "scale": 3.0, "dtype": 11}
    found = drawn(op, [X], asked) if op.endswith("Like") else drawn(op, [], asked | {"shape": [200, 300]})
    assert found.shape == X.shape and found.dtype == np.float64
    # 60,000 draws: the mean is off by 3 / 245 = 0.012 as a rule
    assert abs(found.mean() - 2) < 0.06 and abs(found.std() - 3) < 0.05
    assert abs(np.mean(np.abs(found - 2) < 3) - 0.6827) < 0.01


@pytest.mark.parametrize("op", ["RandomUniform", "RandomUniformLike"])
def test_uniform_numbers_fill_the_range_evenly(op: str) -> None:
    asked: dict[str, object] = {"low": -1.0, "high": 3.0}
    found = drawn(op, [X], asked) if op.endswith("Like") else drawn(op, [], asked | {"shape": [200, 300]})
    assert found.shape == X.shape and found.dtype == np.float32
    assert found.min() >= -1 and found.max() <= 3
    quarters = np.histogram(found, bins=4, range=(-1, 3))[0] / found.size
    assert np.abs(quarters - 0.25).max() < 0.01


def test_like_takes_the_type_of_its_input() -> None:
    half = X.astype(np.float16)
    assert drawn("RandomNormalLike", [half], {}).dtype == np.float16
    assert drawn("RandomUniformLike", [X], {"dtype": FLOAT16}).dtype == np.float16


def test_bernoulli_draws_ones_as_often_as_it_should() -> None:
    chances = np.repeat(np.asarray([[0.0], [0.25], [1.0]], np.float32), 20000, 1)
    found = drawn("Bernoulli", [chances], {"dtype": INT64})
    assert found.dtype == np.int64 and set(np.unique(found)) == {0, 1}
    np.testing.assert_allclose(found.mean(1), [0, 0.25, 1], atol=0.02)
    assert drawn("Bernoulli", [X], {}).dtype == np.float32


def test_multinomial_reads_logarithms_that_need_not_add_up() -> None:
    chances = np.asarray([[0.1, 0.6, 0.3], [0.5, 0.0, 0.5]])
    with np.errstate(divide="ignore"):
        logs = (np.log(chances) + 5).astype(np.float32)
    found = drawn("Multinomial", [logs], {"sample_size": 20000})
    assert found.shape == (2, 20000) and found.dtype == np.int32
    for row, wanted in zip(found, chances, strict=True):
        np.testing.assert_allclose(np.bincount(row, minlength=3) / row.size, wanted, atol=0.02)


@pytest.mark.parametrize(
    ("op", "given", "asked"),
    [
        ("RandomNormal", [], {"shape": [4, 5]}),
        ("RandomUniform", [], {"shape": [4, 5]}),
        ("RandomNormalLike", [X], {}),
        ("RandomUniformLike", [X], {}),
        ("Bernoulli", [X], {}),
        ("Multinomial", [X], {"sample_size": 9}),
    ],
)
def test_a_seed_draws_the_same_again_and_another_seed_others(
    op: str, given: list[Array | None], asked: dict[str, object]
) -> None:
    module = GraphModule(Model.from_proto(node_model(op, given, 1, asked | {"seed": 0.25}, opset=22)))
    fed = [torch.from_numpy(np.asarray(value)) for value in given]
    first = module(*fed)
    assert torch.equal(first, module(*fed))
    other = GraphModule(Model.from_proto(node_model(op, given, 1, asked | {"seed": 0.5}, opset=22)))
    assert not torch.equal(first, other(*fed))
    free = GraphModule(Model.from_proto(node_model(op, given, 1, asked, opset=22)))
    torch.manual_seed(0)
    one, two = free(*fed), free(*fed)
    torch.manual_seed(0)
    assert torch.equal(one, free(*fed)) and not torch.equal(one, two)


@pytest.mark.parametrize("opset", [7, 10, 12, 13, 22])
def test_dropout_is_nothing_in_evaluation(opset: int) -> None:
    given: list[Array | None] = [X] if opset < 12 else [X, np.asarray(0.4, np.float32)]
    attributes: dict[str, object] = {"ratio": 0.4} if opset < 12 else {}
    proto = node_model("Dropout", given, 2 if opset > 7 else 1, attributes, opset=opset)
    found = bridged(proto, given)
    assert np.array_equal(found[0], X)
    assert opset == 7 or (found[1].all() and found[1].dtype == bool)


@pytest.mark.parametrize("opset", [7, 10, 12, 22])
def test_dropout_drops_while_training(opset: int) -> None:
    given: list[Array | None] = [X] if opset < 12 else [X, np.asarray(0.4, np.float32)]
    attributes: dict[str, object] = {"ratio": 0.4} if opset < 12 else {}
    module = GraphModule(Model.from_proto(node_model("Dropout", given, 2, attributes, opset=opset))).train()
    x = torch.from_numpy(X).requires_grad_()
    found, kept = module(x, *(torch.from_numpy(value) for value in given[1:] if value is not None))
    assert abs(kept.float().mean() - 0.6) < 0.01
    torch.testing.assert_close(found, torch.where(kept, x / 0.6, 0))
    found.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, kept.float() / 0.6)


def test_a_graph_that_says_it_trains_drops_in_evaluation_too_and_draws_what_the_reference_draws() -> None:
    given: list[Array | None] = [X, np.asarray(0.25, np.float32), np.asarray(True)]
    proto = node_model("Dropout", given, 2, {"seed": 3}, opset=13)
    assert same(bridged(proto, given), by_reference(proto, given))
    proto = node_model("Dropout", given, 2, {}, opset=13)
    assert abs(bridged(proto, given)[1].mean() - 0.75) < 0.01
