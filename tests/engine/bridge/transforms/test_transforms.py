"""Every transform obeys one law: the trained module and the graph it becomes say the same."""

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from graphrewrite.bridge import GraphModule, attach, fold
from graphrewrite.bridge.precision import widen
from graphrewrite.bridge.transforms import (
    ClipQuantize,
    LearnedThresholds,
    LevelQuantize,
    Lowered,
    Mask,
    Sign,
    SpanQuantize,
    StepQuantize,
    WeightTransform,
    transforms,
)
from graphrewrite.bridge.transforms.approx_sign import ApproxSign
from graphrewrite.bridge.transforms.base import straight_through
from graphrewrite.bridge.transforms.half_sign import HalfSign
from graphrewrite.bridge.transforms.lottery_jackpot import LotteryJackpot
from graphrewrite.bridge.transforms.magnitude import Magnitude
from graphrewrite.bridge.transforms.recu_sign import RecuSign
from graphrewrite.bridge.transforms.rotated_sign import RotatedSign
from graphrewrite.errors import InvalidConfig, UnknownNameError
from graphrewrite.ir import Array, Builder, Model
from graphrewrite.runtime import run
from tests.support.tolerances import relative

WIDE, HIDDEN, OUT = 12, 8, 3
FEED = np.random.default_rng(0).standard_normal((9, WIDE)).astype(np.float32)


def two_layers(seed: int = 0) -> Model:
    """Return layers whose weights are called first and last, with a few zeros, and a ReLU between them."""
    b = Builder(seed=seed)
    x = b.input(["N", WIDE], "x")
    first, last = (
        b.rng.standard_normal(shape).astype(np.float32) for shape in ((HIDDEN, WIDE), (OUT, HIDDEN))
    )
    first[np.abs(first) < 0.4] = 0
    hidden = b.relu(b.op("Gemm", x, b.constant(first, "first"), transB=1, name="one"))
    return b.model(
        b.op(
            "Gemm",
            hidden,
            b.constant(last, "last"),
            b.constant(np.ones(OUT, np.float32), "bias"),
            transB=1,
            name="two",
        )
    )


