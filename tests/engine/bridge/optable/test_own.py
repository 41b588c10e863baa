"""Our own operators in the bridge against their numpy references, and what their gradients reach."""

from itertools import islice

import numpy as np
import pytest
import torch

from graphrewrite.bridge import GraphModule
from graphrewrite.custom_ops import find, ops
from graphrewrite.ir import Model
from tests.engine.bridge.nodes import same
from tests.support.kernels import one_node


@pytest.mark.parametrize("name", ops())
def test_our_operators_compute_what_their_references_do(name: str) -> None:
    spec = find(name)
    for case in islice(spec.cases(), 4):
        model = Model.from_proto(one_node(spec, case))
        found = GraphModule(model).run({tensor.name: case.inputs[tensor.name] for tensor in model.inputs})
        wanted = spec.reference(
            *(case.inputs[port.name] for port in spec.inputs), **spec.filled(case.attributes)
        )
        several = wanted if isinstance(wanted, tuple) else (wanted,)
        assert same([np.asarray(value) for value in found.values()], several, max(case.rtol, 1e-5), 1e-4)


def test_a_wavelet_layer_learns_its_diagonals() -> None:
    spec = find("WaveletLinear")
    case = next(iter(spec.cases()))
    module = GraphModule(Model.from_proto(one_node(spec, case)))
    sum(module(torch.tensor(case.inputs[name])).square().sum() for name in module.record.inputs).backward()
    weights = dict(module.named_parameters())
    assert weights and all(
        weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights.values()
    )


@pytest.mark.parametrize("name", ops())
def test_our_operators_make_new_tensors_where_their_inputs_are(name: str) -> None:
    """On torch's device without numbers a tensor made elsewhere meets one that is there, and torch refuses."""
    spec = find(name)
    case = next(iter(spec.cases()))
    inputs = [torch.from_numpy(np.array(case.inputs[port.name])).to("meta") for port in spec.inputs]
    made = spec.torch_impl(*inputs, **spec.filled(case.attributes))
    for tensor in made if isinstance(made, tuple) else (made,):
        assert isinstance(tensor, torch.Tensor) and tensor.device.type == "meta"
