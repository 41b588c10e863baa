import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Builder, Model
from graphrewrite.match import Draft, Engine, Match, Op, PatternRule, Refusal, RuleSet, refuse, rule
from graphrewrite.match.pattern import Drawer


class DoubleNegation(PatternRule):
    name = "double negation"

    def find(self, p: Drawer) -> Op:
        return p.Neg(p.Neg(p.x).named("inner"))

    def where(self, m: Match) -> None:
        m.require(m.draft.feeds_only(m.node("inner").outputs[0], m.root), "the inner one is used elsewhere")

    def build(self, b: Draft, m: Match) -> gs.Tensor:
        return b.op("Identity", m.tensor("x"), like=m.root.outputs[0])


@rule("Identity", name="identity")
def identity(draft: Draft, node: gs.Node) -> bool:
    return draft.replace(node.outputs[0], node.inputs[0])


def apply(model: Model, rules: RuleSet, trace_all: bool = False) -> Engine:
    draft = Draft(model)
    engine = Engine(draft, rules, trace_all)
    engine.run()
    draft.close()
    return engine


def negations(count: int) -> Model:
    b = Builder()
    x = b.relu(b.input([3]))
    for index in range(count):
        x = b.op("Neg", x, name=f"n{index}")
    return b.model(b.relu(x))


def ops(model: Model) -> list[str]:
    return [node.op for node in model.graph.nodes]


def test_rules_run_until_nothing_changes() -> None:
    model = negations(7)
    engine = apply(model, RuleSet.of(DoubleNegation(), identity))
    assert ops(model) == ["Relu", "Neg", "Relu"]
    assert len(engine.trace.done["double negation"]) == 3 and not engine.trace.exhausted


def test_sets_add_up_and_keep_their_order() -> None:
    first, second = DoubleNegation(), identity
    both = RuleSet.of(first) + RuleSet.of(second) + RuleSet.of(first)
    assert [one.name for one in both.rules] == ["double negation", "identity"]
    assert [one.name for one in both.without("identity").rules] == ["double negation"]


def test_a_refusal_keeps_its_reason_until_the_match_goes_through() -> None:
    b = Builder()
    inner = b.op("Neg", b.input([3]), name="inner")
    model = b.model(b.op("Neg", inner, name="outer"), b.op("Exp", inner))
    engine = apply(model, RuleSet.of(DoubleNegation()))
    assert [(miss.rule, miss.node, miss.reason) for miss in engine.trace.misses] == [
        ("double negation", "outer", "the inner one is used elsewhere")
    ]
    assert apply(negations(4), RuleSet.of(DoubleNegation())).trace.misses == []


def test_a_full_trace_tells_every_near_miss() -> None:
    b = Builder()
    model = b.model(b.op("Neg", b.op("Abs", b.input([3])), name="outer"))
    assert apply(model.clone(), RuleSet.of(DoubleNegation())).trace.misses == []
    (miss,) = apply(model, RuleSet.of(DoubleNegation()), trace_all=True).trace.misses
    assert (miss.node, miss.reason) == ("outer", "wanted Neg, found Abs")


def test_rules_that_undo_each_other_are_stopped() -> None:
    @rule("Neg", name="there")
    def there(draft: Draft, node: gs.Node) -> bool:
        return draft.replace(node.outputs[0], draft.op("Abs", node.inputs[0], like=node.outputs[0]))

    @rule("Abs", name="back")
    def back(draft: Draft, node: gs.Node) -> bool:
        return draft.replace(node.outputs[0], draft.op("Neg", node.inputs[0], like=node.outputs[0]))

    engine = apply(negations(2), RuleSet.of(there, back))
    assert engine.trace.exhausted and engine.trace.count < 3000


def test_only_what_lies_near_a_change_is_looked_at_again() -> None:
    visits = []
    for length in (200, 400):
        model = negations(length)
        visits.append(apply(model, RuleSet.of(DoubleNegation(), identity)).trace.visits)
        assert len(ops(model)) == 2
    assert visits[1] <= 2.1 * visits[0] <= 2.1 * 200 * 5


def test_a_rule_fires_once_another_reader_is_gone() -> None:
    b = Builder()
    inner = b.op("Neg", b.relu(b.input([3])))
    late = b.op("Identity", b.op("Neg", inner))
    model = b.model(b.relu(b.op("Neg", inner)), b.relu(late))

    @rule("Neg", name="equal")
    def equal(draft: Draft, node: gs.Node) -> bool:
        twins = [user for user in draft.users(node.inputs[0]) if user.op == "Neg" and user is not node]
        return bool(twins) and draft.replace(node.outputs[0], twins[0].outputs[0])

    apply(model, RuleSet.of(DoubleNegation(), identity, equal))
    assert ops(model) == ["Relu", "Relu", "Relu"]


