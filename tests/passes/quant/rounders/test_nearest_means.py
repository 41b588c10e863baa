"""Biases by the means in the rounded net: beside a slow reference that rounds, looks and corrects layer by layer."""

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.ir import Builder, Model
from graphrewrite.match.view import View
from graphrewrite.passes.quant import InsertQdq
from graphrewrite.passes.quant.grid import Floats
from graphrewrite.passes.quant.rounders import Task, nearest_means
from graphrewrite.passes.quant.rounders.nearest_means import NearestMeans
from graphrewrite.passes.quant.sites import Site, sites_of
from graphrewrite.passes.quant.write import Plan
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run

SAMPLES = np.random.default_rng(0).random((16, 2, 7, 7)).astype(np.float32)


def net(opset: int = 17) -> Model:
    b = Builder(opset=opset, seed=4)
    hidden = b.relu(b.conv(b.input(["N", 2, 7, 7], "x"), 8, 2, name="one"))
    deep = b.relu(b.conv(hidden, 8, 8, group=8, name="two"))
    flat = b.op("Flatten", b.op("GlobalAveragePool", b.relu(b.conv(deep, 6, 8, name="three"))))
    return b.model(b.linear(flat, 4, 6, name="head"))


def slowly(task: Task) -> Plan:
    """Correct one layer after the other by what it gives in floats and in the model with those before corrected."""
    plan = task.plan
    for site in sites_of(View(task.model), plan):
        means = []
        for model in (task.model, task.simulated(plan)):
            shown = model.clone()
            made = {out.name: node for node in shown.graph.nodes for out in node.outputs}
            node = made[site.output]
            while node.op != site.op:
                node = made[node.inputs[0].name]
            node.outputs[0].dtype = np.dtype(np.float32)
            shown.graph.outputs = [node.outputs[0]]
            (given,) = run(shown, {"x": SAMPLES}).values()
            means.append(given.mean(axis=tuple(axis for axis in range(given.ndim) if axis != 1)))
        plan = with_bias(plan, site, means[0] - means[1])
    return plan


def with_bias(plan: Plan, site: Site, more: Floats) -> Plan:
    operands = []
    for each in plan.operands:
        if (each.node, each.slot) == (site.number, 2):
            codes = np.rint((each.stored.expand() + more) / each.stored.steps).astype(np.int32)
            each = each._replace(stored=each.stored._replace(codes=codes))
        operands.append(each)
    return plan._replace(operands=operands)


class Compared:
    """Rounds in both ways and keeps the plans."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []

    def round(self, task: Task) -> Plan:
        self.plans = [NearestMeans().round(task), slowly(task), task.plan]
        return self.plans[0]


def away(compared: Compared) -> tuple[float, float]:
    """Return by how many of their steps biases are off the reference, and how far they moved, at most."""
    own, slow, before = (
        np.concatenate([each.stored.codes.ravel() for each in plan.operands if each.slot == 2]).astype(int)
        for plan in compared.plans
    )
    return float(np.abs(own - slow).max()), float(np.abs(own - before).max())


def compared(opset: int = 17, batch: int = 16) -> Compared:
    both = Compared()
    step = InsertQdq(weight_bits=3, rounder=both, batch=batch)
    Pipeline((step,)).run(net(opset), Context(data=ArraySource({"x": SAMPLES})))
    return both


@pytest.mark.parametrize("opset", [17, 18])
def test_one_sweep_finds_what_a_sweep_for_each_layer_finds(opset: int) -> None:
    error, moved = away(compared(opset))

    assert moved > 10 and error <= 1


def test_batches_are_averaged() -> None:
    error, moved = away(compared(batch=4))

    assert moved > 10 and error <= 2  # means of a few samples differ, and a Relu is not linear


def test_layers_that_read_uncorrected_ones_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_means, "redirect", lambda *_: None)  # so nothing is moved for those behind
    error, moved = away(compared())

    assert moved > 10 and error > 1


def test_biases_that_are_to_be_kept_are() -> None:
    both = Compared()
    InsertQdq(weight_bits=3, rounder=both, correct_bias=False).run(
        net(), Context(data=ArraySource({"x": SAMPLES}))
    )

    assert both.plans[0] is both.plans[2]
