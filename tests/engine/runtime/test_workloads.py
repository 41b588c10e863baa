"""Layers to measure: every form can be drawn at the sizes it names, and runs."""

from math import prod

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Model
from graphrewrite.ir.edit import all_nodes
from graphrewrite.runtime import run, sample_inputs
from graphrewrite.runtime.workloads import Work, Workload, workloads


def least(workload: Workload) -> Work:
    return min(workload.sizes(), key=lambda work: (work.operations, work.density))


@pytest.mark.parametrize("form", list(workloads))
def test_a_chain_of_the_smallest_size_runs(form: str) -> None:
    work = least(workloads.make(form))

    model = workloads.make(form).chain(work, 2, seed=1)
    (found,) = run(model, sample_inputs(model)).values()

    assert np.isfinite(found.astype(np.float64)).all()
    assert prod(found.shape) == work.outputs * work.positions
    assert len([node for node in all_nodes(model.graph) if node.op == form.partition("/")[0]]) == 2


@pytest.mark.parametrize("form", list(workloads))
def test_layers_have_weights_of_their_own(form: str) -> None:
    workload = workloads.make(form)
    one, two = workload.chain(least(workload), 2, seed=1), workload.chain(least(workload), 2, seed=2)
    (op,) = {node.op for node in one.nodes() if node.op == form.partition("/")[0]}

    def weights(model: Model) -> list[bytes]:
        return [
            b"".join(
                np.asarray(each.values).tobytes() for each in node.inputs if isinstance(each, gs.Constant)
            )
            for node in model.nodes(op)
        ]

    assert len({*weights(one), *weights(two)}) == 4
