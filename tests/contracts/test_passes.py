"""Laws that every registered pass obeys; a new pass is held to them without being told."""

import dataclasses
import json
from collections.abc import Iterator
from importlib.util import find_spec
from typing import get_args, get_type_hints

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import BudgetError, GraphRewriteError, InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.diff import diff
from graphrewrite.passes.synth.synthesisers.fdda import Fdda
from graphrewrite.pipeline import METADATA_KEY, Claim, Context, Pass, Pipeline, passes
from graphrewrite.registry import Registry, registry_of
from graphrewrite.serial import from_json, to_json
from tests.support.registered import is_documented_frozen

NAMES = list(passes)
# Learning without samples, or through an operator that torch does not know, cannot be: that is an error, not a no-op.
LEARNS = frozenset(
    {
        "adam_bnn",
        "collaborative",
        "distill",
        "fdda",
        "ffsd",
        "finetune",
        "insert_qdq",
        "lottery_jackpot",
        "mixed_precision",
        "one_by_n",
        "prune_loop",
        "recalibrate_norms",
        "smooth_quant",
        "quantize_aware",
        "train_binary",
        "train_sparse",
    }
)
# Without torch these are listed, and say what they lack when they are run.
TRAINS = frozenset(
    {
        "adam_bnn",
        "collaborative",
        "distill",
        "fdda",
        "ffsd",
        "finetune",
        "lottery_jackpot",
        "one_by_n",
        "prune_loop",
        "recalibrate_norms",
        "quantize_aware",
        "train_binary",
        "train_sparse",
    }
)
# Where published settings take hours; what is learned is of no matter here.
SHORT = {"fdda": {"synthesiser": Fdda(epochs=1, steps=1, width=8), "samples": 16, "epochs": 1}}
RUNNING = NAMES if find_spec("torch") and find_spec("accelerate") else sorted(set(NAMES) - TRAINS)


def made(name: str) -> Pass:
    """Return the pass of a name as it is run here."""
    return passes.make(name, **SHORT.get(name, {}))


def residual_net() -> Model:
    """A small net with everything passes look for: norms, a residual, a branch, constants, something dead."""
    b = Builder(seed=11)
    x = b.input(["N", 3, 8, 8], "x")
    stem = b.relu(b.batchnorm(b.conv(x, out=8, into=3, name="stem", bias=False), 8))
    inner = b.relu(b.batchnorm(b.conv(stem, out=8, into=8, name="inner"), 8))
    joined = b.add(b.op("Identity", stem), b.conv(inner, out=8, into=8, name="back"))
    b.relu(b.conv(joined, out=2, into=8, name="unused"))
    factor = b.op("Mul", b.constant(np.array(2, np.float32)), b.constant(np.array(0.5, np.float32)))
    flat = b.op("Flatten", b.op("GlobalAveragePool", b.op("Mul", joined, factor)), axis=1)
    return b.model(b.linear(flat, out=4, into=8, name="head"))


def custom_net() -> Model:
    """A convolution on either side of an operator that nobody knows."""
    b = Builder(seed=12)
    x = b.input(["N", 3, 8, 8], "x")
    y = b.op("Mystery", b.conv(x, out=4, into=3, name="one"), domain="some.where")
    return b.model(b.conv(y, out=4, into=4, name="two"))


def empty_net() -> Model:
    """No node at all: the input is the output."""
    b = Builder()
    return b.model(b.input(["N", 2], "x"))


def data() -> ArraySource:
    rng = np.random.default_rng(0)
    return ArraySource({"x": rng.standard_normal((16, 3, 8, 8)).astype(np.float32)}, rng.integers(0, 4, 16))


def choices(registry: Registry[object]) -> Iterator[object]:
    """Every entry of a registry that can be built without options."""
    for name in registry:
        try:
            yield registry.make(name)
        except GraphRewriteError:
            continue  # it has options without a default


def variants(step: Pass) -> Iterator[Pass]:
    """The pass itself, and the pass with each registered thing in each of its fields."""
    yield step
    hints = get_type_hints(type(step))
    for field in dataclasses.fields(step):  # type: ignore[arg-type]
        for kind in (hints[field.name], *get_args(hints[field.name])):
            registry = registry_of(kind)
            if registry is not None and registry is not passes:
                for value in choices(registry):
                    yield dataclasses.replace(step, **{field.name: value})  # type: ignore[type-var]


def test_there_are_passes() -> None:
    assert "pipeline" in NAMES and len(NAMES) > 1


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_is_a_documented_frozen_dataclass_with_a_claim(name: str) -> None:
    factory = passes.find(name)

    assert is_documented_frozen(factory, object)
    assert isinstance(factory.claim, Claim)  # type: ignore[attr-defined]
    assert name == name.lower() and name.isidentifier()


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_survives_json_with_every_registered_thing_in_its_fields(name: str) -> None:
    for step in variants(passes.make(name)):
        text = json.dumps(to_json(step, Pass), allow_nan=False)

        assert from_json(json.loads(text), Pass) == step
        assert Pipeline.from_json(text) == (step if isinstance(step, Pipeline) else Pipeline((step,)))


@pytest.mark.parametrize("name", RUNNING)
def test_a_pass_keeps_its_claim_and_leaves_its_input_alone(name: str) -> None:
    model, step = residual_net(), made(name)
    untouched = model.clone()

    result = Pipeline([step]).run(model, Context(data=data(), seed=3))

    assert diff(untouched, model) == ""
    if result.changed:
        stored = Pipeline.from_json(result.model.metadata[METADATA_KEY])
        assert stored == Pipeline([step])


@pytest.mark.parametrize("name", RUNNING)
def test_a_pass_does_the_same_thing_twice(name: str) -> None:
    one, two = (Pipeline([made(name)]).run(residual_net(), Context(data=data(), seed=3)) for _ in range(2))

    assert diff(one.model, two.model) == ""


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize("build", [custom_net, empty_net])
def test_a_pass_survives_what_it_cannot_change(name: str, build: "object") -> None:
    model = build()  # type: ignore[operator]
    try:
        result = Pipeline([made(name)]).run(model)
    except (
        BudgetError,
        InvalidConfig,
    ) as error:  # asked for more than there is: one clear line is the right answer
        assert isinstance(error, BudgetError) or name in LEARNS
        assert "\n" not in str(error)
        return

    assert [tensor.name for tensor in result.model.outputs] == [tensor.name for tensor in model.outputs]
    assert [node.op for node in result.model.nodes("Mystery")] == [node.op for node in model.nodes("Mystery")]
