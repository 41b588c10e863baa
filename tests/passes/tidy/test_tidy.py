import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite import Context, Model, Pipeline
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder
from graphrewrite.match import Draft, RuleSet, rule
from graphrewrite.passes.tidy import Tidy
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.pipeline import compare, passes
from graphrewrite.runtime import run, sample_inputs
from tests.passes.tidy.cases import Case, floats, ints, names_of, operators, tidied, verify
from tests.support.expansion import expanded
from tests.support.graphs import random_model

# float32 through nets of random weights, with norms folded.
TOLERANCE = 1e-4


def residual(b: Builder) -> gs.Tensor:
    x = b.relu(b.batchnorm(b.conv(b.input(["N", 3, 8, 8]), 6, 3, bias=False), 6))
    y = b.relu(b.batchnorm(b.conv(x, 6, 6), 6))
    y = b.batchnorm(b.conv(y, 6, 6), 6)
    return b.linear(b.op("Flatten", b.op("GlobalAveragePool", b.relu(b.add(x, y)))), 4, 6)


def shuffle(b: Builder) -> gs.Tensor:
    """A channel shuffle as it is exported with a dynamic batch: every size computed."""
    x = b.input(["N", 6, 8, 8])
    sizes = [
        b.op("Gather", b.op("Shape", x), b.op("Constant", value=gs.Constant("", np.asarray(axis))))
        for axis in range(4)
    ]
    half = b.op("Div", sizes[1], b.op("Constant", value=gs.Constant("", np.asarray(2))))
    ends = [b.op("Unsqueeze", s, b.constant(ints(0))) for s in (*sizes, half)]
    split = b.op(
        "Reshape", x, b.op("Concat", ends[0], b.constant(ints(2)), ends[4], ends[2], ends[3], axis=0)
    )
    turned = b.op("Transpose", split, perm=[0, 2, 1, 3, 4])
    return b.op("Reshape", turned, b.op("Concat", ends[0], b.constant(ints(-1)), ends[2], ends[3], axis=0))


def attention(b: Builder) -> gs.Tensor:
    """Layer norm in arithmetic, scaled dot products, a Gelu: what a transformer block looks like when exported."""
    x = b.input(["N", 7, 12])
    centred = b.op("Sub", x, b.op("ReduceMean", x, axes=[-1]))
    variance = b.op("ReduceMean", b.op("Pow", centred, b.constant(np.float32(2))), axes=[-1])
    deviation = b.op("Sqrt", b.add(variance, b.constant(np.float32(1e-5))))
    normed = b.add(
        b.op("Mul", b.op("Div", centred, deviation), b.constant(floats(12))), b.constant(floats(12))
    )
    batch = b.op("Unsqueeze", b.op("Gather", b.op("Shape", x), b.constant(np.int64(0))), b.constant(ints(0)))

    def head(perm: list[int]) -> gs.Tensor:
        y = b.add(b.op("MatMul", normed, b.weight(12, 12)), b.constant(floats(12)))
        split = b.op("Reshape", y, b.op("Concat", batch, b.constant(ints(-1, 4, 3)), axis=0))
        return b.op("Transpose", split, perm=perm)

    q, k, v = head([0, 2, 1, 3]), head([0, 2, 3, 1]), head([0, 2, 1, 3])
    scores = b.op("Div", b.op("MatMul", q, k), b.op("Sqrt", b.constant(np.float32(3))))
    mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores), v), perm=[0, 2, 1, 3])
    return b.add(x, b.op("Reshape", mixed, b.op("Concat", batch, b.constant(ints(-1, 12)), axis=0)))


WHOLE = [
    Case("residual block", residual, "Add Conv Conv Conv Flatten Gemm GlobalAveragePool Relu Relu Relu"),
    Case("channel shuffle", shuffle, "Reshape Reshape Transpose"),
    Case(
        "attention",
        attention,
        "Add Add Add Add LayerNormalization MatMul MatMul MatMul MatMul MatMul "
        "Reshape Reshape Reshape Reshape Softmax Transpose Transpose Transpose Transpose",
    ),
]


@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_what_exporters_write_becomes_short(case: Case) -> None:
    verify(case, Tidy())


def test_batch_norms_can_be_kept() -> None:
    result = tidied(WHOLE[0].model(), Tidy(keep_batchnorm=True)).model
    assert names_of(result)["BatchNormalization"] == 3


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_compute_the_same(seed: int) -> None:
    random_graph_stays_the_same(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(60))
def test_many_random_graphs_compute_the_same(block: int) -> None:
    for seed in range(1000 + 20 * block, 1020 + 20 * block):
        random_graph_stays_the_same(seed)


