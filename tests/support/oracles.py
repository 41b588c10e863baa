"""Oracles of channel removal: is a cut the function it claims to be, and does planted uselessness come out unharmed?

`removal` compares a cut with its reference: the original graph in its original index space, masked where positions mix.
`plant` zeroes the weights of random units, so that cutting them must leave every output alone; it uses no reference.
What is tied too much neither sees: for that there is `tests.support.exhaustive`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort

from graphrewrite.dims import Groups, groups, reference, shrink
from graphrewrite.dims.deaths import tables
from graphrewrite.ir import Model, constant_value, infer
from graphrewrite.ir.check import check
from graphrewrite.ir.widen import is_narrow, widen_feeds, widened
from graphrewrite.pipeline.rounding import Pair, judge
from graphrewrite.runtime.inputs import candidates
from graphrewrite.runtime.session import run_session, session
from tests.support.expansion import expanded
from tests.support.tolerances import FLOAT32, Array, largest

Mask = npt.NDArray[np.bool_]
Data = Callable[[int], list[dict[str, Array]]]

# Their results jump: a difference in the last bit of an input may become a whole step of the output.
STEPS = frozenset(
    {"Round", "Floor", "Ceil", "Sign", "QuantizeLinear", "TopK", "ArgMax", "ArgMin"}
    | {"Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal"}
)


@dataclass(frozen=True)
class Removal:
    """What one cut did: `error` against the reference, `moved` against the uncut model (how much the test can see)."""

    error: float
    moved: float
    cut: Model


def is_dynamic(model: Model) -> bool:
    return any(not isinstance(size, int) for tensor in model.inputs for size in tensor.shape or ())


def worlds(model: Model, seed: int = 0) -> list[dict[str, Array]]:
    """Return feeds: one set, or two of different sizes when any size is symbolic."""
    info = infer(model)
    return [next(candidates(model, seed, world, info)) for world in ((0, 1) if is_dynamic(model) else (0,))]


def run_all(model: Model, data: list[dict[str, Array]], extra: Sequence[str] = ()) -> list[dict[str, Array]]:
    """Run a model on several inputs, the graph as it stands; `extra` names tensors to return besides the outputs.

    Small models go to onnxruntime in one piece, without the files and staging of `graphrewrite.runtime`. Operators that
    it has no kernel for are written out first.
    """
    model = expanded(model)
    if sum(array.nbytes for array in model.weights.values()) > 1 << 24:
        started = session(model, threads=1, optimize=False, outputs=extra)
    else:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        proto = model.to_proto()
        declared = {output.name for output in proto.graph.output}
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra if name not in declared)
        started = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [run_session(started, feeds) for feeds in data]


def random_dead(found: Groups, rng: np.random.Generator, untouched: float = 0.3, least: int = 1) -> Mask:
    """Draw units to remove: every group its own share, some groups nothing, at least `least` units of each left."""
    dead = found.none_dead()
    for group in found:
        if rng.random() < untouched or group.units <= least:
            continue
        count = round(rng.random() * (group.units - least))
        dead[rng.permutation(group.unit_ids)[:count]] = True
    if found.analysis.balances and rng.random() < 0.5:
        dead |= random_deaths(found, rng)
    return found.balanced(dead)


def random_deaths(found: Groups, rng: np.random.Generator) -> Mask:
    """Draw whole groups of operators that keep equal counts, on all their sides, at least one of each left."""
    dead = np.append(found.none_dead(), False)  # the last entry stands for what is pinned
    dying: dict[tuple[int, int], npt.NDArray[np.bool_]] = {}
    for table in tables(found.structure):
        if table.node >= 0:
            if table.together not in dying:
                draws = rng.random(len(table.units))
                share = (
                    rng.random() if rng.random() < 0.6 else 0.0
                )  # what operators kill adds up along a chain
                dying[table.together] = draws < min(share, float(draws.max()))
            dead[table.units[dying[table.together]]] = True
    for group in found:  # nothing may be left without any unit
        if dead[group.unit_ids].all():
            dead[group.unit_ids] = False
    return dead[:-1]


def removal(model: Model, found: Groups, dead: Mask, feeds: list[dict[str, Array]] | None = None) -> Removal:
    """Cut, check the result as a model, run it beside the reference and the original."""
    labels = found.dead_labels(dead)
    cut = shrink(found.analysis, labels).model
    check(cut)
    slow = reference(found.analysis, labels)[0]
    data = feeds or worlds(model)
    if is_narrow(model):
        model, cut_wide, slow = widened(model), widened(cut), widened(slow)
        session(cut, optimize=False)  # it must load as it stands, too
        data = [widen_feeds(each) for each in data]
    else:
        cut_wide = cut
    error = moved = 0.0
    results = [run_all(each, data) for each in (cut_wide, slow, model)]
    for got, want, uncut in zip(*results, strict=True):
        error = max(error, largest(got, want))
        moved = max(moved, largest(want, uncut))
    return Removal(error, moved, cut)


def removal_error(model: Model, found: Groups, dead: Mask, data: Data | None = None) -> float:
    """Return the error of one cut, 0 when it is no more than rounding; `data(seed)` gives inputs.

    Rounding is large where a graph divides by what is nearly nothing (a norm over one kept member), and a step where it
    rounds. So when the error is above the tolerance, the pipeline's judge of rounding is asked. Where results jump by
    steps, other inputs have a second say.
    """
    feeds = data or (lambda seed: worlds(model, seed))
    result = removal(model, found, dead, feeds(0))
    error = result.error
    if error <= FLOAT32:
        return error
    if is_rounding(error, feeds(0), result.cut, reference(found.analysis, found.dead_labels(dead))[0]):
        return 0.0
    if any(node.op in STEPS for node in model.graph.nodes):
        error = min(error, removal(model, found, dead, feeds(1)).error)
    return error


def is_rounding(error: float, data: list[dict[str, Array]], cut: Model, slow: Model) -> bool:
    """Tell whether an error is the rounding of a model, by the judge that the pipeline's own proof asks."""
    if is_narrow(cut):
        data, cut, slow = [widen_feeds(each) for each in data], widened(cut), widened(slow)
    pair = Pair(expanded(slow), expanded(cut), data, threads=1)
    return judge(pair, {"": error}, FLOAT32).kind == "rounding"


