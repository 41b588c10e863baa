"""Gradients of every form that has one, against finite differences in double precision, on onnx's own cases."""

import warnings
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from onnx.backend.test.case.test_case import TestCase

from graphrewrite.bridge import GraphModule, forms
from graphrewrite.bridge.numbers import value_of
from graphrewrite.errors import GraphRewriteError
from graphrewrite.ir import Model
from tests.engine.bridge.backend import cases, plain_of, proto_of, tags

PER_OPERATOR = 2
LARGEST = 400  # numbers of an input: a finite difference each
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
OFF_CORNERS = 1e-3

# Operators with a form whose gradient cannot be seen on onnx's cases, with the reason; their own files test it.
UNSEEN: dict[str, str] = {
    "QuantizeLinear": "integers carry no gradient; the DequantizeLinear behind takes it up (test_quantized.py)",
    "DequantizeLinear": "its cases have integers as first input; the pair is in test_quantized.py",
    "OneHot": "its cases have whole numbers as values; theirs is seen in optable/test_index.py",
    "Pow": "its cases have negative bases, whose powers are numbers for whole exponents only",
}


def single(case: TestCase) -> str | None:
    """Return the operator of a case of one node with floats in and out, None for other cases."""
    graph = proto_of(case).graph
    if len(graph.node) != 1 or tags(case) & {"text", "narrow", "ml", "training"}:
        return None
    return str(graph.node[0].op_type) if graph.node[0].domain in ("", "ai.onnx") else None


@cache
def chosen() -> dict[str, list[TestCase]]:
    """Return small cases with float inputs by operator, those with most inputs first."""
    found: dict[str, list[TestCase]] = {}
    for case in cases().values():
        name = single(case)
        inputs = (case.data_sets or [((), ())])[0][0]
        floats = [value for value in inputs if isinstance(value, np.ndarray) and value.dtype in FLOATS]
        if name and floats and 0 < sum(value.size for value in floats) <= LARGEST:
            found.setdefault(name, []).append(case)
    return {
        name: sorted(several, key=lambda case: -len((case.data_sets or [((), ())])[0][0]))[:PER_OPERATOR]
        for name, several in found.items()
    }


def trained() -> Iterator[str]:
    """Yield the operators of the default domain whose forms say that gradients flow."""
    for (domain, name), several in forms.known().items():
        if domain == "" and any(form.gradient for form in several):
            yield name


def flat(value: object) -> list[torch.Tensor]:
    """Return all float tensors of an output that depend on an input."""
    if isinstance(value, (list, tuple)):
        return [tensor for entry in value for tensor in flat(entry)]
    usable = isinstance(value, torch.Tensor) and value.is_floating_point() and value.requires_grad
    return [value] if usable else []


def agrees(case: TestCase) -> bool:
    """Compare gradients with finite differences; False when nothing depends on a float input."""
    model = Model.from_proto(proto_of(case))
    module = GraphModule(model).eval().double()
    form = forms.find(model.graph.nodes[0].op, "", model.opsets[""])
    moved = torch.Generator().manual_seed(0)
    inputs = []
    for slot, value in enumerate((case.data_sets or [((), ())])[0][0]):
        held = value_of(plain_of(value), torch.device("cpu"))
        if isinstance(held, torch.Tensor) and held.dtype in (torch.float32, torch.float64):
            held = held.double()
            if form is None or form.why_still(slot) is None:
                # Off the corners, where many cases have numbers and no difference tells a gradient.
                held = (held + OFF_CORNERS * torch.rand(held.shape, generator=moved)).requires_grad_()
        inputs.append(held)
    free = [i for i, value in enumerate(inputs) if isinstance(value, torch.Tensor) and value.requires_grad]

    def run(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fed = list(inputs)
        for i, value in zip(free, values, strict=True):
            fed[i] = value
        return tuple(flat(module(*fed)))

    if not run(*(inputs[i] for i in free)):
        return False
    # Along a random direction of inputs and outputs at a time: a whole Jacobian takes a hundred times as long.
    return bool(
        torch.autograd.gradcheck(
            run, [inputs[i] for i in free], eps=1e-6, atol=1e-5, rtol=1e-3, fast_mode=True
        )
    )


@pytest.mark.parametrize("number", range(8))
def test_gradients_are_those_of_finite_differences(number: int) -> None:
    wrong = {}
    for name in sorted(set(trained()) & set(chosen()) - set(UNSEEN))[number::8]:
        seen = False
        for case in chosen()[name]:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    seen |= agrees(case)
            except (GraphRewriteError, RuntimeError, TypeError, ValueError) as error:
                wrong[case.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if not seen and name not in {key.split(":")[0] for key in wrong}:
            wrong.setdefault(name, "no output depends on a float input: file the form with gradient=False")
    assert wrong == {}


def test_a_wrong_gradient_is_caught() -> None:
    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x * 1

        @staticmethod
        def backward(ctx: object, grad: torch.Tensor) -> torch.Tensor:
            return grad / 2

    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="Jacobian"):
        torch.autograd.gradcheck(Halved.apply, [x], fast_mode=True)
