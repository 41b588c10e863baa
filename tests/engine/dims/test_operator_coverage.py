"""Every operator of the installed onnx and of onnxruntime has a rule, one that refuses it with a reason included."""

import inspect

import numpy as np
import onnx.defs
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from graphrewrite import cost
from graphrewrite.cost.registry import RULES, UNCOUNTED
from graphrewrite.dims import groups, record, reference, rules, shrink
from graphrewrite.dims.rules import refused
from graphrewrite.ir import Builder
from graphrewrite.runtime import run_exact
from tests.support.oracles import run_all, worlds
from tests.support.tolerances import largest

# What onnxruntime files in the default domain is its own: experiments of old releases, other companies' plug-ins, and
# copies to and from devices, none of which a file of a model holds.
INTERNAL = {
    "Affine", "Crop", "DisentangledAttention_TRT", "DynamicSlice", "EfficientNMS_TRT", "GRUUnit", "GivenTensorFill",
    "ImageScaler", "MemcpyFromHost", "MemcpyToHost", "MultilevelCropAndResize_TRT", "ParametricSoftplus",
    "PyramidROIAlign_TRT", "Scale", "ScaledTanh",
}  # fmt: skip
# A layout that onnxruntime makes while it runs, and never writes to a file.
TRANSIENT = {"com.ms.internal.nhwc"}


def known_operators() -> set[tuple[str, str]]:
    """Return (domain, name) of every schema of onnx, old versions included, and of onnxruntime."""
    found = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history()}
    return found | {(schema.domain, schema.name) for schema in runtime.get_all_operator_schema()}


def test_every_operator_is_ruled_or_refused_with_a_reason() -> None:
    missing = {
        (domain, name)
        for domain, name in known_operators() - record.rules.keys()
        if domain not in TRANSIENT and not (domain == "" and name in INTERNAL)
    }
    assert missing == set()


def test_no_rule_is_misspelt() -> None:
    """The optimiser of earlier releases filed this one under another domain."""
    assert record.rules.keys() - known_operators() <= {("com.microsoft", "SimplifiedLayerNormalization")}


def test_what_is_internal_exists() -> None:
    """A name that no schema has would hide nothing and mean nothing."""
    assert {name for domain, name in known_operators() if domain == ""} >= INTERNAL


def test_every_operator_with_a_rule_of_its_own_is_counted() -> None:
    refusals = {key for key, rule in record.rules.items() if inspect.getmodule(rule) is refused}
    assert record.rules.keys() - RULES.keys() - UNCOUNTED.keys() - refusals == set()


def test_a_refused_operator_says_why() -> None:
    b = Builder()
    x = b.linear(b.input(["N", 4]), out=6, into=4, name="a")
    model = b.model(b.linear(b.op("CDist", x, x, domain="com.microsoft", metric="euclidean"), out=3, into=2))
    found = groups(model)

    assert "counted over all features" in " ".join(found.analysis.refused)


def test_a_norm_as_the_optimiser_writes_it_is_cut_and_counted() -> None:
    """SimplifiedLayerNormalization stands in the default domain, where onnx has no schema for it."""
    b = Builder()
    x = b.linear(b.input(["N", 4]), out=6, into=4, name="a")
    y = b.op("SimplifiedLayerNormalization", x, b.constant(np.ones(6, np.float32)), axis=-1)
    model = b.model(b.linear(y, out=3, into=6, name="b"))
    table = cost.of(model)

    assert (len(groups(model)), table.unknown) == (1, {})
    assert next(row.ops for row in table.nodes if row.op == "SimplifiedLayerNormalization") == 2 * 6 * 4
    assert run_all(model, worlds(model))


def test_the_rooms_of_rules_are_all_imported() -> None:
    assert {"along", "refused", "rotary"} <= set(rules.__all__)


@pytest.mark.parametrize(
    "name", ["Attention", "RotaryEmbedding", "RMSNormalization", "TensorScatter", "Swish", "SwiGLU"]
)
def test_the_newest_operators_are_followed(name: str) -> None:
    assert inspect.getmodule(record.rules["", name]) is not refused


def test_a_gated_product_that_no_runtime_here_knows_is_cut_rightly() -> None:
    """SwiGLU (opset 28) runs in onnx's own evaluator: both operands and their reader lose the same units."""
    b = Builder(opset=28)
    x = b.input([3, 4], "x")
    gate, value = (b.linear(x, out=6, into=4, name=name) for name in "gv")
    model = b.model(b.linear(b.op("SwiGLU", gate, value), out=3, into=6, name="last"))
    found = groups(model)
    (group,) = found
    dead = found.none_dead()
    dead[group.unit_ids[[1, 4]]] = True
    labels = found.dead_labels(dead)
    feeds = [{"x": np.random.default_rng(0).standard_normal((3, 4))}]

    (got,), (want,), (whole,) = (
        run_exact(each, feeds)
        for each in (shrink(found.analysis, labels).model, reference(found.analysis, labels)[0], model)
    )

    assert group.units == 6 and largest(got, want) < 1e-12 < 1e-3 < largest(whole, want)