# --------------------------------------------------------------------------------------------------- planted units


@dataclass(frozen=True)
class Planted:
    """A model with useless units: `found` is its own analysis, `dead` the units whose weights are zero."""

    model: Model
    found: Groups
    dead: Mask


def plant(model: Model, rng: np.random.Generator, share: float = 0.3) -> Planted | None:
    """Zero every float weight at the positions of random units that no statistic runs over; None when there is none.

    Units that some sum takes in without a weight of theirs (query and key dims behind a sigmoid) are not useless just
    because their weights are zero; the sums are looked at while the planted model runs, and such units are put back.
    A model that divides by what was zeroed (a remainder, a deviation) and returns no numbers has no useless units.
    """
    found = groups(model)
    chosen = _plantable(found, rng, share)
    while chosen.any():
        planted = _zeroed(model, found, chosen)
        loud = _loud(planted, found, chosen)
        if not loud.any():
            is_finite = all(
                np.isfinite(y).all() for world in run_all(planted, worlds(planted)) for y in world.values()
            )
            return Planted(planted, groups(planted), chosen) if is_finite else None
        chosen = chosen & ~loud
    return None


def scores(found: Groups) -> npt.NDArray[np.float64]:
    """Return the sum of |w| of everything that belongs to a unit, [units]; infinite for units without weights."""
    total = np.full(len(found.structure.units), np.inf)
    for group in found:
        parts = []
        for member in group.members:
            values = weight(found.analysis.model, member.use.name)
            if values.dtype.kind != "f":
                continue
            rows = np.moveaxis(np.abs(values.astype(np.float64)), member.axis, 0)[member.index]
            parts.append(rows.reshape(group.units, -1).sum(axis=1))
        if parts:
            total[group.unit_ids] = np.sum(parts, axis=0)
    return total


