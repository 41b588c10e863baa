"""Channel removal on random graphs: any set of units may go, and what is left is exactly the masked original.

Every graph is cut twice at random and once by a budget. The cut is a sound model, loads, equals the reference (at two
batch sizes where the batch is symbolic), comes out in the shapes it declares, and costs what was foretold. A failure is
shrunk, saved, and printed with the command that shows it again.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.dims import groups, reference, shrink
from graphrewrite.dims.axes import Axis, of_rows
from graphrewrite.dims.record import Balance, rules
from graphrewrite.dims.shrink import Cut
from graphrewrite.dims.step import Step
from graphrewrite.dims.structure import Part, Structure
from graphrewrite.ir import Model
from tests.support.blocks import blocks
from tests.support.graphs import Sample, random_model
from tests.support.minimise import minimise, report
from tests.support.oracles import plant, planted_error, random_dead, removal, run_all, scores, worlds
from tests.support.tolerances import FLOAT32, UNCHANGED, largest
from tests.support.verdict import model_faults

QUICK = range(0, 240, 10)
SLOW = range(1000, 6000, 25)


def demand(sample: Sample) -> None:
    """Fail with every fault of a sample, the first of them on a shrunken graph that can be run again by itself."""
    faults = model_faults(sample.model, sample.seed)
    if faults:
        text = "; ".join(str(fault) for fault in faults)
        pytest.fail(report(sample.model, sample.seed, faults[0].kind, f"{sample}: {text}"))


@pytest.mark.parametrize("first", QUICK, ids=lambda first: f"seeds-{first}-{first + 9}")
def test_every_cut_is_sound_and_foretold(first: int) -> None:
    for seed in range(first, first + 10):
        demand(random_model(seed))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", SLOW, ids=lambda first: f"seeds-{first}-{first + 24}")
def test_every_cut_is_sound_and_foretold_on_thousands(first: int) -> None:
    for seed in range(first, first + 25):
        demand(random_model(seed))


def test_the_graphs_use_every_block_and_the_cuts_can_be_seen() -> None:
    """A proof that compares two models that never changed proves nothing."""
    moved = cut = 0
    names: set[str] = set()
    for seed in range(60):
        sample = random_model(seed)
        found = groups(sample.model)
        dead = random_dead(found, np.random.default_rng([seed, 5]))
        cut += bool(dead.any())
        moved += removal(sample.model, found, dead).moved > 1e-3
    for seed in range(3 * len(blocks)):
        names.update(random_model(seed).names)
    assert cut > 50 and moved > 45
    assert names == set(blocks)


# ------------------------------------------------------------------------------------------------ planted units


@pytest.mark.parametrize("first", range(0, 120, 20), ids=lambda first: f"seeds-{first}-{first + 19}")
def test_useless_units_are_found_and_their_removal_changes_nothing(first: int) -> None:
    planted_somewhere = 0
    for seed in range(first, first + 20):
        sample = random_model(seed)
        planted = plant(sample.model, np.random.default_rng([seed, 9]))
        if planted is None:
            continue
        planted_somewhere += 1
        before, after = groups(sample.model), planted.found
        assert (before.structure.units == after.structure.units).all(), f"{sample}: values changed the groups"
        assert ((scores(after) == 0) == planted.dead).all(), (
            f"{sample}: the units of score 0 are not the planted ones"
        )
        dead = planted.found.balanced(planted.dead)
        if (dead == planted.dead).all():
            assert planted_error(planted) <= UNCHANGED, f"{sample}: a useless unit mattered"
    assert planted_somewhere > 10


# ------------------------------------------------------------------------------------------------ mutations


def red(seeds: range) -> Counter[str]:
    """Count the seeds with a fault of each kind in one random cut; a cut that raises has a kind of its own."""
    kinds: Counter[str] = Counter()
    for seed in seeds:
        model = random_model(seed).model
        if any(node.op == "DeformConv" for node in model.graph.nodes):
            continue  # whether what is off is rounding takes half a minute to tell: no kernel computes it in float64
        faults = model_faults(model, seed, cuts=1, budget=False)
        kinds.update({"raises" if fault.kind.startswith("raises") else fault.kind for fault in faults})
        kinds["any"] += bool(faults)
    return kinds


def forget_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Step, "tie", lambda self, a, b, why=None: None)


def forget_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Step, "restate", lambda self, needs, apply: None)


def forget_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Step, "pin", lambda self, axis, why: None)
    monkeypatch.setattr(Step, "pin_positions", lambda self, axis, positions, why: None)


def forget_mixing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Step, "mix", lambda self, kind, slot, axes: None)


def tie_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tie the first half of the positions only."""

    def tie(self: Step, a: Axis, b: Axis, why: str | None = None) -> None:
        if a.is_rigid or b.is_rigid or a.sizes != b.sizes or not a.is_static or a.sizes[0] < 2:
            original(self, a, b, why)
            return
        half = a.sizes[0] // 2
        original(self, of_rows(self.rows(a)[:half]), of_rows(self.rows(b)[:half]), why)

    original = Step.tie
    monkeypatch.setattr(Step, "tie", tie)


