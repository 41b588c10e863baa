"""Norms whose statistics a file stores once with something else: each moves its own, and the file gets it back."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch
from torch import nn

from graphrewrite.bridge import GraphModule
from graphrewrite.bridge.statistics import part
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.diff import changes
from graphrewrite.passes.train.finetune import check_graph

ZEROS, ONES = np.zeros(3, np.float32), np.ones(3, np.float32)
DIRECT = {f"{norm}_out.running_{what}" for norm in ("one", "two") for what in ("mean", "var")}
NAMED = {f"{norm}.{what}_out" for norm in ("one", "two") for what in ("mean", "var")}


def fresh(named: bool) -> Model:
    """Two norms that never ran: one tensor of ones, one of zeros, handed on by Identity nodes if `named`."""
    b = Builder(opset=17, seed=0)
    ones, zeros = b.constant(ONES, "ones"), b.constant(ZEROS, "zeros")

    def norm(x: gs.Tensor, name: str) -> gs.Tensor:
        held: list[gs.Tensor] = [ones, zeros, zeros, ones]
        if named:
            own = [f"{name}.{what}" for what in ("scale", "bias", "mean", "var")]
            held = [b.op("Identity", tensor, name=label) for tensor, label in zip(held, own, strict=True)]
        return b.op("BatchNormalization", x, *held, name=name)

    return b.model(norm(b.relu(norm(b.input(["N", 3, 5], "x"), "one")), "two"))


def batch() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(2, 3, (4, 3, 5)).astype(np.float32))


@pytest.mark.parametrize("named", [False, True])
def test_a_network_that_never_ran_trains_as_in_torch(named: bool) -> None:
    module, x = GraphModule(fresh(named)), batch()
    own = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU(), nn.BatchNorm1d(3))
    for _ in range(3):
        assert torch.allclose(module.train()(x), own.train()(x), atol=1e-6)
    assert torch.allclose(module.eval()(x), own.eval()(x), atol=1e-6)
    assert set(module.state_dict()) == {"ones", "zeros"} | (NAMED if named else DIRECT)


@pytest.mark.parametrize("named", [False, True])
def test_what_moved_is_stored_and_nothing_else_has_changed(named: bool) -> None:
    before = fresh(named)
    module = GraphModule(before)
    module.train()(batch())
    after = module.write_back()
    check_graph(before, after)
    again = GraphModule(after)
    assert not again.record.parted
    assert torch.equal(again.eval()(batch()), module.eval()(batch()))
    assert np.array_equal(after.graph.initializers["ones"].values, ONES)
    left = [node.outputs[0].name for node in after.graph.nodes if node.op == "Identity"]
    assert left == (
        [f"{norm}.{what}_out" for norm in ("one", "two") for what in ("scale", "bias")] if named else []
    )


@pytest.mark.parametrize("named", [False, True])
def test_without_training_the_file_stays_as_it_is(named: bool) -> None:
    model = fresh(named)
    module = GraphModule(model)
    module.eval()(batch())
    assert not list(changes(model, module.write_back()))


def test_statistics_stay_when_the_weight_they_were_stored_with_moves() -> None:
    module = GraphModule(fresh(False)).eval()
    with torch.no_grad():
        module.weight_named("zeros").add_(1)
    written = module.write_back().graph.initializers
    assert written["zeros"].values.tolist() == [1, 1, 1]
    assert written["one_out.running_mean"].values.tolist() == [0, 0, 0]


def pair(second: bool) -> Model:
    """One mean and one variance for two runs of a norm; in the `second` case of another norm."""
    b = Builder(opset=17, seed=0)
    scale, bias, other = (b.constant(np.arange(1, 4, dtype=np.float32) + i, f"w{i}") for i in range(3))
    mean, var = b.constant(ZEROS, "mean"), b.constant(ONES, "var")
    once = b.op("BatchNormalization", b.input(["N", 3, 5], "x"), scale, bias, mean, var, name="one")
    last = b.op("BatchNormalization", once, scale, other if second else bias, mean, var, name="two")
    return b.model(last)


def test_one_norm_run_twice_keeps_one_mean() -> None:
    assert part(pair(second=False)) == {}


def test_two_norms_part_what_they_share_and_the_first_keeps_it() -> None:
    assert part(pair(second=True)) == {"two_out.running_mean": "mean", "two_out.running_var": "var"}


def test_an_identity_that_something_else_reads_stays() -> None:
    b = Builder(opset=17, seed=0)
    zeros = b.op("Identity", b.constant(ZEROS, "zeros"), name="shared")
    scale, var = b.constant(ONES * 2, "scale"), b.constant(ONES, "var")
    x = b.input(["N", 3, 5], "x")
    model = b.model(b.add(b.op("BatchNormalization", x, scale, zeros, zeros, var, name="n"), x))
    assert part(model) == {"n_out.running_mean": "zeros"}
    assert [node.op for node in model.graph.nodes] == ["Identity", "BatchNormalization", "Add"]


def test_a_statistic_that_only_has_another_name_is_still_one() -> None:
    b = Builder(opset=17, seed=0)
    rows = [b.constant(ONES * i, f"row{i}") for i in range(1, 5)]
    named = [*rows[:2], b.op("Identity", rows[2]), rows[3]]
    module = GraphModule(b.model(b.op("BatchNormalization", b.input(["N", 3, 5], "x"), *named)))
    assert module.record.roles["row3"].kind == "statistic"
    module.train()(batch())
    assert not torch.equal(module.weight_named("row3"), torch.full((3,), 3.0))