def weight(model: Model, name: str) -> Array:
    for node in model.graph.nodes:
        for tensor in (*node.inputs, *node.outputs):
            if tensor.name == name:
                value = constant_value(tensor)
                assert value is not None
                return value
    raise AssertionError(f"no weight {name}")


_SUMS = ("zero", "attention", "rnn", "quantized")


def _plantable(found: Groups, rng: np.random.Generator, share: float) -> Mask:
    allowed = np.isfinite(scores(found))
    mixes = [mix for mix in found.analysis.mixes if mix.kind not in _SUMS]
    statistics = [axis for mix in mixes for axis in mix.axes.values()]
    statistics += [mix.members.axis for mix in mixes if mix.members is not None]
    for axis in statistics:
        allowed &= ~_touches(found, found.structure.rows(found.structure.axis_id(axis)))
    for group in found:  # a unit that divides something, or that is quantised with a zero point, is not zero
        for member in group.members:
            for node, slot in member.use.sites:
                op = found.analysis.model.graph.nodes[node].op
                if (op == "Div" and slot == 1) or op in (
                    "DequantizeLinear",
                    "QuantizeLinear",
                    "Pow",
                    "Reciprocal",
                ):
                    allowed[group.unit_ids] = False
    dead = found.none_dead()
    for group in found:
        free = group.unit_ids[allowed[group.unit_ids]]
        dead[free[: group.units - 1][rng.random(len(free[: group.units - 1])) < share]] = True
    return dead


def _touches(found: Groups, table: npt.NDArray[np.int64]) -> Mask:
    return np.isin(found.structure.units, np.unique(table))


def _zeroed(model: Model, found: Groups, dead: Mask) -> Model:
    copy = model.clone()
    for group in found:
        ids = np.flatnonzero(dead[group.unit_ids])
        for member in group.members:
            values = weight(copy, member.use.name)
            if values.dtype.kind != "f" or not len(ids):
                continue
            values = values.copy()
            np.moveaxis(values, member.axis, 0)[member.index[ids].ravel()] = 0
            _store(copy, member.use.name, values)
    return copy


def _store(model: Model, name: str, values: Array) -> None:
    if name in model.weights:
        model.weights[name] = values
        return
    for node in model.graph.nodes:
        if node.op == "Constant" and node.outputs[0].name == name:
            node.attrs.clear()
            node.attrs["value"] = gs.Constant("", values)
            return
    raise AssertionError(f"no weight {name}")


def _loud(planted: Model, found: Groups, dead: Mask) -> Mask:
    """Return the units that some sum still hears: neither operand is zero at their positions."""
    analysis = found.analysis
    result = np.zeros(len(dead), dtype=bool)
    sums = [mix for mix in analysis.mixes if mix.kind in _SUMS]
    nodes = analysis.model.graph.nodes
    names = {t.name for mix in sums for t in nodes[mix.node].inputs if t.name and constant_value(t) is None}
    values = run_all(planted, worlds(planted)[:1], sorted(names))[0] | worlds(planted)[0]
    for mix in sums:
        for number, axis in mix.axes.items():
            table = found.structure.rows(found.structure.axis_id(axis))
            gone = np.asarray(np.isin(table, found.structure.units[dead]).any(axis=1))
            if not gone.any() or number < 0:
                continue
            node = nodes[mix.node]
            others = [slot for slot in range(len(node.inputs)) if (mix.node, slot) != (mix.node, mix.slot)]
            stored = any(
                (mix.node, slot, a) in analysis.contracted and constant_value(node.inputs[slot]) is not None
                for slot in others
                for a in range(5)
            )
            x = values.get(node.inputs[mix.slot].name)
            if stored or x is None:
                continue
            loud = gone & (np.abs(np.moveaxis(x, number, 0).reshape(len(gone), -1)).max(axis=1) > 0)
            result |= dead & _touches(found, table[loud])
    return result


def planted_error(planted: Planted) -> float:
    """Return how far cutting the useless units moves the outputs."""
    cut = shrink(planted.found.analysis, planted.found.dead_labels(planted.dead)).model
    data = worlds(planted.model)
    pairs = zip(run_all(cut, data), run_all(planted.model, data), strict=True)
    return max(largest(got, want) for got, want in pairs)