def count_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget that a product also grows with its last axis."""

    def macs(self: Step, coefficient: float, axes: list[Axis], shared: Balance | None = None) -> None:
        last = max(axes[-1].sizes[0], 1) if axes and axes[-1].is_static else 1
        original(self, coefficient * last, [*axes[:-1]] if axes and axes[-1].is_static else axes, shared)

    original = Step.macs
    monkeypatch.setattr(Step, "macs", macs)


def count_no_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the parameters that vectors hold."""

    def terms(self: Structure) -> list[Part]:
        return [term for term in original(self) if len(term.axes) != 1]

    original = Structure._weight_terms
    monkeypatch.setattr(Structure, "_weight_terms", terms)


def one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write one more than is kept into the shape a Reshape is given."""

    def target(self: Cut, node: int, slot: int, out: list[Axis]) -> None:
        original(self, node, slot, out)
        stored = self.nodes[node].inputs[slot]
        if isinstance(stored, gs.Constant):
            stored.values = np.where(stored.values > 1, stored.values + 1, stored.values)

    original = Cut.set_target
    monkeypatch.setattr(Cut, "set_target", target)


def declare_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the declared shapes as they were."""
    monkeypatch.setattr("graphrewrite.dims.redeclare._tensors", lambda cut: None)


@pytest.mark.parametrize(
    ("fault", "kind", "least"),
    [
        (forget_ties, "any", 20),
        (tie_half, "any", 12),
        (forget_numbers, "any", 10),
        (one_too_many, "raises", 5),
        (forget_pins, "any", 3),
        (forget_mixing, "differs", 15),
        (count_half, "macs", 20),
        (count_no_bias, "params", 15),
        (declare_nothing_new, "declared shape", 2),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_fault_in_the_rules_shows(
    fault: Callable[[pytest.MonkeyPatch], None], kind: str, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    assert red(range(30))[kind] >= least


def test_cutting_other_units_than_claimed_shows() -> None:
    """Compare the cut of one set with the reference of another."""
    seen = tried = 0
    for seed in range(20):
        model = random_model(seed).model
        found = groups(model)
        dead = random_dead(found, np.random.default_rng([seed, 5]))
        alive = [g for g in found if 0 < dead[g.unit_ids].sum() < g.units]
        if not alive:
            continue
        other = dead.copy()
        ids = alive[0].unit_ids
        other[ids[dead[ids]][0]], other[ids[~dead[ids]][0]] = False, True
        if (found.balanced(other) != other).any():
            continue
        cut = shrink(found.analysis, found.dead_labels(dead)).model
        slow = reference(found.analysis, found.dead_labels(other))[0]
        feeds = worlds(model)[:1]
        tried += 1
        seen += largest(run_all(cut, feeds)[0], run_all(slow, feeds)[0]) > FLOAT32
    assert tried > 12 and seen >= tried - 2


def test_a_planted_unit_that_is_not_useless_shows() -> None:
    """Cut one unit more than was planted."""
    seen = tried = 0
    for seed in range(20):
        planted = plant(random_model(seed).model, np.random.default_rng([seed, 9]))
        if planted is None:
            continue
        spare = [g for g in planted.found if (~planted.dead[g.unit_ids]).sum() > 1]
        if not spare:
            continue
        more = planted.dead.copy()
        more[spare[0].unit_ids[~planted.dead[spare[0].unit_ids]][0]] = True
        if (planted.found.balanced(more) != more).any():
            continue
        tried += 1
        seen += planted_error(type(planted)(planted.model, planted.found, more)) > UNCHANGED
    assert tried > 8 and seen >= tried - 2


def test_a_failure_is_shrunk_to_the_node_that_causes_it() -> None:
    """One kind of node is singled out among dozens."""
    sample = next(
        s
        for s in map(random_model, range(300))
        if _ops(s.model)["BatchNormalization"] and len(s.model.graph.nodes) > 20
    )

    small = minimise(sample.model, lambda model: _ops(model)["BatchNormalization"] > 0)

    assert _ops(small) == {"BatchNormalization": 1}
    assert run_all(small, worlds(small))


def test_a_planted_defect_is_reported_small_and_the_command_shows_it_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Concat whose parts come out in the wrong order is a wrong number in the cut model; the report ends in one."""
    from tests.support import again

    def join(s: Step) -> None:
        original(s)
        out = s.analysis.env[s.node.outputs[0].name]
        assert out is not None
        axis = s.integer("axis", 0) % len(out)
        if not out[axis].is_rigid and out[axis].is_static:
            s.out([of_rows(s.rows(a)[::-1]) if i == axis else a for i, a in enumerate(out)])

    original = rules["", "Concat"]
    monkeypatch.setitem(rules, ("", "Concat"), join)
    sample, faults = next(
        (s, faults)
        for s in map(random_model, range(300))
        if _ops(s.model)["Concat"] and len(s.model.graph.nodes) > 25
        if (faults := model_faults(s.model, s.seed))
    )

    text = report(sample.model, sample.seed, faults[0].kind, str(sample), tmp_path)

    saved = next(tmp_path.glob("*.onnx"))
    small = Model.load(saved)
    assert _ops(small)["Concat"] and sum(_ops(small).values()) <= 8
    assert f"python -m tests.support.again {saved} {sample.seed}" in text
    monkeypatch.setattr("sys.argv", ["again", str(saved), str(sample.seed)])
    assert again.main() == 1
    assert f"{faults[0].kind}: " in capsys.readouterr().out
    monkeypatch.undo()
    assert not model_faults(small, sample.seed)


def _ops(model: Model) -> Counter[str]:
    return Counter(node.op for node in model.graph.nodes if node.op != "Constant")