def train(module: GraphModule, steps: int = 5, rate: float = 0.01) -> None:
    """Take some steps with momentum and decay towards nothing in particular."""
    optimiser = torch.optim.SGD(module.parameters(), rate, momentum=0.9, weight_decay=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        (module(torch.from_numpy(FEED)) - 1).square().mean().backward()
        optimiser.step()


def apart(module: GraphModule, model: Model) -> float:
    """Return how far a module and a graph are from each other, by the largest output."""
    return relative(
        np.asarray(run(model, {"x": FEED})["two_out"]), np.asarray(module.run({"x": FEED})["two_out"])
    )


CASES: list[Mapping[str, WeightTransform]] = [
    {"first": Mask()},
    {"first": Magnitude()},
    {"first": Sign()},
    {"last": Sign(axis=1)},
    {"x": Sign()},
    {"relu*": Sign(), "first": Sign()},
    {"two_out": Sign()},
    {"first": RecuSign(), "relu*": ApproxSign("deviation")},
    {"last": HalfSign()},
    {"first": RotatedSign(), "two_out": ApproxSign()},
    {"first": StepQuantize(8)},
    {"first": StepQuantize(2), "last": StepQuantize(4)},
    {"relu*": StepQuantize(8, signed=False)},
    {"relu*": StepQuantize(3, signed=False), "one_out": StepQuantize(5)},
    {"x": StepQuantize(8), "two_out": StepQuantize(4)},
    {"first": StepQuantize(3, axis=0), "last": StepQuantize(8, axis=1)},
    {"first": ClipQuantize(4), "x": ClipQuantize(8)},
    {"one_out": ClipQuantize(3), "relu*": ClipQuantize(2)},
    {"relu*": LearnedThresholds(2), "first": LevelQuantize(2), "last": LevelQuantize(1, axis=1)},
    {"one_out": LearnedThresholds(3, signed=True), "last": LevelQuantize(5)},
    {"relu*": SpanQuantize(3, watch=0), "first": SpanQuantize(2, axis=0), "last": SpanQuantize(4)},
    {"x": SpanQuantize(8, watch=0), "two_out": SpanQuantize(4, watch=0), "last": SpanQuantize(8, axis=1)},
    {"first": Mask(), "fir*": StepQuantize(4)},
    {"first": LotteryJackpot(0.5), "last": LotteryJackpot(0.25, start="random")},
    {"one_out": StepQuantize(4), "one_*": Sign(), "*ne_out": StepQuantize(2)},
]


@pytest.mark.parametrize("wanted", CASES, ids=lambda case: "+".join(map(str, case)))
def test_the_trained_module_and_the_lowered_graph_agree(wanted: Mapping[str, WeightTransform]) -> None:
    module = GraphModule(two_layers())
    attach(module, wanted)
    train(module)
    # Sums of layers differ in their last digits between torch and onnxruntime.
    tolerance = max(transform.tolerance for transform in wanted.values()) + 1e-6
    folded = fold(module)
    assert apart(module, folded) <= tolerance
    assert [tensor.name for tensor in folded.outputs] == ["two_out"]
    assert apart(GraphModule(two_layers()), folded) > 1e-3


@pytest.mark.parametrize("wanted", CASES, ids=lambda case: "+".join(map(str, case)))
def test_they_agree_in_half_precision_too(wanted: Mapping[str, WeightTransform]) -> None:
    if "x" in wanted:
        wanted = {("cast_in" if name == "x" else name): transform for name, transform in wanted.items()}
    module = GraphModule(halved(two_layers()))
    widen(module)
    attach(module, wanted)
    train(module)
    folded = fold(module)
    kinds = {np.asarray(array).dtype for array in run(folded, {"x": FEED}).values()}
    # One unit of half precision where sums of layers end in other digits.
    assert apart(module, folded) <= 2e-3 and kinds == {np.dtype(np.float16)}


def halved(model: Model) -> Model:
    """Return the same layers in half precision behind a cast of the input."""
    for name, weight in list(model.weights.items()):
        model.weights[name] = weight.astype(np.float16)
    cast_in = gs.Variable("cast_in")
    first, x = model.graph.nodes[0], model.inputs[0]
    first.inputs[0] = cast_in
    model.graph.nodes.insert(0, gs.Node("Cast", "cast", {"to": 10}, [x], [cast_in]))
    model.outputs[0].dtype = np.dtype(np.float16)
    return model


def test_every_registered_transform_is_in_a_case() -> None:
    tried = {transforms.name_of(transform) for case in CASES for transform in case.values()}
    assert tried == set(transforms)


def test_a_lowered_form_that_differs_is_found() -> None:
    module = GraphModule(two_layers())
    attach(module, {"first": Wrong(4)})
    train(module)
    assert apart(module, fold(module)) > 1e-3


class Wrong(StepQuantize):
    """Forgets one number when it is lowered."""

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        lowered = super().lower(weight, state)
        assert lowered.weight is not None
        broken = lowered.weight.copy()
        broken[np.unravel_index(np.abs(broken.astype(int)).argmax(), broken.shape)] = 0
        return Lowered(broken, lowered.draw)


def test_the_state_keeps_the_names_of_the_weights() -> None:
    module = GraphModule(two_layers())
    plain = list(module.state_dict())
    assert attach(module, {"*": StepQuantize(4)}) == plain
    state = module.state_dict()
    assert list(state)[: len(plain)] == plain
    assert all(name.startswith("_transforms.") for name in list(state)[len(plain) :])
    again = GraphModule(two_layers(seed=1))
    attach(again, {"*": StepQuantize(4)})
    again.load_state_dict(state)
    assert apart(again, fold(module)) <= 1e-6


def test_masked_weights_stay_zero_whatever_lies_beneath() -> None:
    module = GraphModule(two_layers())
    zeros = module.weight_named("first").detach() == 0
    attach(module, {"first": Mask()})
    with torch.no_grad():
        module.weight_named("first").add_(0.5)  # what an optimiser that adds noise would do
    train(module)
    folded = fold(module).weights["first"]
    assert zeros.sum() > 10
    assert np.array_equal(folded == 0, zeros.numpy())


def test_an_int8_weight_has_the_range_of_its_bits() -> None:
    module = GraphModule(two_layers())
    attach(module, {"first": StepQuantize(3)})
    train(module)
    stored = fold(module).weights["first"]
    assert (
        stored.dtype == np.int8 and set(np.unique(stored)) <= set(range(-4, 4)) and len(np.unique(stored)) > 4
    )


def test_signs_pass_gradients_near_zero_only() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0], requires_grad=True)
    y = Sign().module(None)(x)
    y.sum().backward()
    assert y.tolist() == [-1, -1, 1, 1, 1]
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 1, 0]


def test_the_step_gets_the_gradient_of_the_paper() -> None:
    # Equation 3: within the grid round(v) - v, outside of it the grid's end; scaled by 1 / sqrt(numbers * highest).
    grid = StepQuantize(3).module(torch.tensor([1.0]))
    with torch.no_grad():
        grid.step.fill_(1.0)
    x = torch.tensor([0.7, -0.2, 9.0, -9.0], requires_grad=True)
    y = grid(x)
    y.sum().backward()
    assert y.tolist() == [1, 0, 3, -4]
    want = ((1 - 0.7) + (0 + 0.2) + 3 - 4) / np.sqrt(4 * 3)
    assert float(grid.step.grad) == pytest.approx(want, rel=1e-5)
    assert x.grad is not None and x.grad.tolist() == [1, 1, 0, 0]


def test_what_is_passed_straight_through_is_exact() -> None:
    x = torch.linspace(-3, 3, 1001)
    assert torch.equal(straight_through(x.round(), x), x.round())


def test_a_step_that_was_carried_through_zero_still_lowers_to_what_was_trained() -> None:
    module = GraphModule(two_layers())
    attach(module, {"relu*": StepQuantize(4, signed=False)})
    module.run({"x": FEED})
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("step"):
                parameter.neg_()
    assert apart(module, fold(module)) <= 1e-6


def test_what_fits_nothing_is_refused() -> None:
    module = GraphModule(two_layers())
    with pytest.raises(UnknownNameError, match="'furst'"):
        attach(module, {"furst": Sign()})
    with pytest.raises(InvalidConfig, match="activation"):
        attach(module, {"relu*": Mask()})


def test_nothing_may_stand_behind_what_makes_nodes_of_a_weight() -> None:
    module = GraphModule(two_layers())
    attach(module, {"first": StepQuantize(4), "fir*": Mask()})
    with pytest.raises(InvalidConfig, match="another order"):
        fold(module)