def random_graph_stays_the_same(seed: int) -> None:
    sample = random_model(seed)
    step = Tidy(keep_batchnorm=seed % 5 == 0, fuse=seed % 7 != 0)
    outcome = step.run(sample.model.clone(), Context())
    for world in (0, 1):
        feeds = sample_inputs(expanded(sample.model), seed=seed, world=world)
        errors = compare(run(expanded(sample.model), feeds), run(expanded(outcome.model), feeds))
        assert max(errors.values()) <= TOLERANCE, (str(sample), errors)
    assert outcome.model.opsets == sample.model.opsets
    assert step.run(outcome.model.clone(), Context()).details["done"] == {}, str(sample)


def test_the_proof_notices_a_rule_that_is_wrong() -> None:
    @rule("Relu", name="wrong")
    def drop(draft: Draft, node: gs.Node) -> gs.Tensor:
        return draft.replace(node.outputs[0], node.inputs[0])

    model = WHOLE[0].model()
    broken = tidy(model.clone(), lambda: RuleSet.of(drop)).model
    feeds = sample_inputs(model, seed=0)
    assert max(compare(run(model, feeds), run(broken, feeds)).values()) > 100 * TOLERANCE


def test_custom_operators_and_what_touches_them_stay() -> None:
    b = Builder()
    x = b.input(["N", 4])
    y = b.op("Thing", b.op("Identity", x), domain="mine", name="thing")
    model = b.model(b.relu(b.op("Identity", y)))
    result = Tidy().run(model.clone(), Context()).model
    assert operators(result) == "Relu Thing"
    assert result.opsets == model.opsets


def test_a_body_may_read_what_is_tidied_outside() -> None:
    from tests.passes.tidy.test_inline_if import Branch, node, with_if

    one: Branch = ([node("Add", ["x", "x"], "inner")], ["inner"], {})
    model = with_if(None, one, ([node("Neg", ["x"], "out")], ["out"], {}))
    proto = model.to_proto()
    bodies = {attribute.name: attribute.g for attribute in proto.graph.node[0].attribute}
    bodies["then_branch"].node[0].input[1] = "hidden"
    first = node("Identity", ["x"], "hidden")
    rest = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([first, *rest])
    result = tidied(Model.from_proto(proto), Tidy()).model
    assert operators(result) == "Exp If"


def test_notes_say_what_was_done_and_what_was_left() -> None:
    b = Builder()
    x = b.input(["N", 3, 8, 8])
    y = b.conv(x, 4, 3)
    kept = b.batchnorm(y, 4, name="kept_norm")
    model = b.model(b.relu(b.batchnorm(b.conv(x, 4, 3), 4)), kept, y)
    outcome = tidied(model, Tidy())
    done = {note.subject: note.text for note in outcome.notes if note.kind == "done"}
    left = {note.subject: note.text for note in outcome.notes if note.kind == "skipped"}
    assert done["batch norm folded"].startswith("1: ")
    assert "other readers" in left["kept_norm"]
    assert isinstance(outcome.details["done"], dict) and outcome.details["done"]["batch norm folded"] == 1


def test_a_tidy_model_is_left_alone() -> None:
    model = tidied(WHOLE[0].model(), Tidy()).model
    outcome = tidied(model, Tidy())
    assert not outcome.changed


def test_it_runs_in_a_pipeline_that_checks_it() -> None:
    result = Pipeline((Tidy(),)).run(WHOLE[2].model())
    assert names_of(result.model)["LayerNormalization"] == 1


def test_every_pass_of_the_family_is_registered_and_harmless() -> None:
    names = [
        "absorb_constants",
        "drop_no_ops",
        "drop_unused",
        "drop_zero_states",
        "fold_batchnorm",
        "fold_constants",
    ]
    names += [
        "fuse_activations",
        "fuse_linear",
        "fuse_norms",
        "inline_if",
        "merge_duplicates",
        "merge_neighbours",
    ]
    for name in (*names, "simplify_shapes", "sink_scale", "tidy"):
        for case in WHOLE:
            tidied(case.model(), passes.make(name))


def test_an_impossible_limit_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="max_constant_bytes is -1"):
        Tidy(max_constant_bytes=-1)


def test_dead_nodes_and_unused_initializers_go() -> None:
    b = Builder()
    x = b.input([3])
    b.op("Exp", b.relu(x))
    b.constant(floats(3), "unused")
    outcome = tidied(b.model(b.op("Neg", x)), Tidy())
    assert operators(outcome.model) == "Neg" and not outcome.model.weights
    assert outcome.details["done"] == {"dead node": 2, "unused initializer": 1}


def test_the_declared_shape_of_what_stays_is_kept() -> None:
    case = Case("", lambda b: b.op("Identity", b.relu(b.input(["N", 3]))), "")
    model = case.model()
    model.outputs[0].shape = ["N", 3]
    result = tidied(model, Tidy()).model
    assert result.outputs[0].shape == ["N", 3]