def test_a_rule_may_be_meant_for_some_operator_sets() -> None:
    @rule("Neg", name="new", opsets=range(18, 99))
    def new(draft: Draft, node: gs.Node) -> bool:
        return draft.replace(node.outputs[0], node.inputs[0])

    model = negations(1)  # operator set 17
    apply(model, RuleSet.of(new))
    assert ops(model) == ["Relu", "Neg", "Relu"]


def test_nodes_of_other_domains_only_meet_rules_for_everything() -> None:
    b = Builder()
    model = b.model(b.relu(b.op("Identity", b.input([3]), domain="mine")))
    seen = []

    @rule(name="watch")
    def watch(draft: Draft, node: gs.Node) -> bool:
        seen.append((node.domain, node.op))
        return False

    apply(model, RuleSet.of(identity, watch))
    assert ops(model) == ["Identity", "Relu"] and ("mine", "Identity") in seen


def test_a_function_may_refuse_in_two_ways() -> None:
    @rule("Neg", name="call")
    def call(draft: Draft, node: gs.Node) -> bool:
        refuse("because")
        return True

    @rule("Neg", name="hand back")
    def hand_back(draft: Draft, node: gs.Node) -> Refusal:
        return Refusal("therefore", node, near=True)

    reasons = {
        miss.rule: miss.reason for miss in apply(negations(1), RuleSet.of(call, hand_back)).trace.misses
    }
    assert reasons == {"call": "because", "hand back": "therefore"}


def _floats(m: Match, name: str) -> npt.NDArray[np.float32]:
    return m.array(name).astype(np.float32)


def test_the_example_of_the_guide() -> None:
    """A batch norm behind a convolution, as a rule of three short functions."""

    class FoldBatchNorm(PatternRule):
        opsets = range(7, 99)

        def find(self, p: Drawer) -> Op:
            conv = p.Conv(p.x, p.const("w"), ...).named("conv")
            return p.BatchNormalization(
                conv, p.const("gain"), p.const("offset"), p.const("mean"), p.const("variance")
            )

        def where(self, m: Match) -> None:
            m.require(m.draft.feeds_only(m.node("conv").outputs[0], m.root), "conv output is used elsewhere")

        def build(self, b: Draft, m: Match) -> gs.Tensor:
            scale = _floats(m, "gain") / np.sqrt(_floats(m, "variance") + 1e-5)
            weight = b.add_constant(
                (_floats(m, "w") * scale[:, None, None, None]).astype(np.float32), "folded"
            )
            bias = b.add_constant(
                (_floats(m, "offset") - _floats(m, "mean") * scale).astype(np.float32), "bias"
            )
            return b.op(
                "Conv", m.tensor("x"), weight, bias, like=m.root.outputs[0], attrs=m.node("conv").attrs
            )

    from tests.passes.tidy.cases import prove_same

    b = Builder()
    model = b.model(b.relu(b.batchnorm(b.conv(b.input([1, 3, 8, 8]), 4, 3, bias=False), 4)))
    changed = model.clone()
    engine = apply(changed, RuleSet.of(FoldBatchNorm()))
    assert ops(changed) == ["Conv", "Relu"] and engine.trace.count == 1
    prove_same(model, changed)


def test_running_again_follows_changes_made_in_between() -> None:
    model = negations(3)
    draft = Draft(model)
    engine = Engine(draft, RuleSet.of(DoubleNegation(), identity))
    assert engine.run() == 2
    (left,) = (node for node in draft.nodes() if node.op == "Neg")
    draft.anchor = left
    draft.replace(left.outputs[0], draft.op("Identity", left.inputs[0], like=left.outputs[0]))
    draft.settle()
    assert engine.run() == 1
    draft.close()
    assert ops(model) == ["Relu", "Relu"]


@pytest.mark.parametrize("value", [np.float32(2), np.asarray([2, 2, 2], np.float32)])
def test_a_number_may_be_spread_out(value: np.ndarray) -> None:
    class Halve(PatternRule):
        def find(self, p: Drawer) -> Op:
            return p.Div(p.x, p.number(2.0, "two"))

        def build(self, b: Draft, m: Match) -> gs.Tensor:
            assert m.number("two") == 2.0
            return b.op("Neg", m.tensor("x"), like=m.root.outputs[0])

    b = Builder()
    model = b.model(b.op("Div", b.input([3]), b.constant(value)))
    apply(model, RuleSet.of(Halve()))
    assert ops(model) == ["Neg"]
